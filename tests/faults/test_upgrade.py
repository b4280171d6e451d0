"""Upgrades: a schema changes as a whole or not at all, and whoever does not know it keeps away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.errors import InvalidRequest, LeaseLost
from inhouse.jobs import queue
from inhouse.schema import Job
from inhouse.settings import Settings
from inhouse.store import migrations
from inhouse.store.db import Database
from inhouse.store.migrations import NEWEST, migrate
from inhouse.store.records import jobs as records
from inhouse.store.records import projects
from inhouse.worker import main as worker_main
from inhouse.worker.ends import OTHER_RELEASE
from inhouse.worker.main import Worker
from tests.queued import submitted
from tests.store.revisions import ADD_COLUMN, ADD_TABLE, FAIL, NEXT, next_release

COMMIT = 'conn.exec_driver_sql("COMMIT")'


def columns(db: Database, table: str) -> list[str]:
    with db.read() as conn:
        return [column["name"] for column in sa.inspect(conn).get_columns(table)]


def test_a_newer_schema_is_refused_and_left_alone(db: Database, tmp_path: Path) -> None:
    """Fault 37: the server of an older release finds a database that a newer one wrote."""
    migrate(db, folders=next_release(tmp_path / "next", ADD_COLUMN))
    with pytest.raises(InvalidRequest) as caught:
        migrate(db)
    assert caught.value.code == "newer_schema"
    assert "colour" in columns(db, "projects")


def test_a_migration_cut_half_way_leaves_the_old_schema_and_the_next_try_works(
    db: Database, tmp_path: Path
) -> None:
    """Fault 37: a migration fails after its first statements."""
    with db.write() as conn:
        projects.ensure(conn, "kept", 1.0)
    with pytest.raises(KeyError):
        migrate(db, folders=next_release(tmp_path / "cut", ADD_COLUMN, ADD_TABLE, FAIL))
    assert "colour" not in columns(db, "projects")
    with db.read() as conn:
        assert not sa.inspect(conn).has_table("colours")
    assert migrate(db) == NEWEST
    assert migrate(db, folders=next_release(tmp_path / "next", ADD_COLUMN)) == NEXT
    with db.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["kept"]


def test_without_one_transaction_a_cut_migration_leaves_half_a_schema_control(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Fault 37, control: the same cut, each statement committed by itself."""
    db = Database(sqlite_url)
    migrate(db)
    with pytest.raises(KeyError):
        migrate(db, folders=next_release(tmp_path / "cut", COMMIT, ADD_COLUMN, ADD_TABLE, FAIL))
    assert "colour" in columns(db, "projects")
    db.dispose()


def job_of(db: Database, id: str) -> Job:
    with db.read() as conn:
        return records.get(conn, None, id)


def test_an_old_worker_leaves_a_newer_database_alone(database_url: str, tmp_path: Path) -> None:
    """Fault 37: the schema changes under a worker that runs; it ends, and has claimed nothing."""
    db = Database(database_url)
    migrate(db)
    worker = Worker(Settings(data_dir=tmp_path), db)
    worker.turn()
    migrate(db, folders=next_release(tmp_path / "next", ADD_COLUMN))
    job = submitted(db)
    for goes_on in (worker.turn, worker.run):
        with pytest.raises(InvalidRequest, match="a newer one wrote it"):
            goes_on()
    assert (job_of(db, job.id).state, job_of(db, job.id).fence) == ("queued", 0)
    db.dispose()


def test_without_the_check_an_old_worker_takes_jobs_of_a_newer_database_control(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 37, control: a worker that does not look at the schema claims, and starts a process."""
    monkeypatch.setattr(worker_main, "require_current", lambda conn: None)
    worker = Worker(Settings(data_dir=tmp_path), db)
    migrate(db, folders=next_release(tmp_path / "next", ADD_COLUMN))
    job = submitted(db)
    worker.turn()
    assert job_of(db, job.id).state == "running"
    worker.children[job.id].kill()


@pytest.mark.parametrize("guarded", [True, False])
def test_what_ran_when_the_schema_changed_publishes_nothing_into_it(
    db: Database, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 37: a job's old process is still at work after the upgrade; its control leaves its fence where it was."""
    job = submitted(db)
    claimed = queue.claim(db, "old", ["tune"], 60.0)
    assert claimed is not None
    if not guarded:
        monkeypatch.setattr(migrations, "take_running_work_back", lambda conn: None)
    migrate(db, folders=next_release(tmp_path / "next", ADD_COLUMN))
    if guarded:
        with pytest.raises(LeaseLost):
            queue.finish(db, job.id, claimed.fence, "succeeded")
        found = job_of(db, job.id)
        assert (found.state, found.attempts) == ("queued", 0), "it waits for a new worker, no attempt lost"
    else:
        queue.finish(db, job.id, claimed.fence, "succeeded")
        assert job_of(db, job.id).state == "succeeded", "the harm: the old code wrote into the new schema"


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[tuple[Settings, Database]]:
    """A data folder that a newer release has upgraded."""
    settings = Settings(data_dir=tmp_path / "data")
    db = Database(settings.database)
    migrate(db)
    submitted(db)
    migrate(db, folders=next_release(tmp_path / "next", ADD_COLUMN))
    yield settings, db
    db.dispose()


def test_programs_of_the_release_before_say_so_and_end(newer: tuple[Settings, Database]) -> None:
    """Fault 37: server, worker and a job's process of this release, each started on a newer database."""
    settings, db = newer
    claimed = queue.claim(db, "old", ["tune"], 60.0)
    assert claimed is not None
    environment = {**os.environ, **settings.environment()}
    programs = {
        "inhouse.server": (["--port", "0"], 1),
        "inhouse.worker": ([], 1),
        "inhouse.worker.child": ([claimed.id, str(claimed.fence)], OTHER_RELEASE),
    }
    for program, (arguments, code) in programs.items():
        done = subprocess.run(
            [sys.executable, "-m", program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, (program, done.stderr)
        assert f"The database has schema {NEXT}" in done.stderr, program
    assert job_of(db, claimed.id).state == "running"


def test_a_worker_whose_job_finds_another_release_gives_it_back_and_ends(
    db: Database, tmp_path: Path
) -> None:
    """Fault 37: the files on disk, from which a job's process starts, are of another release than the database."""
    settings = Settings(data_dir=tmp_path, database_url=db_url(db))
    job = submitted(db)
    worker = Worker(settings, db)
    worker.turn()
    with db.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert worker.children[job.id].process.wait(60) == OTHER_RELEASE
    worker._reap()
    worker._settle()
    assert (job_of(db, job.id).state, job_of(db, job.id).attempts) == ("queued", 0), "no attempt of the job's"
    assert worker._stopping.is_set()


def db_url(db: Database) -> str:
    return db._writer.url.render_as_string(hide_password=False)
