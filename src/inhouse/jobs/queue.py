"""The queue: claim, keep alive, checkpoint, end. Work happens at least once, publication exactly once.

A claim adds one to the job's fence, and every later write of the worker is conditional on it (`store.fence`).
Leases are read off a clock that nobody sets (`store.db.lease_now`). A job that its owner has paused is nobody's to
claim. It knows no kind of job from another, and runs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import sqlalchemy as sa

from inhouse.jobs.placement import Waiting
from inhouse.schema import TERMINAL_STATES, Job, JobFault, JobKind
from inhouse.store import fence as fences
from inhouse.store.db import Database, lease_now, now
from inhouse.store.records import jobs as records
from inhouse.store.records import webhooks
from inhouse.store.tables import jobs

MAX_ATTEMPTS = 3
"""A job whose workers died this often in a row, none leaving a newer checkpoint, is failed as crashed."""


def submit(db: Database, job: Job) -> None:
    """Put a job into the store in a transaction of its own."""
    with db.write() as conn:
        records.add(conn, job)


def claim(db: Database, worker_id: str, kinds: Sequence[JobKind], lease_s: float) -> Job | None:
    """The oldest job of these kinds that waits, or whose worker fell silent, now ours; else None."""
    if not kinds:
        return None
    with db.write() as conn:
        _put_back_paused(conn)
        _fail_crashed(conn)
        candidates = jobs.alias("candidates")
        oldest = (
            sa.select(candidates.c.id)
            .where(candidates.c.kind.in_(kinds), _is_waiting(conn, candidates.c))
            .order_by(candidates.c.seq)
        )
        row = fences.claim(
            conn,
            jobs,
            oldest,
            lease_s,
            returning=records.columns,
            state="running",
            attempts=jobs.c.attempts + 1,
            worker=worker_id,
            started_at=sa.func.coalesce(jobs.c.started_at, now(conn)),
            x_state=None,
        )
    return None if row is None else records.from_row(row)


def waiting(db: Database) -> list[Waiting]:
    """What a claim could take, oldest first, as `placement.choose` wants to see it."""
    with db.read() as conn:
        query = sa.select(jobs.c.id, jobs.c.kind, jobs.c.spec).where(_is_waiting(conn, jobs.c))
        rows = conn.execute(query.order_by(jobs.c.seq)).all()
    return [Waiting(job=row.id, kind=row.kind, base=row.spec.get("base")) for row in rows]


@dataclass(frozen=True, slots=True)
class Line:
    """The jobs of one kind that nobody works at, and those that somebody does."""

    waiting: int
    oldest_s: float
    """How long ago the oldest was made, or its worker fell silent, in seconds; 0 where none waits."""
    running: int


def lines(conn: sa.Connection) -> dict[JobKind, Line]:
    """How the queue stands, by kind. A job whose worker fell silent waits."""
    held = sa.and_(jobs.c.state == "running", fences.is_live(conn, jobs.c))
    silent_s = sa.case(
        (held, None),
        (jobs.c.state == "running", lease_now(conn) - jobs.c.lease_until),
        else_=now(conn) - jobs.c.created_at,
    )
    query = sa.select(
        jobs.c.kind,
        sa.func.sum(sa.case((held, 0), else_=1)),
        sa.func.max(silent_s),
        sa.func.sum(sa.case((held, 1), else_=0)),
    ).where(jobs.c.state.in_(("queued", "running")))
    found = {kind: Line(0, 0.0, 0) for kind in get_args(JobKind)}
    for kind, waiting, oldest_s, running in conn.execute(query.group_by(jobs.c.kind)):
        found[kind] = Line(int(waiting), max(0.0, oldest_s or 0.0), int(running))
    return found


def heartbeat(db: Database, job_id: str, fence: int, lease_s: float) -> bool:
    """Extend the lease. False: the job is no longer ours; stop at once and write nothing more."""
    with db.write() as conn:
        kept = (
            jobs.update()
            .where(fences.held(job_id, fence))
            .values(lease_until=fences.lease_end(conn, lease_s))
        )
        return conn.execute(kept).rowcount == 1


def note_checkpoint(db: Database, job_id: str, fence: int, step: int) -> None:
    """Report a durable checkpoint. A newer one than ever before starts the count of attempts anew."""
    is_newer = jobs.c.checkpoint_step < step
    with db.write() as conn:
        changed = conn.execute(
            jobs.update()
            .where(fences.held(job_id, fence))
            .values(
                attempts=sa.case((is_newer, 0), else_=jobs.c.attempts),
                checkpoint_step=sa.case((is_newer, step), else_=jobs.c.checkpoint_step),
            )
        )
        if changed.rowcount == 0:
            raise fences.lost(job_id, fence)


def finish(
    db: Database,
    job_id: str,
    fence: int,
    state: str,
    *,
    result: dict[str, Any] | None = None,
    error: JobFault | None = None,
    publish: Callable[[sa.Connection], None] | None = None,
) -> None:
    """End a job, and run `publish` in the same transaction: both happen, or neither.

    Raises LeaseLost, with nothing written, when the fence has moved on.
    """
    assert state in TERMINAL_STATES, f"a job cannot end as {state}"
    with db.write() as conn:
        clock = db.clock(conn)
        ended = conn.execute(
            jobs.update()
            .where(fences.held(job_id, fence))
            .values(
                state=state,
                error=error and error.model_dump(),
                finished_at=clock,
                lease_until=None,
                x_state=None,
                paused_at=None,
                **({} if result is None else {"result": result}),
            )
            .returning(*records.columns)
        ).first()
        if ended is None:
            raise fences.lost(job_id, fence)
        if publish is not None:
            publish(conn)
        webhooks.tell_of_job(conn, records.from_row(ended), clock)


def is_pause_asked(db: Database, job_id: str, fence: int) -> bool:
    """Whether the owner of this job of ours wants it to stop for now."""
    with db.read() as conn:
        query = sa.select(jobs.c.id).where(fences.held(job_id, fence), jobs.c.paused_at.is_not(None))
        return conn.execute(query).first() is not None


def put_down(db: Database, job_id: str, fence: int, said: str) -> bool:
    """Leave a job whose pause was asked for, its checkpoint being durable, to be claimed once it is resumed.

    `said` goes into its log.

    False: it was resumed meanwhile, so go on. Raises LeaseLost.
    """
    with db.write() as conn:
        fences.require(conn, job_id, fence)
        left = conn.execute(
            jobs.update()
            .where(fences.held(job_id, fence), jobs.c.paused_at.is_not(None))
            .values(state="queued", attempts=0, worker=None, lease_until=None, x_state=None)
        )
        if left.rowcount == 0:
            return False
        records.add_event(conn, job_id, said, db.clock(conn), fence=None)
    return True


def release(db: Database, job_id: str, fence: int, *, crashed: bool = False) -> None:
    """Give a job back to the queue at once. It counts as an attempt only if the job itself `crashed`."""
    attempts = jobs.c.attempts if crashed else sa.case((jobs.c.attempts > 0, jobs.c.attempts - 1), else_=0)
    with db.write() as conn:
        given_back = conn.execute(
            jobs.update()
            .where(fences.held(job_id, fence))
            .values(state="queued", attempts=attempts, worker=None, lease_until=None, x_state=None)
        )
        if given_back.rowcount == 0:
            raise fences.lost(job_id, fence)


def _is_waiting(conn: sa.Connection, job: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """True of a job that is queued, or that a worker let lapse, and that has attempts left."""
    return sa.and_(_is_free(conn, job), job["attempts"] < MAX_ATTEMPTS)


def _is_free(conn: sa.Connection, job: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(job["paused_at"].is_(None), sa.or_(job["state"] == "queued", _is_lapsed(conn, job)))


def _is_lapsed(conn: sa.Connection, job: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(job["state"] == "running", sa.not_(fences.is_live(conn, job)))


def _put_back_paused(conn: sa.Connection) -> None:
    """Jobs whose worker died before it came to pause them are paused now. The fence moves: it may only be frozen."""
    conn.execute(
        jobs.update()
        .where(_is_lapsed(conn, jobs.c), jobs.c.paused_at.is_not(None))
        .values(state="queued", fence=jobs.c.fence + 1, worker=None, lease_until=None, x_state=None)
    )


def _fail_crashed(conn: sa.Connection) -> None:
    """The crash-loop breaker: end jobs that used up their attempts, so that the queue goes on."""
    candidates = jobs.alias("candidates")
    spent = (
        sa.select(candidates.c.id)
        .where(_is_free(conn, candidates.c), candidates.c.attempts >= MAX_ATTEMPTS)
        .with_for_update(skip_locked=True)
    )
    fault = JobFault(
        code="crashed",
        message=f"The job's process died {MAX_ATTEMPTS} times in a row without getting any further. "
        "Look into the worker's log; if memory ran out, take a smaller batch or base, then submit it again.",
    )
    clock = now(conn)
    ended = conn.execute(
        jobs.update()
        .where(jobs.c.id.in_(spent))
        .values(
            state="failed",
            fence=jobs.c.fence + 1,
            error=fault.model_dump(),
            finished_at=clock,
            lease_until=None,
            x_state=None,
        )
        .returning(*records.columns)
    ).all()
    for row in ended:
        job = records.from_row(row)
        at = job.finished_at or 0.0
        records.add_event(conn, job.id, fault.message, at, level="error", fence=None)
        webhooks.tell_of_job(conn, job, at)
