"""Jobs and their events, as everyone but a worker asks about them; claiming and ending is `jobs.queue`'s.

A job goes validating_files → queued → running → succeeded, failed or cancelled, and back from running to
queued when its worker leaves. While it is paused nobody claims it. It knows no kind of job from another; whoever
asked to be told of an end is told by `webhooks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa

from inhouse.errors import Conflict, NotFound
from inhouse.schema import TERMINAL_STATES, Event, Job, JobFault, JobKind
from inhouse.store import fence as fences
from inhouse.store import ids
from inhouse.store.records import webhooks
from inhouse.store.records.page import page as _page
from inhouse.store.tables import events as event_table
from inhouse.store.tables import jobs

columns = [jobs.c[name] for name in Job.model_fields]
_event_columns = [event_table.c[name] for name in Event.model_fields]


def add(conn: sa.Connection, job: Job) -> None:
    """Store a new job; a queued one may be claimed as soon as the transaction ends."""
    conn.execute(jobs.insert().values(**job.model_dump(), checkpoint_step=0))


def get(conn: sa.Connection, project: str | None, id: str) -> Job:
    """The project's job by this id; with None, any project's."""
    row = conn.execute(sa.select(*columns).where(_is(project, id))).first()
    if row is None:
        raise _missing(id)
    return from_row(row)


def page(
    conn: sa.Connection,
    project: str,
    *,
    kind: JobKind,
    after: str | None = None,
    limit: int = 20,
    order: str = "desc",
    metadata: dict[str, str] | None = None,
) -> tuple[list[Job], bool]:
    """A piece of the project's jobs of one kind, and whether more follow.

    `metadata`: only those that were submitted with these words; an empty dict means those with none.
    """
    within = sa.and_(jobs.c.project == project, jobs.c.kind == kind)
    if metadata is not None:
        said = jobs.c.spec["request"]["metadata"]
        wanted = [_says(conn, key, value) for key, value in metadata.items()]
        within = sa.and_(within, *(wanted or [said.as_string().is_(None)]))
    rows, has_more = _page(conn, sa.select(*columns), jobs, within, after=after, limit=limit, order=order)
    return [from_row(row) for row in rows], has_more


def _says(conn: sa.Connection, key: str, value: str) -> sa.ColumnElement[bool]:
    """Whether a job was submitted with this word. SQLite's paths know no key that is quoted: it is asked for pairs."""
    if conn.dialect.name == "postgresql":
        said: sa.ColumnElement[Any] = jobs.c.spec["request"]["metadata"][key].as_string()
        return said == value
    pairs = sa.func.json_each(jobs.c.spec, "$.request.metadata").table_valued("key", "value")
    return sa.select(pairs.c.key).where(pairs.c.key == key, pairs.c.value == value).exists()


def with_state(conn: sa.Connection, kind: JobKind, states: Sequence[str]) -> list[Job]:
    """Every project's jobs of this kind in one of these states, oldest first."""
    query = sa.select(*columns).where(jobs.c.kind == kind, jobs.c.state.in_(states)).order_by(jobs.c.seq)
    return [from_row(row) for row in conn.execute(query)]


def counts(conn: sa.Connection) -> dict[tuple[str, str], int]:
    """How many jobs there are of each kind and state."""
    query = sa.select(jobs.c.kind, jobs.c.state, sa.func.count()).group_by(jobs.c.kind, jobs.c.state)
    return {(kind, state): int(number) for kind, state, number in conn.execute(query)}


def set_validated(conn: sa.Connection, id: str, ok: bool, error: JobFault | None, now: float) -> None:
    """Queue a job whose files were found good, or fail it. One that was cancelled meanwhile stays so."""
    changes: dict[str, Any] = (
        {"state": "queued", "lease_until": None}
        if ok
        else {
            "state": "failed",
            "lease_until": None,
            "error": error and error.model_dump(),
            "finished_at": now,
        }
    )
    settled = conn.execute(
        jobs.update()
        .where(jobs.c.id == id, jobs.c.state == "validating_files")
        .values(**changes)
        .returning(*columns)
    ).first()
    if settled is not None and not ok:
        webhooks.tell_of_job(conn, from_row(settled), now)


def set_spec(conn: sa.Connection, id: str, spec: dict[str, Any]) -> None:
    """Settle what a job that is still being checked is to do. Any other job's spec stays as it was."""
    conn.execute(jobs.update().where(jobs.c.id == id, jobs.c.state == "validating_files").values(spec=spec))


def cancel(conn: sa.Connection, project: str | None, id: str, now: float) -> Job:
    """End a job that has not ended. The fence moves, so that its worker can publish nothing from here on."""
    row = conn.execute(
        jobs.update()
        .where(_is(project, id), jobs.c.state.not_in(TERMINAL_STATES))
        .values(
            state="cancelled",
            fence=jobs.c.fence + 1,
            finished_at=now,
            lease_until=None,
            x_state=None,
            paused_at=None,
        )
        .returning(*columns)
    ).first()
    if row is None:
        raise _is_over(conn, project, id, "cancel")
    webhooks.tell_of_job(conn, from_row(row), now)
    return from_row(row)


def pause(conn: sa.Connection, project: str | None, id: str, now: float) -> Job:
    """Let a job that has not ended run no further: a running one stops after its step, with a checkpoint.

    One that is paused stays so. Raises Conflict when it has ended.
    """
    since = sa.func.coalesce(jobs.c.paused_at, now)
    return _set_pause(conn, project, id, since, "pause")


def resume(conn: sa.Connection, project: str | None, id: str) -> Job:
    """Let a paused job run again, from its last checkpoint. One that is not paused stays as it is."""
    return _set_pause(conn, project, id, None, "resume")


def _set_pause(conn: sa.Connection, project: str | None, id: str, since: Any, verb: str) -> Job:
    row = conn.execute(
        jobs.update()
        .where(_is(project, id), jobs.c.state.not_in(TERMINAL_STATES))
        .values(paused_at=since)
        .returning(*columns)
    ).first()
    if row is None:
        raise _is_over(conn, project, id, verb)
    return from_row(row)


def set_result(conn: sa.Connection, id: str, fence: int, result: dict[str, Any]) -> None:
    """Set what is known of a running job's outcome so far. Raises LeaseLost when the fence has moved on."""
    if conn.execute(jobs.update().where(fences.held(id, fence)).values(result=result)).rowcount == 0:
        raise fences.lost(id, fence)


def newest_metrics(conn: sa.Connection, id: str) -> Event | None:
    """The last event of this job that carries a step's numbers."""
    query = sa.select(*_event_columns).where(event_table.c.job == id, event_table.c.type == "metrics")
    row = conn.execute(query.order_by(event_table.c.seq.desc()).limit(1)).first()
    return None if row is None else Event(**row._mapping)


def set_x_state(conn: sa.Connection, id: str, fence: int, x_state: str | None) -> None:
    """Set the finer word beside a running job's state. Raises LeaseLost when the fence has moved on."""
    if conn.execute(jobs.update().where(fences.held(id, fence)).values(x_state=x_state)).rowcount == 0:
        raise fences.lost(id, fence)


def add_event(
    conn: sa.Connection,
    job_id: str,
    message: str,
    now: float,
    *,
    level: Literal["info", "warn", "error"] = "info",
    type: Literal["message", "metrics"] = "message",
    data: dict[str, Any] | None = None,
    fence: int | None,
) -> None:
    """Write a line to a job's log. With a fence: only while it holds, else LeaseLost.

    Inside a `publish` of `jobs.queue.finish` pass None: there the job has just ended, under the same fence.
    """
    if fence is not None:
        fences.require(conn, job_id, fence)
    conn.execute(
        event_table.insert().values(
            id=ids.new("ftevent"),
            job=job_id,
            created_at=now,
            level=level,
            type=type,
            message=message,
            data=data or {},
        )
    )


def events(
    conn: sa.Connection,
    project: str | None,
    job_id: str,
    after: str | None = None,
    limit: int = 20,
    order: str = "desc",
) -> tuple[list[Event], bool]:
    """A piece of a job's log, and whether more follows."""
    get(conn, project, job_id)
    within = event_table.c.job == job_id
    query = sa.select(*_event_columns)
    rows, has_more = _page(conn, query, event_table, within, after=after, limit=limit, order=order)
    return [Event(**row._mapping) for row in rows], has_more


def count_events(conn: sa.Connection, job_id: str) -> int:
    """How many lines a job's log has."""
    within = event_table.c.job == job_id
    return conn.scalar(sa.select(sa.func.count()).select_from(event_table).where(within)) or 0


def from_row(row: sa.Row[Any]) -> Job:
    """The job that a row of `columns` holds."""
    return Job(**row._mapping)


def _is(project: str | None, id: str) -> sa.ColumnElement[bool]:
    return jobs.c.id == id if project is None else sa.and_(jobs.c.id == id, jobs.c.project == project)


def _is_over(conn: sa.Connection, project: str | None, id: str, verb: str) -> Conflict:
    """The error for a verb that comes too late. Raises NotFound for a job that never was."""
    return Conflict(f"{id} has already {get(conn, project, id).state}: there is nothing to {verb}.")


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no job {id!r}. `inhouse jobs` lists yours.", param="id")
