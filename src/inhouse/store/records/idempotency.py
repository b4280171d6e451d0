"""Idempotency keys: a request that is sent again gets the first one's reply, and nothing is done twice.

Reserve, work and finish in one transaction wherever the work is rows: then a racing twin waits and reads the
reply, and a crash leaves no trace. Where the work is longer (an upload), reserve and finish in transactions
of their own: a twin gets a Conflict that says when to retry. Such a reservation has a lease that its holder
renews, so that the key of a server that died is soon free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.errors import Conflict, IdempotencyMismatch
from inhouse.store import fence
from inhouse.store.db import upsert
from inhouse.store.tables import idempotency

KEPT_S = 24 * 3600.0
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What the first request was answered."""

    status: int
    body: bytes


def reserve(
    conn: sa.Connection,
    project: str,
    key: str,
    body_hash: str,
    now: float,
    *,
    holder: str | None = None,
    lease_s: float = 0.0,
) -> StoredReply | None:
    """None: this key is now ours, do the work. Otherwise the reply that the work had.

    Work that outlasts the transaction names its holder, who is to `renew` the lease. Raises IdempotencyMismatch when
    the key came with another body, Conflict while the first is at work.
    """
    fresh = {"body_hash": body_hash, "created_at": now, "status": None, "body": None}
    fresh |= {"holder": holder, "lease_until": fence.lease_end(conn, lease_s)}
    expired = sa.or_(
        idempotency.c.created_at < now - KEPT_S,
        sa.and_(idempotency.c.status.is_(None), fence.is_free(conn, idempotency.c)),
    )
    taken = conn.execute(
        upsert(conn, idempotency)
        .values(project=project, key=key, **fresh)
        .on_conflict_do_update(index_elements=["project", "key"], set_=fresh, where=expired)
        .returning(idempotency.c.key)
    ).first()
    if taken is not None:
        return None
    row = conn.execute(
        sa.select(idempotency.c.body_hash, idempotency.c.status, idempotency.c.body).where(_is(project, key))
    ).one()
    if row.body_hash != body_hash:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used with another body. Send the same body, or a new key.",
            param="Idempotency-Key",
        )
    if row.status is None:
        raise Conflict(
            "A request with this Idempotency-Key is still at work. Send it again in a moment for its reply.",
            retry_after_s=RETRY_AFTER_S,
        )
    return StoredReply(int(row.status), bytes(row.body))


def renew(conn: sa.Connection, holders: Sequence[str], lease_s: float) -> None:
    """The work of these goes on."""
    theirs = idempotency.c.holder.in_(holders), idempotency.c.status.is_(None)
    conn.execute(idempotency.update().where(*theirs).values(lease_until=fence.lease_end(conn, lease_s)))


def finish(
    conn: sa.Connection, project: str, key: str, status: int, body: bytes, *, holder: str | None = None
) -> None:
    """Keep the reply for whoever sends the request again. Raises Conflict where another holder has the key by now."""
    ours = (
        _is(project, key),
        idempotency.c.status.is_(None),
        idempotency.c.holder.is_not_distinct_from(holder),
    )
    done = idempotency.update().where(*ours).values(status=status, body=body, holder=None, lease_until=None)
    if conn.execute(done).rowcount == 0:
        raise Conflict(
            "This request was taken for lost, and sent again under its Idempotency-Key. Send it again for the reply.",
            retry_after_s=RETRY_AFTER_S,
        )


def forget(conn: sa.Connection, project: str, key: str, *, holder: str | None = None) -> None:
    """Give the key back: the work failed and may be tried again. A key that has its reply, or another holder, stays."""
    ours = (
        _is(project, key),
        idempotency.c.status.is_(None),
        idempotency.c.holder.is_not_distinct_from(holder),
    )
    conn.execute(idempotency.delete().where(*ours))


def sweep(conn: sa.Connection, now: float) -> int:
    """Drop keys older than a day; returns how many."""
    return conn.execute(idempotency.delete().where(idempotency.c.created_at < now - KEPT_S)).rowcount


def _is(project: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(idempotency.c.project == project, idempotency.c.key == key)
