"""Webhooks, and the outbox of what they are to be told.

`tell` runs in the transaction of what it tells, so that nothing happens unheard and nothing is heard that did not
happen. Sending is `jobs.deliveries` and the server's courier; this knows no address and no signature.
"""

from __future__ import annotations

import builtins
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.schema import Job
from inhouse.store import ids
from inhouse.store.records.page import page as _page
from inhouse.store.tables import deliveries, webhooks

EVENTS = (
    *(f"fine_tuning.job.{state}" for state in ("succeeded", "failed", "cancelled")),
    *(f"batch.{state}" for state in ("completed", "failed", "expired", "cancelled")),
)
"""What a webhook may be told, by OpenAI's names."""
KEPT_S = 10 * 86_400.0
"""How long a delivery can be looked at."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address of a project's, and what is told there."""

    id: str
    project: str
    name: str
    url: str
    events: builtins.list[str]
    secret: str
    """It signs, so it is kept as it is. Nobody is shown it again."""
    old_secret: str | None
    """The one before, which signs beside it until `old_until`."""
    old_until: float | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook. `id` is the same in every try."""

    id: str
    webhook: str
    type: str
    payload: str
    """The body to send, to the byte."""
    created_at: float
    due_at: float | None
    """When it is tried next; None once it is over."""
    tries: int
    fence: int
    delivered_at: float | None
    said: str
    """What came of the last try."""


_columns = [webhooks.c[field.name] for field in fields(Webhook)]
delivery_columns = [deliveries.c[field.name] for field in fields(Delivery)]


def add(conn: sa.Connection, webhook: Webhook) -> None:
    """Store a webhook; whatever happens after this transaction is told it."""
    conn.execute(webhooks.insert().values(**asdict(webhook)))


def get(conn: sa.Connection, project: str | None, id: str) -> Webhook:
    """The project's webhook by this id; with None, any project's."""
    row = conn.execute(sa.select(*_columns).where(_is(project, id))).first()
    if row is None:
        raise _missing(id)
    return Webhook(**row._mapping)


def page(
    conn: sa.Connection, project: str | None, *, after: str | None = None, limit: int = 20
) -> tuple[builtins.list[Webhook], bool]:
    """A piece of the project's webhooks, newest first, and whether more follow; with None of every project's."""
    within = sa.true() if project is None else webhooks.c.project == project
    query = sa.select(*_columns)
    rows, has_more = _page(conn, query, webhooks, within, after=after, limit=limit, order="desc")
    return [Webhook(**row._mapping) for row in rows], has_more


def count(conn: sa.Connection, project: str) -> int:
    """How many webhooks the project has."""
    query = sa.select(sa.func.count()).select_from(webhooks).where(webhooks.c.project == project)
    return int(conn.execute(query).scalar_one())


def change(conn: sa.Connection, project: str, id: str, now: float, **values: Any) -> Webhook:
    """Change some of a webhook's values; what is on its way to it goes where it now says."""
    row = conn.execute(
        webhooks.update().where(_is(project, id)).values(updated_at=now, **values).returning(*_columns)
    ).first()
    if row is None:
        raise _missing(id)
    return Webhook(**row._mapping)


def remove(conn: sa.Connection, project: str, id: str) -> None:
    """Forget a webhook, and what it was still to be told."""
    if conn.execute(webhooks.delete().where(_is(project, id))).rowcount == 0:
        raise _missing(id)


def tell(conn: sa.Connection, project: str, type: str, about: str, now: float) -> None:
    """Put an event about this object into the outbox, once for each webhook of the project that wants it."""
    payload = event(type, about, now)
    query = sa.select(webhooks.c.id, webhooks.c.events).where(webhooks.c.project == project)
    for row in conn.execute(query.order_by(webhooks.c.seq)).all():
        if type in row.events:
            conn.execute(
                deliveries.insert().values(
                    id=ids.new("wh"),
                    webhook=row.id,
                    type=type,
                    payload=payload,
                    created_at=now,
                    due_at=now,
                    tries=0,
                    fence=0,
                    said="",
                )
            )


def tell_of_job(conn: sa.Connection, job: Job, now: float) -> None:
    """The same of a job that has just ended, if it is one that OpenAI's clients know."""
    if job.kind == "tune":
        tell(conn, job.project, f"fine_tuning.job.{job.state}", job.id, now)


def event(type: str, about: str, now: float) -> str:
    """The body that tells of an event: OpenAI's, which names the object and says nothing else of it."""
    data = {"id": about}
    told = {"id": ids.new("evt"), "object": "event", "type": type, "created_at": int(now), "data": data}
    return json.dumps(told)


def told(
    conn: sa.Connection, webhook: str, *, after: str | None = None, limit: int = 20
) -> tuple[builtins.list[Delivery], bool]:
    """A piece of what a webhook was told or is still to be told, newest first, and whether more follow."""
    get(conn, None, webhook)
    query, within = sa.select(*delivery_columns), deliveries.c.webhook == webhook
    rows, has_more = _page(conn, query, deliveries, within, after=after, limit=limit, order="desc")
    return [Delivery(**row._mapping) for row in rows], has_more


def sweep(conn: sa.Connection, now: float) -> int:
    """Forget deliveries that have long been over; returns how many."""
    is_old = sa.and_(deliveries.c.due_at.is_(None), deliveries.c.created_at < now - KEPT_S)
    return conn.execute(deliveries.delete().where(is_old)).rowcount


def _is(project: str | None, id: str) -> sa.ColumnElement[bool]:
    return (
        webhooks.c.id == id
        if project is None
        else sa.and_(webhooks.c.id == id, webhooks.c.project == project)
    )


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no webhook {id!r}. `inhouse webhooks list` shows them.", param="id")
