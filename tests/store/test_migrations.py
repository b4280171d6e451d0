"""The schema comes up to date as a whole, or stays as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.errors import InvalidRequest
from inhouse.store.db import Database
from inhouse.store.migrations import NEWEST, VERSIONS, migrate, require_current, revision_of
from inhouse.store.records import projects
from inhouse.store.tables import metadata
from tests.store.revisions import ADD_COLUMN, NEXT, next_release


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
    assert migrate(db) == NEWEST
    with db.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["kept"]


def test_an_sqlite_file_is_backed_up_before_its_schema_changes(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    backups = tmp_path / "backups"
    migrate(db, backups)
    assert not backups.exists(), "an empty database needs no backup"
    with db.write() as conn:
        projects.ensure(conn, "kept", 1.0)
    assert migrate(db, backups, folders=next_release(tmp_path / "next", ADD_COLUMN)) == NEXT
    db.dispose()
    (backup,) = backups.iterdir()
    restored = tmp_path / "restored.db"
    shutil.copy(backup, restored)
    old = Database(f"sqlite:///{restored}")
    assert migrate(old) == NEWEST
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


@pytest.mark.parametrize("revision", [file.name[:4] for file in sorted(VERSIONS.glob("0*.py"))])
def test_a_database_from_before_alembic_is_taken_over_at_its_own_revision(
    database_url: str, tmp_path: Path, revision: str
) -> None:
    db = Database(database_url)
    migrate(db, to=revision)
    with db.write() as conn:  # as that release left it
        conn.exec_driver_sql("DROP TABLE alembic_version")
        conn.exec_driver_sql("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        conn.exec_driver_sql(f"INSERT INTO schema_version (version) VALUES ({int(revision)})")
        conn.exec_driver_sql("INSERT INTO projects (id, name, created_at) VALUES ('proj_1', 'kept', 1.0)")
    assert migrate(db, tmp_path / "backups") == NEWEST
    with db.read() as conn:
        assert revision_of(conn) == NEWEST
        assert not sa.inspect(conn).has_table("schema_version")
        assert [p.name for p in projects.all(conn)] == ["kept"]
        require_current(conn)
    db.dispose()


def test_each_revision_follows_the_one_before_and_has_a_file_of_its_own() -> None:
    numbers = [file.name[:4] for file in sorted(VERSIONS.glob("0*.py"))]
    assert numbers == [f"{n:04d}" for n in range(1, len(numbers) + 1)]
    assert numbers[-1] == NEWEST


def test_a_database_behind_this_release_is_told_from_one_of_it(db: Database, database_url: str) -> None:
    with db.read() as conn:
        require_current(conn)
    with db.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    with db.read() as conn, pytest.raises(InvalidRequest, match="has schema 0001") as caught:
        require_current(conn)
    assert caught.value.code == "older_schema"


def test_alembic_is_imported_only_when_there_is_something_to_change(sqlite_url: str) -> None:
    code = (
        "import sys; from inhouse.store.db import Database; from inhouse.store.migrations import migrate; "
        f"migrate(Database({sqlite_url!r})); print('alembic' in sys.modules)"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert answers == ["True", "False"]
