"""Replies that are given again when the same request comes again, in the transaction that did the work.

It knows the header and the record, not what is created.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from inhouse.errors import InvalidRequest
from inhouse.server import gateway
from inhouse.server.auth import caller
from inhouse.server.replies import Json
from inhouse.store.records import idempotency

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
