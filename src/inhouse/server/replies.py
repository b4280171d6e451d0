"""Replies as bytes: JSON by orjson, and every error with its four keys and its headers.

It knows no route and no request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from inhouse.errors import InhouseError


class Json(Response):
    """A JSON body, serialised once by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def error_headers(error: InhouseError) -> dict[str, str]:
    """What tells a client whether and when to try again."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    waiting_is_useless = error.status == 409 and error.retry_after_s is None
    if waiting_is_useless or error.code == "insufficient_quota":
        headers["x-should-retry"] = "false"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def error_reply(error: InhouseError, headers: Mapping[str, str] | None = None) -> Response:
    return Json(
        error.to_wire(), status_code=error.status, headers={**error_headers(error), **(headers or {})}
    )


def error_frame(error: InhouseError) -> bytes:
    """An error after the 200 has gone out: the last data frame of a stream."""
    return b"data: " + orjson.dumps(error.to_wire()) + b"\n\n"
