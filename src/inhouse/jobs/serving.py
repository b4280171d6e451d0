"""Asking for a replica: a serve job for a base, unless one is on its way. It knows no engine, no socket."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from inhouse.errors import ModelLoading
from inhouse.schema import Job, JobFault, ServeSpec
from inhouse.store import ids
from inhouse.store.db import Database, clock, lock
from inhouse.store.records import jobs as records
from inhouse.store.records import replicas
from inhouse.store.tables import NO_PROJECT, jobs

COOL_DOWN_S = 10.0
"""A base that has just failed to load is not tried again for this long."""


def ensure_replica(db: Database, base: str) -> None:
    """Queue a serve job for the base unless one is queued or running.

    The job belongs to no project: no tenant lists or cancels it. Right after a replica of this base has
    failed it raises ModelLoading instead, with the reason and when to retry.
    """
    with db.read() as conn:
        if _is_on_its_way(conn, base):
            return
    with db.write() as conn:
        lock(conn, f"serve:{base}")
        if _is_on_its_way(conn, base):
            return
        created_at = clock(conn)
        _refuse_if_just_failed(conn, base, created_at)
        spec = ServeSpec(base=base).model_dump()
        id = ids.new("job")
        records.add(
            conn,
            Job(id=id, project=NO_PROJECT, kind="serve", state="queued", spec=spec, created_at=created_at),
        )


def standing(conn: sa.Connection, base: str) -> Literal["ready", "loading", "resting"]:
    """Whether a base answers, is on its way to, or waits to be asked for."""
    if replicas.ready_for(conn, base):
        return "ready"
    return "loading" if _is_on_its_way(conn, base) else "resting"


def last_fault(conn: sa.Connection, base: str) -> JobFault | None:
    """Why the newest attempt to load a base has failed; None where it has not."""
    query = sa.select(jobs.c.state, jobs.c.error).where(_serves(base))
    last = conn.execute(query.order_by(jobs.c.seq.desc()).limit(1)).first()
    if last is None or last.state != "failed":
        return None
    return JobFault(**last.error) if last.error else JobFault(code="failed", message="It gave no reason.")


def _is_on_its_way(conn: sa.Connection, base: str) -> bool:
    query = sa.select(jobs.c.id).where(_serves(base), jobs.c.state.in_(("queued", "running")))
    return conn.execute(query.limit(1)).first() is not None


def _refuse_if_just_failed(conn: sa.Connection, base: str, time_s: float) -> None:
    query = sa.select(jobs.c.state, jobs.c.finished_at, jobs.c.error).where(_serves(base))
    last = conn.execute(query.order_by(jobs.c.seq.desc()).limit(1)).first()
    if last is None or last.state != "failed" or time_s - last.finished_at >= COOL_DOWN_S:
        return
    fault = JobFault(**last.error) if last.error else JobFault(code="failed", message="It gave no reason.")
    raise ModelLoading(
        f"{base} could not be loaded: {fault.message} It is tried again when asked for a little later.",
        retry_after_s=COOL_DOWN_S,
    )


def _serves(base: str) -> sa.ColumnElement[bool]:
    return sa.and_(jobs.c.kind == "serve", jobs.c.spec["base"].as_string() == base)
