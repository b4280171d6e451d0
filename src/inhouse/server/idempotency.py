"""Replies that are given again when the same request comes again, in the transaction that did the work.

It knows the header and the record, not what is created.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from inhouse.errors import InhouseError, InvalidRequest
from inhouse.server import gateway
from inhouse.server.auth import caller
from inhouse.server.replies import Json
from inhouse.server.threads import StoreThreads
from inhouse.store import ids
from inhouse.store.records import idempotency
from inhouse.store.records.idempotency import StoredReply

log = logging.getLogger(__name__)

MAX_KEY_CHARACTERS = 255
HEADER = "idempotency-key"
REPLAYED = {"x-idempotent-replay": "true"}


async def create_once(
    request: Request, asked: bytes, create: Callable[[Connection], dict[str, Any]]
) -> Response:
    """What `create` answers, or answered before under this Idempotency-Key to the same `asked`."""
    project, store = caller(request).project, gateway.of(request).store
    key = _key(request)
    if key is None:
        return Json(await store.write(create))
    digest = _digest(request, asked)

    def once(conn: Connection) -> Response:
        before = idempotency.reserve(conn, project, key, digest, store.db.clock(conn))
        if before is not None:
            return again(before)
        body = orjson.dumps(create(conn))
        idempotency.finish(conn, project, key, 200, body)
        return Response(body, media_type="application/json")

    return await store.write(once)


class Reservations:
    """The keys that are ours while work goes on that takes longer than a transaction: their leases are renewed."""

    def __init__(self, store: StoreThreads, lease_s: float) -> None:
        self.store = store
        self.lease_s = lease_s
        self.held: WeakSet[Reservation] = WeakSet()
        """Those that somebody works for. One that was dropped, or could not be given back, is left to its lease."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            try:
                await self._renew([held.holder for held in self.held])
            except (InhouseError, SQLAlchemyError) as error:
                log.warning("idempotency keys could not be kept: %s", type(error).__name__)

    async def _renew(self, holders: list[str]) -> None:
        if holders:
            await self.store.write(lambda conn: idempotency.renew(conn, holders, self.lease_s))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Reservation:
    """A key that is ours. Finish it, or give it back."""

    store: StoreThreads
    project: str
    key: str
    holder: str

    def finish(self, conn: Connection, reply: dict[str, Any]) -> None:
        idempotency.finish(conn, self.project, self.key, 200, orjson.dumps(reply), holder=self.holder)

    def forget(self, conn: Connection) -> None:
        """The work came to nothing: the same request may be sent again."""
        idempotency.forget(conn, self.project, self.key, holder=self.holder)

    async def give_back(self) -> None:
        """`forget`, in a transaction of its own."""
        await self.store.write(self.forget)


async def reserve(request: Request, asked: bytes) -> Reservation | StoredReply | None:
    """The request's key, or what it was answered before; None: it has none. Raises Conflict while a twin is at work."""
    project, among = caller(request).project, gateway.of(request).reservations
    key = _key(request)
    if key is None:
        return None
    digest, holder, store = _digest(request, asked), ids.new("holder"), among.store

    def ask(conn: Connection) -> StoredReply | None:
        now = store.db.clock(conn)
        return idempotency.reserve(conn, project, key, digest, now, holder=holder, lease_s=among.lease_s)

    before = await store.write(ask)
    if before is not None:
        return before
    reservation = Reservation(store, project, key, holder)
    among.held.add(reservation)
    return reservation


def again(before: StoredReply) -> Response:
    """A reply that was given before."""
    return Response(before.body, before.status, REPLAYED, media_type="application/json")


def _key(request: Request) -> str | None:
    key = request.headers.get(HEADER)
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters.", param="Idempotency-Key"
        )
    return key


def _digest(request: Request, asked: bytes) -> str:
    return hashlib.sha256(request.url.path.encode() + b"\0" + asked).hexdigest()
