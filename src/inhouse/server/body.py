"""Request bodies: received within a size and a time, parsed strictly, refused with the field's name.

It knows no endpoint. JSON goes straight from bytes into the wire model, so NaN, broken UTF-8, lone surrogates
and deep nesting are refused by the parser, in bounded memory.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from inhouse.errors import InvalidRequest, TooLarge, UnsupportedMedia, UnsupportedParameter
from inhouse.server.edge import ClientGone

PATIENCE_S = 30.0
SLOWEST_BYTES_PER_S = 16 * 1024
"""A body may take PATIENCE_S, and longer only while it keeps coming at this rate and never pauses so long."""


UNSUPPORTED = "unsupported"
"""The kind of fault that a validator raises for what OpenAI has and this server does not honour."""


class RequestBody(BaseModel):
    """A JSON body. Strict types; a field that is not named is refused; null is the same as absent.

    A field typed `None` is one that OpenAI has and this server does not honour: only null passes.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )
    only_these: ClassVar[dict[str, str]] = {}
    """Fields of which only some values are honoured, and which; another value is unsupported, not invalid."""


B = TypeVar("B", bound=RequestBody)


async def chunks(request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises TooLarge, ClientGone, or InvalidRequest for one that trickles."""
    too_large = TooLarge(
        f"The body is over {limit_bytes} bytes, which is this server's limit for it. Send less at once."
    )
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit_bytes:
        raise too_large
    loop = asyncio.get_running_loop()
    started, received, more = loop.time(), 0, True
    while more:
        try:
            overdue = started + PATIENCE_S + received / SLOWEST_BYTES_PER_S
            async with asyncio.timeout_at(min(overdue, loop.time() + PATIENCE_S)):
                message = await request.receive()
        except TimeoutError:
            request.state.reply_headers = {"connection": "close"}
            raise InvalidRequest("The body came too slowly. Send it again.", code="request_timeout") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        received += len(message.get("body", b""))
        if received > limit_bytes:
            raise too_large
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


async def read(request: Request, model: type[B], limit_bytes: int) -> B:
    """The JSON body as a checked value."""
    _check_kind(request, "application/json", "The body must be JSON.")
    return parse(b"".join([chunk async for chunk in chunks(request, limit_bytes)]), model)


async def lines(request: Request, most: int, limit_bytes: int) -> list[bytes]:
    """The lines of a JSONL body that hold anything. Raises InvalidRequest for none, or for more than `most`."""
    _check_kind(request, "application/jsonl", "The body must be lines of JSON.")
    raw = b"".join([chunk async for chunk in chunks(request, limit_bytes)])
    found = [line for line in raw.split(b"\n") if line.strip()]
    if not 1 <= len(found) <= most:
        raise InvalidRequest(f"The body has {len(found)} lines. Send 1 to {most} at once.")
    return found


def parse(raw: bytes, model: type[B]) -> B:
    """JSON as a checked value. Raises InvalidRequest, in the API's words."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise _refusal(error, model) from None


def _check_kind(request: Request, kind: str, wish: str) -> None:
    said = request.headers.get("content-type", kind).partition(";")[0].strip().lower()
    if said != kind and not (kind.endswith("json") and said.endswith("+json")):
        raise UnsupportedMedia(f"{wish} Send it with the header 'content-type: {kind}'.")


def query(request: Request, known: Iterable[str]) -> dict[str, str]:
    """The query's parameters, each of them known."""
    for name in request.query_params:
        if name not in known:
            raise UnsupportedParameter(
                f"This endpoint has no query parameter {name!r}. Leave it out.", param=name
            )
    return dict(request.query_params)


IN_WORDS = {r"^[A-Za-z0-9_.\-]+$": "use letters, digits, dots, dashes and underscores"}
"""What a pattern asks for, for people."""
_UNION_BRANCH = re.compile(r"^(str|int|float|bool|none|null)$|[\[\]()-]|^[A-Z]")


def _refusal(error: ValidationError, model: type[RequestBody]) -> InvalidRequest:
    """The first fault, in API words. Values are never quoted: they may be private."""
    faults = error.errors(include_url=False, include_context=True, include_input=False)
    where = _steps(faults[0]["loc"])
    # a union reports every branch: the one whose type fits says what is wrong, the others only that they are not it
    branches = [f for f in faults if _steps(f["loc"])[: len(where)] == where]
    fitting = [f for f in branches if _fits(f["type"], is_inside=len(_steps(f["loc"])) > len(where))]
    first = (fitting or faults)[0]
    kind, steps = first["type"], _steps(first["loc"])
    if kind == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it cannot be parsed")
        return InvalidRequest(f"The body is not valid JSON: {reason}.", code="invalid_json")
    param = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".") or None
    top = str(steps[0]) if steps else ""
    if kind == UNSUPPORTED:
        return UnsupportedParameter(f"{param}: {first['msg']}", param=param)
    if kind == "missing":
        return InvalidRequest(f"{param} is required.", param=param, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return UnsupportedParameter(
            f"There is no parameter {param}. Check its spelling or leave it out.", param=param
        )
    if kind == "none_required":
        return UnsupportedParameter(f"This server does not honour {param}. Leave it out.", param=param)
    if top in model.only_these:
        return UnsupportedParameter(f"{top}: this server honours only {model.only_these[top]}.", param=param)
    message = first["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        message = IN_WORDS.get(first["ctx"]["pattern"], message)
    if not fitting:  # none of a union's branches has this type: it may be any of them
        others = [
            f["msg"].removeprefix("Input should be ") for f in branches[1:] if _steps(f["loc"]) == where
        ]
        message = " or ".join([message, *dict.fromkeys(others)])
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return InvalidRequest(f"{param}: {message}." if param else f"{message}.", param=param, code=code)


def _fits(fault: str, *, is_inside: bool) -> bool:
    """Whether a branch with this fault was the one that was meant: a wrong word inside it still shows its shape."""
    return not fault.endswith(("_type", "literal_error")) or (is_inside and fault == "literal_error")


def _steps(location: tuple[int | str, ...]) -> list[int | str]:
    """Where it is, without the names of unions' branches."""
    return [step for step in location if isinstance(step, int) or not _UNION_BRANCH.search(step)]


def documented(model: type[RequestBody]) -> dict[str, Any]:
    """What a route passes as `openapi_extra`, so that the API's own page shows its body."""
    return _documented(model, "application/json")


def documented_lines(model: type[RequestBody]) -> dict[str, Any]:
    """The same for a body whose every line is one."""
    return _documented(model, "application/jsonl")


def _documented(model: type[RequestBody], kind: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    _DOCUMENTED[model.__name__] = model
    return {"requestBody": {"required": True, "content": {kind: {"schema": reference}}}}


_DOCUMENTED: dict[str, type[RequestBody]] = {}


def add_schemas(schemas: dict[str, Any]) -> None:
    """Adds those that `documented` refers to."""
    for name, model in _DOCUMENTED.items():
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[name] = schema
