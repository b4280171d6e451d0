"""Batches, as everyone but their runner asks about them; claiming, answering and ending is `jobs.batches`'.

A batch goes validating → in_progress → finalizing → completed, or ends as failed, expired, or by way of cancelling as
cancelled. It knows no line's meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import sqlalchemy as sa

from inhouse.errors import Conflict, NotFound
from inhouse.store.records.page import page as _page
from inhouse.store.tables import batches

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")
MAY_BE_CANCELLED: tuple[Status, ...] = ("validating", "in_progress")


@dataclass(frozen=True, slots=True)
class Batch:
    """A file of requests, and how far their answers are. Times are Unix seconds."""

    id: str
    project: str
    key: str
    """The key that it was made with, for the rows of usage."""
    endpoint: str
    input_file: str
    digest: str
    """The input's artifact: it outlives the file's row."""
    created_at: float
    expires_at: float
    metadata: dict[str, str] = field(default_factory=dict)
    status: Status = "validating"
    fence: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """What is wrong with the file: code, message, param and line of each."""
    output_file: str | None = None
    error_file: str | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None


columns = [batches.c[own.name] for own in fields(Batch)]


def add(conn: sa.Connection, batch: Batch) -> None:
    """Store a new batch; its runner may claim it as soon as the transaction ends."""
    conn.execute(batches.insert().values({column: getattr(batch, column.name) for column in columns}))


def get(conn: sa.Connection, project: str, id: str) -> Batch:
    """The project's batch by this id."""
    row = conn.execute(sa.select(*columns).where(_is(project, id))).first()
    if row is None:
        raise NotFound(f"There is no batch {id!r}.", param="id")
    return from_row(row)


def counts(conn: sa.Connection) -> dict[str, int]:
    """How many batches there are of each status."""
    query = sa.select(batches.c.status, sa.func.count()).group_by(batches.c.status)
    return {status: int(number) for status, number in conn.execute(query)}


def page(
    conn: sa.Connection, project: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[Batch], bool]:
    """A piece of the project's batches, newest first, and whether more follow."""
    query, within = sa.select(*columns), batches.c.project == project
    rows, has_more = _page(conn, query, batches, within, after=after, limit=limit, order="desc")
    return [from_row(row) for row in rows], has_more


def any_unfinished(conn: sa.Connection) -> bool:
    """Whether a batch of any project is yet to end."""
    query = sa.select(batches.c.id).where(batches.c.status.in_(UNFINISHED))
    return conn.execute(query.limit(1)).first() is not None


def cancel(conn: sa.Connection, project: str, id: str, now: float) -> Batch:
    """Ask for a batch's end. Its runner stops, and writes what there is; asked twice is as good as once."""
    row = conn.execute(
        batches.update()
        .where(_is(project, id), batches.c.status.in_(MAY_BE_CANCELLED))
        .values(status="cancelling", cancelling_at=now)
        .returning(*columns)
    ).first()
    if row is not None:
        return from_row(row)
    found = get(conn, project, id)
    if found.status == "cancelling":
        return found
    raise Conflict(f"{id} is {found.status}: there is nothing left to cancel.")


def from_row(row: sa.Row[Any]) -> Batch:
    """The batch that a row of `columns` holds."""
    return Batch(**row._mapping)


def _is(project: str, id: str) -> sa.ColumnElement[bool]:
    return sa.and_(batches.c.project == project, batches.c.id == id)
