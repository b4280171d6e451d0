"""Claims, and the one condition that every write of a worker carries: it still owns what it works at.

A worker is known by (job, fence), never by its name. A claim, a cancellation and a takeover each move the
fence on, and from that moment whoever holds the old number can write nothing, however late it wakes. Batches and
deliveries are claimed as jobs are: any table is that has a `fence` and a `lease_until`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from inhouse.errors import LeaseLost
from inhouse.settings import LONGEST_LEASE_S
from inhouse.store.db import lease_now
from inhouse.store.tables import jobs


def held(job_id: str, fence: int, state: str = "running") -> sa.ColumnElement[bool]:
    """True of the job's row while this fence is the current one and the job runs, or is in the `state`."""
    return sa.and_(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == state)


def claim(
    conn: sa.Connection,
    table: sa.Table,
    candidates: sa.Select[Any],
    lease_s: float,
    *,
    returning: Sequence[sa.ColumnElement[Any]],
    **values: Any,
) -> sa.Row[Any] | None:
    """The first of the `candidates`, now ours, with these `values`; None: there is none.

    `candidates` selects one column, by which the table's rows are told apart, of an alias of the table. Rows that
    another transaction holds are passed over.
    """
    (own,) = candidates.selected_columns
    first = candidates.limit(1).with_for_update(skip_locked=True).scalar_subquery()
    taken = {"fence": table.c.fence + 1, "lease_until": lease_end(conn, lease_s)}
    claiming = table.update().where(table.c[own.name] == first).values(**taken, **values)
    return conn.execute(claiming.returning(*returning)).first()


def lease_end(conn: sa.Connection, lease_s: float) -> sa.ColumnElement[float]:
    """When a lease is over that begins now."""
    return lease_now(conn) + lease_s


def is_live(conn: sa.Connection, row: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """True of what somebody works at who has been heard of within the lease.

    A lease that ends later than any may was written by another clock: before the machine was started anew, or
    before PostgreSQL's was set back. It counts as over, or its row would be stuck until then.
    """
    clock = lease_now(conn)
    return sa.and_(row["lease_until"] >= clock, row["lease_until"] <= clock + LONGEST_LEASE_S)


def is_free(conn: sa.Connection, row: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """True of what nobody works at, or somebody who fell silent."""
    return sa.or_(row["lease_until"].is_(None), sa.not_(is_live(conn, row)))


def require(conn: sa.Connection, job_id: str, fence: int, state: str = "running") -> None:
    """Raise LeaseLost unless the fence holds, and keep it from moving until the transaction ends."""
    ours = held(job_id, fence, state)
    if conn.execute(sa.select(jobs.c.id).where(ours).with_for_update()).first() is None:
        raise lost(job_id, fence)


def lost(job_id: str, fence: int) -> LeaseLost:
    """The error for a write that came too late."""
    return LeaseLost(f"{job_id} is no longer ours: fence {fence} was passed, or the job has ended.")
