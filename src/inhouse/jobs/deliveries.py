"""Deliveries to webhooks: claim one, and write down what came of it. Each is tried until it arrives, or too long.

A claim adds one to the delivery's fence and sets a lease, as with jobs: a server that dies with one in its hands leaves
it to the next, which sends it again under the same id. It knows no network.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inhouse.store import fence
from inhouse.store.db import Database, now
from inhouse.store.records import webhooks as records
from inhouse.store.records.webhooks import Delivery, Webhook
from inhouse.store.tables import deliveries

LEASE_S = 60.0
"""Longer than one try may take."""
WAITS_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0)
"""Between a try and the next; the last one again and again."""
PATIENCE_S = 72 * 3600.0
"""After which a delivery is given up, as OpenAI does
(https://platform.openai.com/docs/guides/webhooks, "Handling webhook requests on a server")."""
SPREAD = 0.1
"""A wait is up to this share longer, so that what failed together is not tried together."""


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is ours to send, and where to."""

    delivery: Delivery
    webhook: Webhook


def claim(db: Database, busy: Sequence[str] = ()) -> Due | None:
    """The delivery that has been due longest and is nobody's, none to a `busy` webhook; now ours, else None."""
    with db.read() as conn:
        if conn.execute(_due(conn, busy).limit(1)).first() is None:
            return None
    with db.write() as conn:
        row = fence.claim(
            conn,
            deliveries,
            _due(conn, busy),
            LEASE_S,
            returning=records.delivery_columns,
            tries=deliveries.c.tries + 1,
        )
        if row is None:
            return None
        delivery = Delivery(**row._mapping)
        return Due(delivery, records.get(conn, None, delivery.webhook))


def settle(db: Database, delivery: Delivery, *, arrived: bool, said: str) -> None:
    """Write down what came of a try: it is over, or due again later. One that is no longer ours stays as it is."""
    with db.write() as conn:
        clock = db.clock(conn)
        wait_s = WAITS_S[min(delivery.tries, len(WAITS_S)) - 1] * (1 + random.uniform(0, SPREAD))
        is_late = clock + wait_s > delivery.created_at + PATIENCE_S
        conn.execute(
            deliveries.update()
            .where(deliveries.c.id == delivery.id, deliveries.c.fence == delivery.fence)
            .values(
                delivered_at=clock if arrived else None,
                due_at=None if arrived or is_late else clock + wait_s,
                lease_until=None,
                said=said,
            )
        )


def _due(conn: sa.Connection, busy: Sequence[str]) -> sa.Select[Any]:
    """The deliveries that a claim could take, in their order."""
    one = deliveries.alias("candidates").c
    is_due = sa.and_(one.due_at <= now(conn), fence.is_free(conn, one), one.webhook.not_in(busy))
    return sa.select(one.seq).where(is_due).order_by(one.due_at, one.seq)
