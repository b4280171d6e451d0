"""The one condition that every write of a worker carries: it still owns the job.

A worker is known by (job, fence), never by its name. A claim, a cancellation and a takeover each move the
fence on, and from that moment whoever holds the old number can write nothing, however late it wakes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inhouse.errors import LeaseLost
from inhouse.settings import LONGEST_LEASE_S
from inhouse.store.db import lease_now
from inhouse.store.tables import jobs


def held(job_id: str, fence: int) -> sa.ColumnElement[bool]:
    """True of the job's row while this fence is the current one and the job runs."""
    return sa.and_(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == "running")


def is_live(conn: sa.Connection, job: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """True of a job whose worker has been heard of within its lease.

    A lease that ends later than any may was written by another clock: before the machine was started anew, or
    before PostgreSQL's was set back. It counts as over, or its job would be stuck until then.
    """
    clock = lease_now(conn)
    return sa.and_(job["lease_until"] >= clock, job["lease_until"] <= clock + LONGEST_LEASE_S)


def require(conn: sa.Connection, job_id: str, fence: int) -> None:
    """Raise LeaseLost unless the fence holds, and keep it from moving until the transaction ends."""
    if conn.execute(sa.select(jobs.c.id).where(held(job_id, fence)).with_for_update()).first() is None:
        raise lost(job_id, fence)


def lost(job_id: str, fence: int) -> LeaseLost:
    """The error for a write that came too late."""
    return LeaseLost(f"{job_id} is no longer ours: fence {fence} was passed, or the job has ended.")
