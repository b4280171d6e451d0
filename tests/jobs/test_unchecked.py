"""A job's files are checked by one server at a time, and by another once that one is silent."""

from __future__ import annotations

import pytest

from inhouse.errors import LeaseLost
from inhouse.jobs import unchecked
from inhouse.schema import Job
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import jobs

LONG_S = 60.0
OVER_S = -1.0


def submit(db: Database, state: str = "validating_files") -> str:
    job = Job(id=ids.new("ftjob"), project="a", kind="tune", state=state, spec={}, created_at=1.0)  # type: ignore[arg-type]
    with db.write() as conn:
        jobs.add(conn, job)
    return job.id


def test_jobs_are_claimed_in_their_order_and_each_once(db: Database) -> None:
    submit(db, "queued")
    first, second = submit(db), submit(db)
    found = [unchecked.claim(db, LONG_S) for _ in range(3)]
    assert [job and job.id for job in found] == [first, second, None]


def test_a_silent_server_s_job_is_another_s_and_it_may_settle_nothing(db: Database) -> None:
    id = submit(db)
    late = unchecked.claim(db, OVER_S)
    ours = unchecked.claim(db, LONG_S)
    assert late is not None and ours is not None and late.id == ours.id == id
    with pytest.raises(LeaseLost):
        unchecked.renew(db, late, LONG_S)
    with pytest.raises(LeaseLost), db.write() as conn:
        unchecked.require(conn, late)
    unchecked.renew(db, ours, LONG_S)
    with db.write() as conn:
        unchecked.require(conn, ours)
        jobs.set_validated(conn, id, True, None, 3.0)
    with pytest.raises(LeaseLost), db.write() as conn:
        unchecked.require(conn, ours)


def test_a_cancelled_job_is_nobody_s_to_settle(db: Database) -> None:
    id = submit(db)
    ours = unchecked.claim(db, LONG_S)
    assert ours is not None
    with db.write() as conn:
        jobs.cancel(conn, "a", id, 2.0)
    with pytest.raises(LeaseLost), db.write() as conn:
        unchecked.require(conn, ours)
    assert unchecked.claim(db, LONG_S) is None


def test_a_job_that_is_kept_up_stays_its_server_s(db: Database) -> None:
    submit(db)
    ours = unchecked.claim(db, OVER_S)
    assert ours is not None
    unchecked.renew(db, ours, LONG_S)
    assert unchecked.claim(db, LONG_S) is None
