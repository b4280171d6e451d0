"""A server's error reply as the exception that the server raised.

It knows the tree in errors.py and OpenAI's error body; it sends nothing.
"""

from __future__ import annotations

from typing import Any

from inhouse.errors import (
    BadRows,
    Conflict,
    IdempotencyMismatch,
    InhouseError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    RangeNotSatisfiable,
    RateLimited,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

_BY_STATUS: dict[int, type[InhouseError]] = {
    cls.status: cls
    for cls in (
        InvalidRequest,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        MethodNotAllowed,
        Conflict,
        TooLarge,
        UnsupportedMedia,
        RangeNotSatisfiable,
        IdempotencyMismatch,
        RateLimited,
        Unavailable,
        StorageFull,
    )
}


def _tree(cls: type[InhouseError]) -> list[type[InhouseError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _tree(child))]


_BY_CODE: dict[str, type[InhouseError]] = {}
for _cls in _tree(InhouseError):
    _BY_CODE.setdefault(_cls.code, _cls)


def from_wire(
    error: dict[str, Any], *, status: int | None = None, retry_after_s: float | None = None
) -> InhouseError:
    """The exception for OpenAI's `error` object: by its code, else the reply's status, else its type."""
    code = error.get("code")
    cls = _BY_CODE.get(code) if isinstance(code, str) else None
    if cls is None and status is not None:
        cls = _BY_STATUS.get(status, InvalidRequest if 400 <= status < 500 else InternalError)
    if cls is None:
        cls = InvalidRequest if error.get("type") == "invalid_request_error" else InternalError
    made = cls.__new__(cls)  # BadRows is built from problems; on the wire there is only its message
    InhouseError.__init__(
        made,
        str(error.get("message") or "The server gave no reason."),
        param=error.get("param"),
        code=str(code) if code else None,
        retry_after_s=retry_after_s,
    )
    if isinstance(made, BadRows):
        made.name, made.problems = "", ()
    return made
