"""Idempotency keys: a request that is sent again gets the first one's reply, and nothing is done twice.

Reserve, work and finish in one transaction wherever the work is rows: then a racing twin waits and reads the
reply, and a crash leaves no trace. Where the work is longer (an upload), reserve and finish in transactions
of their own: a twin gets a Conflict that says when to retry.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.errors import Conflict, IdempotencyMismatch
from inhouse.store.db import upsert
from inhouse.store.tables import idempotency

KEPT_S = 24 * 3600.0
ABANDONED_S = 600.0
"""A reservation without a reply for this long was left by a server that died: it may be taken over."""
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What the first request was answered."""

    status: int
    body: bytes


def reserve(conn: sa.Connection, project: str, key: str, body_hash: str, now: float) -> StoredReply | None:
    """None: this key is now ours, do the work. Otherwise the reply that the work had.

    Raises IdempotencyMismatch when the key came with another body, Conflict while the first is at work.
    """
    fresh = {"body_hash": body_hash, "created_at": now, "status": None, "body": None}
    expired = sa.or_(
        idempotency.c.created_at < now - KEPT_S,
        sa.and_(idempotency.c.status.is_(None), idempotency.c.created_at < now - ABANDONED_S),
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


def finish(conn: sa.Connection, project: str, key: str, status: int, body: bytes) -> None:
    """Keep the reply for whoever sends the request again."""
    conn.execute(idempotency.update().where(_is(project, key)).values(status=status, body=body))


def forget(conn: sa.Connection, project: str, key: str) -> None:
    """Give the key back: the work failed and may be tried again. A key that has its reply keeps it."""
    conn.execute(idempotency.delete().where(_is(project, key), idempotency.c.status.is_(None)))


def sweep(conn: sa.Connection, now: float) -> int:
    """Drop keys older than a day; returns how many."""
    return conn.execute(idempotency.delete().where(idempotency.c.created_at < now - KEPT_S)).rowcount


def _is(project: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(idempotency.c.project == project, idempotency.c.key == key)
