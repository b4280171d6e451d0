"""Jobs whose files are yet to be checked: claimed by one server at a time, as running ones are by workers.

A server that dies at a check leaves it to the next. It knows no file and no row.
"""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.schema import Job
from inhouse.store import fence as fences
from inhouse.store.db import Database
from inhouse.store.records import jobs as records
from inhouse.store.tables import jobs

STATE = "validating_files"


def claim(db: Database, lease_s: float) -> Job | None:
    """The oldest that nobody checks, now ours; else None."""
    candidates = jobs.alias("candidates")
    with db.read() as conn:
        if conn.execute(_free(conn, candidates).limit(1)).first() is None:
            return None
    with db.write() as conn:
        row = fences.claim(conn, jobs, _free(conn, candidates), lease_s, returning=records.columns)
    return None if row is None else records.from_row(row)


def renew(db: Database, job: Job, lease_s: float) -> None:
    """Extend the lease. Raises LeaseLost."""
    with db.write() as conn:
        require(conn, job)
        conn.execute(
            jobs.update().where(jobs.c.id == job.id).values(lease_until=fences.lease_end(conn, lease_s))
        )


def require(conn: sa.Connection, job: Job) -> None:
    """Raise LeaseLost unless the job is ours to settle, and keep it so until the transaction ends."""
    fences.require(conn, job.id, job.fence, STATE)


def _free(conn: sa.Connection, candidates: sa.FromClause) -> sa.Select[tuple[str]]:
    is_free = sa.and_(candidates.c.state == STATE, fences.is_free(conn, candidates.c))
    return sa.select(candidates.c.id).where(is_free).order_by(candidates.c.seq)
