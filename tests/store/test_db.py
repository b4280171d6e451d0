"""What both databases promise, and what only one of them needs."""

from __future__ import annotations

import gc
import signal
import threading
import time

import pytest
import sqlalchemy as sa

from inhouse.errors import Conflict, InvalidRequest, StoreBusy
from inhouse.store import db as db_module
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import projects
from inhouse.store.tables import projects as projects_table
from tests.postgres import Cluster


def names(db: Database) -> list[str]:
    with db.read() as conn:
        return [project.name for project in projects.all(conn)]


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    with pytest.raises(KeyError), db.write() as conn:
        projects.ensure(conn, "half", 1.0)
        raise KeyError
    assert names(db) == []


def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError), db.read() as conn:
        projects.ensure(conn, "sneaky", 1.0)
    assert names(db) == []
    with db.write() as conn:
        projects.ensure(conn, "proper", 1.0)
    assert names(db) == ["proper"]


def test_a_reader_does_not_wait_for_a_writer(db: Database) -> None:
    with db.write() as conn:
        projects.ensure(conn, "unfinished", 1.0)
        assert names(db) == []
    assert names(db) == ["unfinished"]


def test_the_clock_tells_unix_seconds(db: Database) -> None:
    with db.read() as conn:
        assert abs(db.clock(conn) - time.time()) < 60
        assert abs(float(conn.execute(sa.select(db_module.now(conn))).scalar_one()) - time.time()) < 60


def test_a_duplicate_is_a_conflict(db: Database) -> None:
    row = {"id": "proj_1", "name": "twice", "created_at": 1.0}
    with pytest.raises(Conflict), db.write() as conn:
        conn.execute(projects_table.insert(), [row, {**row, "id": "proj_2"}])


def test_text_that_the_database_cannot_hold_is_refused(db: Database) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"), db.write() as conn:
        projects.ensure(conn, "lone \ud800", 1.0)


def test_a_nul_that_postgres_cannot_hold_is_refused(postgres_url: str) -> None:
    db = Database(postgres_url)
    migrate(db)
    with pytest.raises(InvalidRequest, match="NUL"), db.write() as conn:
        projects.ensure(conn, "nul \x00", 1.0)
    db.dispose()


def test_eight_threads_lose_no_write(db: Database) -> None:
    def add(thread: int) -> None:
        for i in range(10):
            with db.write() as conn:
                projects.ensure(conn, f"{thread}-{i}", 1.0)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(db)) == 80


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "not a url"])
def test_a_url_that_names_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Database(url)
    assert caught.value.param == "database_url"


def test_a_password_never_shows_in_an_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Database("mysql://user:canary@host/name")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN"])
def test_reading_before_writing_succeeds_only_in_an_immediate_transaction(
    sqlite_url: str, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard is IMMEDIATE: deferred, the second transaction's snapshot is stale once it wants to write."""
    monkeypatch.setattr(db_module, "SQLITE_WRITE", begin)
    first, second = Database(sqlite_url), Database(sqlite_url)
    migrate(first)
    has_read, may_write = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def reads_then_writes() -> None:
        try:
            with first.write() as conn:
                projects.all(conn)
                has_read.set()
                may_write.wait(1.0)
                projects.ensure(conn, "first", 1.0)
        except StoreBusy as e:
            failures.append(e)

    thread = threading.Thread(target=reads_then_writes)
    thread.start()
    assert has_read.wait(5)
    with second.write() as conn:
        projects.ensure(conn, "second", 2.0)
    may_write.set()
    thread.join()
    assert len(failures) == (0 if begin == "BEGIN IMMEDIATE" else 1)
    assert sorted(names(first)) == (["first", "second"] if begin == "BEGIN IMMEDIATE" else ["second"])
    first.dispose()
    second.dispose()


def test_sqlite_is_in_wal_and_syncs_every_commit(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    for transaction in (db.write, db.read):
        with transaction() as conn:
            assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert conn.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    db.dispose()


def test_many_processes_may_open_a_new_sqlite_file_at_once(sqlite_url: str) -> None:
    databases = [Database(sqlite_url) for _ in range(8)]
    failures: list[StoreBusy] = []

    def open_it(db: Database) -> None:
        try:
            migrate(db)
        except StoreBusy as e:
            failures.append(e)

    threads = [threading.Thread(target=open_it, args=(db,)) for db in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for db in databases:
        db.dispose()
    assert failures == []


def test_a_postgres_that_died_is_busy_and_then_works_again(postgres: Cluster, postgres_url: str) -> None:
    db = Database(postgres_url)
    migrate(db)
    with pytest.raises(StoreBusy), db.write() as conn:
        projects.ensure(conn, "unfinished", 1.0)
        postgres.stop(signal.SIGQUIT)
        projects.all(conn)
    with pytest.raises(StoreBusy), db.read():
        pass
    postgres.start()
    assert names(db) == []
    with db.write() as conn:
        projects.ensure(conn, "later", 1.0)
    assert names(db) == ["later"]
    db.dispose()


def test_a_database_that_nobody_holds_any_more_leaves_no_connection_open(postgres_url: str) -> None:
    db = Database(postgres_url)
    with db.read() as conn:
        conn.execute(sa.text("SELECT 1"))
    del db, conn
    gc.collect()  # an open connection that goes warns, and warnings are errors
