"""A database that another process keeps locked: waited for, then said so, and never given up by a heartbeat."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.errors import StoreBusy
from inhouse.jobs import queue
from inhouse.settings import Settings
from inhouse.store import db as db_module
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import projects
from inhouse.worker.main import Worker
from tests.queued import submitted
from tests.server.house import House, house

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the write lock until the block ends, or its standard input does."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def upload(made: House) -> httpx2.Response:
    return made.client().post(
        "/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("f.jsonl", b'{"input":"a","output":"b"}\n')},
    )


@pytest.mark.parametrize("guarded", [True, False])
def test_a_locked_database_is_a_503_that_says_when_to_try_again(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 10: reads go on, writes wait and then get 503; without the translation (the control) they get 500."""
    monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 0.5)
    if not guarded:
        monkeypatch.setattr(db_module, "_translate", lambda error: None)
    with house(tmp_path) as made:
        assert upload(made).status_code == 200
        assert made.db.file is not None
        with locked(made.db.file):
            began = time.monotonic()
            refused = upload(made)
            assert time.monotonic() - began >= 0.4, "it waited"
            if not guarded:
                assert refused.status_code == 500, "the harm: our own fault, and nothing to wait for"
                return
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "database_unavailable"
            assert int(refused.headers["retry-after"]) >= 1
            assert len(made.client().get("/v1/files").json()["data"]) == 1
        assert upload(made).status_code == 200


def test_a_lock_that_is_given_back_in_time_is_only_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 10: nobody hears of a lock that lasts shorter than the patience for it."""
    monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 20.0)
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")
    migrate(db)
    assert db.file is not None
    with locked(db.file) as holder:
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        with db.write() as conn:
            projects.ensure(conn, "later", 1.0)
    with db.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["later"]
    db.dispose()


def test_a_locked_sqlite_file_is_busy_and_then_works_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 10: in the store itself."""
    monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 0.2)
    db = Database(sqlite_url)
    migrate(db)
    assert db.file is not None
    with locked(db.file):
        with pytest.raises(StoreBusy) as caught, db.write():
            pass
        assert caught.value.status == 503 and caught.value.retry_after_s is not None
        with db.read() as conn:
            assert projects.all(conn) == []
    with db.write() as conn:
        projects.ensure(conn, "later", 1.0)
    db.dispose()


@pytest.mark.parametrize("guarded", [True, False])
def test_heartbeats_are_tried_again_until_the_lease_ends(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 10: a worker keeps its job's process through a lock; one that gives up at once (the control) kills it."""
    monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 0.2)
    settings = Settings(data_dir=tmp_path, lease_s=60)
    db = Database(settings.database)
    migrate(db)
    job = submitted(db)
    worker = Worker(settings, db)
    worker.turn()
    child = worker.children[job.id]
    child.process.send_signal(19)  # SIGSTOP: whatever it does is not the point here
    before = lease_until(db, job.id)
    if not guarded:
        monkeypatch.setattr(queue, "heartbeat", no_answer_is_no(queue.heartbeat))
    assert db.file is not None
    with locked(db.file):
        child.renew_at = 0.0
        worker._renew()
        assert (job.id in worker.children) == guarded
        assert (child.process.poll() is None) == guarded, "the harm: a job's process dies of a lock"
    if guarded:
        assert child.renew_at < time.monotonic() + settings.lease_s / 3, "tried again soon"
        child.renew_at = 0.0
        worker._renew()
        assert lease_until(db, job.id) > before
        child.kill()
    db.dispose()


def no_answer_is_no(ask: Callable[..., bool]) -> Callable[..., bool]:
    """A heartbeat that takes no answer for the answer that the job is another's."""

    def asked(*arguments: Any) -> bool:
        try:
            return ask(*arguments)
        except StoreBusy:
            return False

    return asked


def lease_until(db: Database, id: str) -> float:
    with db.read() as conn:
        return float(conn.exec_driver_sql(f"SELECT lease_until FROM jobs WHERE id = '{id}'").scalar_one())
