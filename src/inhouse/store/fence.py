"""The one condition that every write of a worker carries: it still owns the job.

A worker is known by (job, fence), never by its name. A claim, a cancellation and a takeover each move the
fence on, and from that moment whoever holds the old number can write nothing, however late it wakes.
"""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.errors import LeaseLost
from inhouse.store.tables import jobs


def held(job_id: str, fence: int) -> sa.ColumnElement[bool]:
    """True of the job's row while this fence is the current one and the job runs."""
    return sa.and_(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == "running")


def require(conn: sa.Connection, job_id: str, fence: int) -> None:
    """Raise LeaseLost unless the fence holds, and keep it from moving until the transaction ends."""
    if conn.execute(sa.select(jobs.c.id).where(held(job_id, fence)).with_for_update()).first() is None:
        raise lost(job_id, fence)


def lost(job_id: str, fence: int) -> LeaseLost:
    """The error for a write that came too late."""
    return LeaseLost(f"{job_id} is no longer ours: fence {fence} was passed, or the job has ended.")
