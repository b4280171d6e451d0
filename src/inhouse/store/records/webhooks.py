"""Webhooks, and the outbox of what they are to be told.

`tell` runs in the transaction of what it tells, so that nothing happens unheard and nothing is heard that did not
happen. Sending is `jobs.deliveries` and the server's courier; this knows no address and no signature.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

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
TEST = "x.test"
"""What an operator sends to see whether a webhook works."""
KEPT_S = 10 * 86_400.0
"""How long a delivery that is over can be looked at."""


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
    created_at: float


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
    """Store a webhook; from the next transaction on it is told."""
    conn.execute(
        webhooks.insert().values({name: getattr(webhook, name) for name in webhook.__dataclass_fields__})
    )


def get(conn: sa.Connection, id: str) -> Webhook:
    """The webhook by this id, of whichever project: for operators and the courier, never a tenant's."""
    row = conn.execute(sa.select(*_columns).where(webhooks.c.id == id)).first()
    if row is None:
        raise _missing(id)
    return Webhook(**row._mapping)


def all(conn: sa.Connection) -> builtins.list[Webhook]:
    """Every project's webhooks, oldest first."""
    return [Webhook(**row._mapping) for row in conn.execute(sa.select(*_columns).order_by(webhooks.c.seq))]


def remove(conn: sa.Connection, id: str) -> None:
    """Forget a webhook, and what it was still to be told."""
    if conn.execute(webhooks.delete().where(webhooks.c.id == id)).rowcount == 0:
        raise _missing(id)


def tell(conn: sa.Connection, project: str, type: str, about: str, now: float) -> None:
    """Put an event about this object into the outbox, once for each webhook of the project that wants it."""
    payload = _event(type, about, now)
    query = sa.select(webhooks.c.id, webhooks.c.events).where(webhooks.c.project == project)
    for row in conn.execute(query.order_by(webhooks.c.seq)).all():
        if type in row.events:
            _put(conn, row.id, type, payload, now)


def tell_of_job(conn: sa.Connection, job: Job, now: float) -> None:
    """The same of a job that has just ended, if it is one that OpenAI's clients know."""
    if job.kind == "tune":
        tell(conn, job.project, f"fine_tuning.job.{job.state}", job.id, now)


def test(conn: sa.Connection, id: str, now: float) -> Delivery:
    """Put a test event for this webhook alone into the outbox."""
    get(conn, id)
    return delivery(conn, id, _put(conn, id, TEST, _event(TEST, id, now), now))


def delivery(conn: sa.Connection, webhook: str, id: str) -> Delivery:
    """One delivery of a webhook's."""
    within = sa.and_(deliveries.c.webhook == webhook, deliveries.c.id == id)
    row = conn.execute(sa.select(*delivery_columns).where(within)).first()
    if row is None:
        raise NotFound(f"There is no delivery {id!r}.", param="id")
    return Delivery(**row._mapping)


def delivered(
    conn: sa.Connection, webhook: str, *, after: str | None = None, limit: int = 20
) -> tuple[Sequence[Delivery], bool]:
    """A piece of what a webhook was told or is still to be told, newest first, and whether more follow."""
    get(conn, webhook)
    query, within = sa.select(*delivery_columns), deliveries.c.webhook == webhook
    rows, has_more = _page(conn, query, deliveries, within, after=after, limit=limit, order="desc")
    return [Delivery(**row._mapping) for row in rows], has_more


def sweep(conn: sa.Connection, now: float) -> int:
    """Forget deliveries that have long been over; returns how many."""
    is_old = sa.and_(deliveries.c.due_at.is_(None), deliveries.c.created_at < now - KEPT_S)
    return conn.execute(deliveries.delete().where(is_old)).rowcount


def _put(conn: sa.Connection, webhook: str, type: str, payload: str, now: float) -> str:
    id = ids.new("wh")
    conn.execute(
        deliveries.insert().values(
            id=id,
            webhook=webhook,
            type=type,
            payload=payload,
            created_at=now,
            due_at=now,
            tries=0,
            fence=0,
            said="",
        )
    )
    return id


def _event(type: str, about: str, now: float) -> str:
    return json.dumps(
        {
            "id": ids.new("evt"),
            "object": "event",
            "type": type,
            "created_at": int(now),
            "data": {"id": about},
        }
    )


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no webhook {id!r}. `inhouse webhooks list` shows them.", param="id")
