"""Replies that are given again when the same request comes again, in the transaction that did the work.

It knows the header and the record, not what is created.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Any

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
from inhouse.store.records import idempotency

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600.0
MAX_KEY_CHARACTERS = 255
HEADER = "idempotency-key"


async def create_once(
    request: Request, asked: bytes, create: Callable[[Connection], dict[str, Any]]
) -> Response:
    """What `create` answers, or answered before under this Idempotency-Key to the same `asked`."""
    project, store = caller(request).project, gateway.of(request).store
    key = request.headers.get(HEADER)
    if key is None:
        return Json(await store.write(create))
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters.", param="Idempotency-Key"
        )
    digest = hashlib.sha256(request.url.path.encode() + b"\0" + asked).hexdigest()

    def once(conn: Connection) -> Response:
        before = idempotency.reserve(conn, project, key, digest, store.db.clock(conn))
        if before is not None:
            replayed = {"x-idempotent-replay": "true"}
            return Response(before.body, before.status, replayed, media_type="application/json")
        body = orjson.dumps(create(conn))
        idempotency.finish(conn, project, key, 200, body)
        return Response(body, media_type="application/json")

    return await store.write(once)


async def keep_swept(store: StoreThreads) -> None:
    """Forgets keys that are over their time: now, and every hour. A store that fails is asked again then."""
    while True:
        try:
            await store.write(lambda conn: idempotency.sweep(conn, store.db.clock(conn)))
        except (InhouseError, SQLAlchemyError) as error:
            log.warning("old idempotency keys could not be swept: %s", type(error).__name__)
        await asyncio.sleep(SWEEP_EVERY_S)
