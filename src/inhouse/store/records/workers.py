"""Workers that are there: each notes itself now and then, with what has gone wrong on it. It knows no job.

A row is no lease: whether a job is somebody's is decided by its fence alone. It is for people and for readiness.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.store.db import upsert
from inhouse.store.tables import workers

GONE = ""
"""The row that keeps the counts of workers whose rows were dropped."""
KEPT_S = 24 * 3600.0
"""How long a worker that fell silent is still told of."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as it noted itself."""

    id: str
    started_at: float
    seen_at: float
    leases_lost: int
    """Jobs that it ran and that passed to another worker before it was done."""
    processes_died: int
    """Jobs' processes that ended badly."""
    fenced: str = ""
    """Why it takes no more jobs, and what to do; empty: it takes some."""


def note(conn: sa.Connection, row: WorkerRow) -> None:
    """The worker is there. Those silent for KEPT_S are dropped; what they counted stays counted."""
    values = {name: getattr(row, name) for name in WorkerRow.__slots__}
    conn.execute(
        upsert(conn, workers).values(**values).on_conflict_do_update(index_elements=["id"], set_=values)
    )
    silent = sa.and_(workers.c.id != GONE, workers.c.seen_at < row.seen_at - KEPT_S)
    for old in conn.execute(workers.delete().where(silent).returning(workers)).all():
        _keep_counts(conn, WorkerRow(**old._mapping))


def leave(conn: sa.Connection, row: WorkerRow) -> None:
    """The worker ends in good order."""
    conn.execute(workers.delete().where(workers.c.id == row.id))
    _keep_counts(conn, row)


def all(conn: sa.Connection) -> list[WorkerRow]:
    """Every worker, those that fell silent too, and the counts of the gone."""
    return [WorkerRow(**row._mapping) for row in conn.execute(sa.select(workers).order_by(workers.c.id))]


def _keep_counts(conn: sa.Connection, old: WorkerRow) -> None:
    counts = {"leases_lost": old.leases_lost, "processes_died": old.processes_died}
    fresh = upsert(conn, workers).values(id=GONE, started_at=0.0, seen_at=0.0, fenced="", **counts)
    added = {name: workers.c[name] + count for name, count in counts.items()}
    conn.execute(fresh.on_conflict_do_update(index_elements=["id"], set_=added))
