"""The worker's own duties, with real child processes over a real database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.jobs import queue
from inhouse.schema import Job
from inhouse.settings import Settings
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import jobs as records
from inhouse.store.records import projects
from inhouse.store.tables import jobs
from inhouse.worker.main import Worker
from inhouse.worker.room import sweep_scratch


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, lease_s=30)


@pytest.fixture
def store(settings: Settings) -> Iterator[Database]:
    db = Database(settings.database)
    migrate(db)
    with db.write() as conn:
        projects.ensure(conn, "default", db.clock(conn))
    yield db
    db.dispose()


def submitted(db: Database) -> Job:
    job = Job(
        id=ids.new("ftjob"),
        project="default",
        kind="tune",
        state="queued",
        spec={"base": "none", "training": "0" * 64},
        created_at=time.time(),
    )
    queue.submit(db, job)
    return job


def test_a_lease_that_lapsed_unnoticed_never_leaves_two_processes_of_one_job(
    settings: Settings, store: Database
) -> None:
    """As after a suspend: the database's clock ran on, the worker's did not."""
    job = submitted(store)
    worker = Worker(Settings(data_dir=settings.data_dir, lease_s=30, tune_slots=2), store)
    worker.turn()
    first = worker.children[job.id].process
    with store.write() as conn:
        conn.execute(sa.update(jobs).values(lease_until=0.0))
    worker.turn()
    assert first.poll() is not None, "the first process still runs"
    second = worker.children[job.id]
    assert second.process.pid != first.pid and second.job.fence == 2
    second.kill()


def test_a_cancelled_jobs_process_is_killed_and_its_folder_removed(
    settings: Settings, store: Database
) -> None:
    job = submitted(store)
    worker = Worker(settings, store)
    worker.turn()
    child = worker.children[job.id]
    (settings.scratch_dir / job.id).mkdir(parents=True, exist_ok=True)
    with store.write() as conn:
        records.cancel(conn, "default", job.id, time.time())
    child.renew_at = 0.0
    worker.turn()
    assert child.process.poll() is not None
    assert not (settings.scratch_dir / job.id).exists()
    assert not worker.children


def test_folders_of_jobs_that_are_under_way_stay(settings: Settings, store: Database) -> None:
    job = submitted(store)
    for name in (job.id, "ftjob-nobody-knows"):
        (settings.scratch_dir / name).mkdir(parents=True)
    sweep_scratch(store, settings.scratch_dir)
    assert [f.name for f in settings.scratch_dir.iterdir()] == [job.id]


def test_a_worker_started_by_a_service_manager_stays_and_one_whose_parent_went_ends(
    settings: Settings, store: Database
) -> None:
    environment = {**os.environ, **settings.environment()}
    command = [sys.executable, "-m", "inhouse.worker"]
    alone = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=environment, stderr=subprocess.PIPE, text=True
    )
    owned = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, stderr=subprocess.DEVNULL)
    assert owned.stdin is not None and alone.stderr is not None
    assert "is ready" in alone.stderr.readline()  # from here on it ends in good order when it is told to
    owned.stdin.close()  # what the kernel does when the parent dies
    try:
        assert owned.wait(20) == 0
        assert alone.poll() is None
    finally:
        alone.terminate()
        alone.communicate(timeout=20)
        assert alone.returncode == 0
