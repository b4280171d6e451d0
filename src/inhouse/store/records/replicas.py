"""Running engines: which base each holds and where it listens. Each lives and dies with its serve job."""

from __future__ import annotations

import builtins
from typing import Any

import sqlalchemy as sa

from inhouse.schema import Replica
from inhouse.store import fence
from inhouse.store.db import upsert
from inhouse.store.tables import jobs, replicas

_columns = [replicas.c[name] for name in Replica.model_fields]


def put(conn: sa.Connection, replica: Replica, now: float) -> None:
    """Announce an engine, or its new state. Raises LeaseLost when its job's fence has moved on."""
    fence.require(conn, replica.job, replica.fence)
    values = {**replica.model_dump(), "updated_at": now}
    conn.execute(
        upsert(conn, replicas).values(**values).on_conflict_do_update(index_elements=["job"], set_=values)
    )


def ready_for(conn: sa.Connection, base: str) -> builtins.list[Replica]:
    """Engines that hold this base and can answer now: the job runs, by the same fence, with a live lease."""
    query = _alive(conn).where(replicas.c.base == base, replicas.c.ready)
    return [Replica(**row._mapping) for row in conn.execute(query)]


def alive(conn: sa.Connection) -> builtins.list[Replica]:
    """Engines of any base whose job runs, by the same fence, with a live lease; starting ones too."""
    return [Replica(**row._mapping) for row in conn.execute(_alive(conn))]


def drop(conn: sa.Connection, job: str) -> None:
    """Forget a job's engine, if it announced one."""
    conn.execute(replicas.delete().where(replicas.c.job == job))


def all(conn: sa.Connection) -> builtins.list[Replica]:
    """Every engine that was announced and not dropped, dead ones too."""
    return [Replica(**row._mapping) for row in conn.execute(sa.select(*_columns).order_by(replicas.c.job))]


def _alive(conn: sa.Connection) -> sa.Select[Any]:
    return (
        sa.select(*_columns)
        .join(jobs, jobs.c.id == replicas.c.job)
        .where(
            jobs.c.state == "running",
            jobs.c.fence == replicas.c.fence,
            fence.is_live(conn, jobs.c),
        )
        .order_by(replicas.c.job)
    )
