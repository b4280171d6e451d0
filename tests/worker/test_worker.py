"""The worker's own duties, with real child processes over a real database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.jobs import queue
from inhouse.schema import JobKind
from inhouse.settings import Settings
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import jobs as records
from inhouse.store.records import projects
from inhouse.store.tables import jobs
from inhouse.worker import main as worker_module
from inhouse.worker.children import Child
from inhouse.worker.main import Worker
from inhouse.worker.room import sweep_scratch
from tests.queued import submitted


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


def test_a_job_that_was_put_down_is_no_lost_lease_and_one_that_passed_on_is(
    settings: Settings, store: Database
) -> None:
    for is_put_down in (True, False):
        submitted(store)
        job = queue.claim(store, "w", ["tune"], 30)
        assert job is not None
        if is_put_down:
            with store.write() as conn:
                records.pause(conn, "default", job.id, time.time())
            assert queue.put_down(store, job.id, job.fence, "Paused.")
        else:
            with store.write() as conn:
                conn.execute(sa.update(jobs).where(jobs.c.id == job.id).values(lease_until=0.0))
            assert queue.claim(store, "another", ["tune"], 30) is not None
        worker = Worker(settings, store)
        process = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
        worker.children[job.id] = Child(job, process, 0.0, worker._clock() + 30)
        worker._renew()
        assert process.poll() is not None
        assert worker._leases_lost == (0 if is_put_down else 1)


@pytest.mark.parametrize(("kind", "ends_well"), [("serve", True), ("tune", False)])
def test_an_engine_may_drain_before_its_worker_kills_it(
    kind: JobKind, ends_well: bool, settings: Settings, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STOP_GRACE_S", 0.2)
    worker = Worker(replace(settings, drain_s=20.0), store)
    drains = (
        "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(1), sys.exit(0))); "
        "print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", drains], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    job = submitted(store).model_copy(update={"kind": kind})
    worker.children[job.id] = Child(job, process, 0.0, worker._clock() + 30)
    worker._give_back()
    assert (process.returncode == 0) is ends_well
