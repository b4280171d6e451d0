"""The audit log: a row for each administrative act, chained by hashes, written in the transaction of the act.

Write it last in a transaction: acts wait here for one another, and whoever waits should hold nothing yet that
another one needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import sqlalchemy as sa

from inhouse.store import chain, ids
from inhouse.store.chain import Act, Break, Head
from inhouse.store.db import lock, snapshot
from inhouse.store.records.page import page as _page
from inhouse.store.tables import audit, audit_head

SERVER = "server"
"""The actor of what the server does by itself."""
Type = Literal[
    "api_key.created",
    "api_key.deleted",
    "base.registered",
    "batch.cancelled",
    "batch.created",
    "fact.edited",
    "fact.forgotten",
    "fact.rolled_back",
    "facts.added",
    "file.deleted",
    "job.cancelled",
    "job.created",
    "job.paused",
    "job.resumed",
    "model.deleted",
    "pin.created",
    "pin.deleted",
    "project.archived",
    "project.created",
    "project.updated",
    "rate_limit.updated",
    "response.deleted",
    "server.started",
    "service_account.created",
    "service_account.deleted",
    "webhook.created",
    "webhook.deleted",
    "webhook.rotated",
    "webhook.updated",
]
TYPES: tuple[Type, ...] = get_args(Type)
"""What an act may be."""
MOST_BREAKS = 100
CHUNK = 1000

_columns = [
    audit.c[name]
    for name in ("seq", "id", "at", "actor", "project", "type", "target", "details", "previous", "hash")
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which acts are asked for; what is empty or None leaves all of them in."""

    projects: Sequence[str] = ()
    types: Sequence[str] = ()
    actors: Sequence[str] = ()
    targets: Sequence[str] = ()
    since: float | None = None
    until: float | None = None


def add(
    conn: sa.Connection,
    *,
    actor: str,
    type: Type,
    target: str,
    now: float,
    project: str = "",
    details: Mapping[str, Any] | None = None,
) -> Act:
    """Write an act behind the newest one."""
    lock(conn, "audit")
    last = head(conn)
    draft = Act(
        seq=last.seq + 1,
        id=ids.new("audit_log"),
        at=float(now),
        actor=actor,
        project=project,
        type=type,
        target=target,
        details=dict(details or {}),
        previous=last.hash,
        hash="",
    )
    act = replace(draft, hash=chain.hash_of(draft))
    values = {column.name: getattr(act, column.name) for column in _columns}
    conn.execute(audit.insert().values({**values, "details": chain.canonical(act.details)}))
    conn.execute(audit_head.update().values(seq=act.seq, hash=act.hash))
    return act


def head(conn: sa.Connection) -> Head:
    """The newest act, by the log's own record."""
    row = conn.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).one()
    return Head(int(row.seq), row.hash)


def page(
    conn: sa.Connection, wanted: Wanted, *, after: str | None, limit: int, order: str = "desc"
) -> tuple[list[Act], bool]:
    """A piece of the acts, newest first, and whether more follow."""
    among = {audit.c.project: wanted.projects, audit.c.type: wanted.types, audit.c.actor: wanted.actors}
    among[audit.c.target] = wanted.targets
    conditions: list[sa.ColumnElement[bool]] = [
        column.in_(values) for column, values in among.items() if values
    ]
    if wanted.since is not None:
        conditions.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(audit.c.at < wanted.until)
    query = sa.select(*_columns)
    within = sa.and_(sa.true(), *conditions)
    rows, has_more = _page(conn, query, audit, within, after=after, limit=limit, order=order)
    return [_act(row) for row in rows], has_more


def between(conn: sa.Connection, first: int, last: int) -> list[Act]:
    """The acts of these numbers, both ends included."""
    within = audit.c.seq.between(first, last)
    return [_act(row) for row in conn.execute(sa.select(*_columns).where(within).order_by(audit.c.seq))]


def every(conn: sa.Connection) -> Iterator[Act]:
    """All acts from the first on, a piece at a time in memory."""
    query = sa.select(*_columns).order_by(audit.c.seq).limit(CHUNK)
    at = -1
    while rows := conn.execute(query.where(audit.c.seq > at)).all():
        yield from map(_act, rows)
        at = rows[-1].seq


def verify(conn: sa.Connection, noted: Head | None = None) -> tuple[Head, list[Break]]:
    """The log's head, and the first hundred places at which it is not what was written.

    Call it first in a transaction: the head and the acts must be of one moment.
    """
    snapshot(conn)
    last, found = head(conn), []
    for broken in chain.breaks(every(conn), last, noted):
        found.append(broken)
        if len(found) == MOST_BREAKS:
            break
    return last, found


def _act(row: sa.Row[Any]) -> Act:
    try:
        details = json.loads(row.details)
    except ValueError:
        details = None
    if not isinstance(details, dict) or chain.canonical(details) != row.details:
        details = {"": row.details}  # not what was written: its hash will not fit, and verify names the act
    return Act(**{**row._mapping, "details": details})
