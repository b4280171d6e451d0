"""The schema comes up to date as a whole, or stays as it was."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.errors import InvalidRequest
from inhouse.store.db import Database
from inhouse.store.migrations import MIGRATIONS, migrate
from inhouse.store.records import projects
from inhouse.store.tables import metadata


def add_column(conn: sa.Connection) -> None:
    conn.exec_driver_sql("ALTER TABLE projects ADD COLUMN colour TEXT")


def add_column_then_fail(conn: sa.Connection) -> None:
    add_column(conn)
    conn.exec_driver_sql("CREATE TABLE colours (name TEXT)")
    raise KeyError("cut half-way")


def columns(db: Database, table: str) -> list[str]:
    with db.read() as conn:
        return [column["name"] for column in sa.inspect(conn).get_columns(table)]


def test_the_tables_are_what_the_migrations_make(db: Database) -> None:
    with db.read() as conn:
        found = sa.inspect(conn)
        assert set(found.get_table_names()) - {"sqlite_sequence"} == set(metadata.tables)
        for table in metadata.tables.values():
            made = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            seen = {column.name: column.nullable for column in table.columns}
            # SQLite reports a counting key as nullable, which it never is
            assert {**made, "seq": False} == {**seen, "seq": False}, table.name
            made_indexes = {
                (i["name"], tuple(i["column_names"]), bool(i["unique"]))
                for i in found.get_indexes(table.name)
                if "duplicates_constraint" not in i
            }
            seen_indexes = {(i.name, tuple(c.name for c in i.columns), bool(i.unique)) for i in table.indexes}
            assert made_indexes == seen_indexes, table.name
            made_unique = {tuple(u["column_names"]) for u in found.get_unique_constraints(table.name)}
            assert made_unique == {(c.name,) for c in table.columns if c.unique}, table.name


def test_migrating_twice_changes_nothing(db: Database) -> None:
    with db.write() as conn:
        projects.ensure(conn, "kept", 1.0)
    assert migrate(db) == len(MIGRATIONS)
    with db.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["kept"]


def test_a_newer_schema_is_refused_and_left_alone(db: Database) -> None:
    migrate(db, migrations=[*MIGRATIONS, add_column])
    with pytest.raises(InvalidRequest) as caught:
        migrate(db)
    assert caught.value.code == "newer_schema"
    assert "colour" in columns(db, "projects")


def test_a_migration_cut_half_way_leaves_the_old_schema_and_the_next_try_works(db: Database) -> None:
    with db.write() as conn:
        projects.ensure(conn, "kept", 1.0)
    with pytest.raises(KeyError):
        migrate(db, migrations=[*MIGRATIONS, add_column_then_fail])
    assert "colour" not in columns(db, "projects")
    with db.read() as conn:
        assert not sa.inspect(conn).has_table("colours")
    assert migrate(db) == len(MIGRATIONS)
    assert migrate(db, migrations=[*MIGRATIONS, add_column]) == len(MIGRATIONS) + 1
    with db.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["kept"]


def test_without_one_transaction_a_cut_migration_leaves_half_a_schema(sqlite_url: str) -> None:
    """The control of the test above: the same cut, each statement committed by itself."""
    db = Database(sqlite_url)
    migrate(db)

    def autocommitting(conn: sa.Connection) -> None:
        conn.exec_driver_sql("COMMIT")
        add_column_then_fail(conn)

    with pytest.raises(KeyError):
        migrate(db, migrations=[*MIGRATIONS, autocommitting])
    assert "colour" in columns(db, "projects")
    db.dispose()


def test_an_sqlite_file_is_backed_up_before_its_schema_changes(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    backups = tmp_path / "backups"
    migrate(db, backups)
    assert not backups.exists(), "an empty database needs no backup"
    with db.write() as conn:
        projects.ensure(conn, "kept", 1.0)
    migrate(db, backups, migrations=[*MIGRATIONS, add_column])
    db.dispose()
    (backup,) = backups.iterdir()
    restored = tmp_path / "restored.db"
    shutil.copy(backup, restored)
    old = Database(f"sqlite:///{restored}")
    assert migrate(old) == len(MIGRATIONS)
    assert "colour" not in columns(old, "projects")
    with old.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["kept"]
    old.dispose()


def test_four_servers_that_start_at_once_migrate_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    threads = [threading.Thread(target=migrate, args=(db,)) for db in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "secret_hash" in columns(databases[0], "keys")
    for db in databases:
        db.dispose()
