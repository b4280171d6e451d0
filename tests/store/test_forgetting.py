"""What deleted rows leave behind is cleared, on both databases, or said not to be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.schema import File, Job, ModelCard
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, facts, files, forgetting, jobs, models
from inhouse.store.tables import fact_changes

from .test_facts import BANK, a_bank, add, ask, bank

__all__ = ["bank"]


def churn_and_forget(db: Database, clear: Callable[[], object]) -> list[str]:
    """Forgets facts whose rows were moved about by edits; returns the words of theirs still on disk."""
    assert db.file is not None
    with db.write() as conn:
        banks.add(conn, a_bank())
        made = facts.add_many(
            conn,
            BANK,
            [ask(f"n {i}", f"canary-{i:04}-" + "x" * (i % 90)) for i in range(600)],
            author="a",
            now=1.0,
        )
        for step in range(1200):
            fact = made[step * 7 % 600]
            answer = f"canary-{step * 7 % 600:04}-" + "y" * (step * 37 % 900)
            facts.edit(conn, BANK, fact.id, {"answer": answer}, author="a", now=1.0)
    with db.write() as conn:
        for fact in made[::3]:
            facts.forget(conn, BANK, fact.id, author="a", now=2.0)
    clear()
    on_disk = b"".join(path.read_bytes() for path in db.file.parent.iterdir() if path.is_file())
    kept = [i for i in range(600) if i % 3]
    assert all(f"canary-{i:04}".encode() in on_disk for i in kept), "the search finds what is there"
    return [word for i in range(0, 600, 3) if (word := f"canary-{i:04}").encode() in on_disk]


def test_a_scrub_leaves_no_byte_of_what_was_forgotten(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    migrate(db)
    assert churn_and_forget(db, lambda: db.scrub(["facts"])) == []
    db.dispose()


def test_control_an_empty_log_alone_leaves_bytes_of_moved_rows(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    migrate(db)

    def only_truncate() -> None:
        with closing(sqlite3.connect(db.file)) as other:  # type: ignore[arg-type]
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert churn_and_forget(db, only_truncate) != []
    db.dispose()


def postgres_bytes(url: str) -> bytes:
    """Every file of the database, as the server last wrote it."""
    db = Database(url)
    with db.write() as conn:
        conn.exec_driver_sql("CHECKPOINT")
        folder = Path(conn.exec_driver_sql("SHOW data_directory").scalar_one())
        oid = conn.exec_driver_sql(
            "SELECT oid FROM pg_database WHERE datname = current_database()"
        ).scalar_one()
    db.dispose()
    return b"".join(path.read_bytes() for path in (folder / "base" / str(oid)).iterdir() if path.is_file())


@pytest.mark.parametrize("is_full", [True, False])
def test_a_scrub_leaves_no_byte_in_the_tables_of_postgresql(postgres_url: str, is_full: bool) -> None:
    db = Database(postgres_url)
    migrate(db)
    with db.write() as conn:
        banks.add(conn, a_bank())
        made, _ = facts.add_many(conn, BANK, [ask("canary-gone"), ask("canary-kept")], author="a", now=1.0)
    with db.write() as conn:
        facts.forget(conn, BANK, made.id, author="a", now=2.0)
    if is_full:
        assert db.scrub(forgetting.TABLES) is True
    found = postgres_bytes(postgres_url)
    assert b"canary-kept" in found, "the search finds what is there"
    assert (b"canary-gone" in found) is not is_full, "control: without it the bytes stay"
    db.dispose()


def test_a_scrub_of_postgresql_beside_an_old_transaction_says_that_it_is_not_done(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.store.db.SCRUB_S", 0.2)
    db = Database(postgres_url)
    migrate(db)
    with db.write() as conn:
        banks.add(conn, a_bank())
    with db.write() as old:
        old.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.exec_driver_sql("SELECT 1")
        with db.write() as conn:
            banks.bump(conn, BANK)  # the older transaction may still see the row before this
        assert db.scrub(["facts"]) is False
    assert db.scrub(["facts"]) is True
    db.dispose()


def test_a_scrub_works_on_both_databases_and_leaves_the_rest(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("kept"))
    assert db.scrub(["facts", "fact_changes", "fact_experts", "idempotency"]) is True
    with db.write() as conn:
        assert list(facts.every(conn, bank)) == [made]
        assert conn.execute(sa.select(sa.func.count()).select_from(fact_changes)).scalar() == 1


def test_a_scrub_beside_an_open_reader_says_that_the_log_is_not_empty(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("inhouse.store.db.SCRUB_S", 0.2)
    db = Database(sqlite_url)
    migrate(db)
    with db.read() as conn:
        conn.exec_driver_sql("SELECT * FROM banks").all()
        with db.write() as writer:
            banks.add(writer, a_bank())
        assert db.scrub(["facts"]) is False
    assert db.scrub(["facts"]) is True
    db.dispose()


def test_forgetting_finds_the_content_of_an_upload_whose_row_is_gone(db: Database, bank: str) -> None:
    digest = "d" * 64

    def a_file(id: str, project: str = "default") -> File:
        return File(id=id, project=project, filename="f", purpose="p", bytes=1, digest=digest, created_at=1.0)

    with db.write() as conn:
        spec = {"training": digest, "request": {"training_file": "file-gone"}}
        jobs.add(
            conn,
            Job(id="job-m", project="default", kind="tune", state="succeeded", spec=spec, created_at=1.0),
        )
        card = ModelCard(
            name="ft:m",
            project="default",
            kind="memory",
            base="seedling",
            job="job-m",
            created_at=1.0,
            about={"bank": bank},
        )
        models.add(conn, card)
        (one, two) = facts.add_many(conn, bank, [ask("1"), ask("2")], author="a", now=1.0, file="file-gone")
        (own,) = facts.add_many(conn, bank, [ask("3")], author="a", now=1.0)
        assert facts.forget(conn, bank, own.id, author="a", now=2.0).digests == (), "control: not from it"
        files.add(conn, a_file("file-theirs", "other"))
        assert facts.forget(conn, bank, one.id, author="a", now=2.0).digests == (), "another project has it"
        files.delete(conn, "other", "file-theirs")
        files.add(conn, a_file("file-again"))
        gone = facts.forget(conn, bank, two.id, author="a", now=2.0)
        assert (gone.files, gone.digests) == (("file-again",), (digest,))
        banks.add(conn, a_bank(id="bank-x", files=("file-gone",)))
        models.add(conn, card.model_copy(update={"name": "ft:x", "about": {"bank": "bank-x"}}))
        assert banks.delete(conn, "bank-x").digests == (digest,)


def test_each_forgetting_is_due_until_a_clearing_that_began_after_it(db: Database, bank: str) -> None:
    one, _ = add(db, bank, ask("one"))
    two, _ = add(db, bank, ask("two"))
    with db.write() as conn:
        facts.forget(conn, bank, one.id, author="a", now=2.0)
        before = forgetting.due(conn)
        facts.forget(conn, bank, two.id, author="a", now=2.0)
        forgetting.cleared(conn, before)
        (left,) = forgetting.due(conn)
        assert forgetting.is_of_database(left) and left not in before
        assert not forgetting.is_of_database("d" * 64)
