"""Lists in pieces, as OpenAI's pagination does them: `after` and `limit` in, `has_more` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from inhouse.errors import InvalidRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """Which piece of a list is asked for."""

    after: str | None
    limit: int
    order: str


def piece(query: Mapping[str, str], max_limit: int = MAX_LIMIT, default_limit: int = DEFAULT_LIMIT) -> Piece:
    """The piece that a query names. Raises InvalidRequest."""
    limit = whole_number("limit", query.get("limit", str(default_limit)), 1, max_limit)
    return Piece(query.get("after"), limit, query.get("order", "desc"))


def whole_number(param: str, said: str, least: int, most: int) -> int:
    """A number as a query or a form writes it. Raises InvalidRequest for anything but one within these bounds."""
    is_short = said.isascii() and said.isdigit() and len(said) <= len(str(most))
    if not is_short or not least <= int(said) <= most:
        raise InvalidRequest(f"{param} must be a whole number from {least} to {most}.", param=param)
    return int(said)


def listed(request: Request, name: str) -> list[str]:
    """A parameter's values, by either way of writing a list."""
    params = request.query_params
    return [*params.getlist(name), *params.getlist(f"{name}[]")]


def cut(data: Sequence[dict[str, Any]], part: Piece) -> dict[str, Any]:
    """The envelope of this piece of a list that is here as a whole, in its order. Raises InvalidRequest."""
    first = 0
    if part.after is not None:
        ids = [one["id"] for one in data]
        if part.after not in ids:
            raise InvalidRequest(f"after names {part.after!r}, which is not in this list.", param="after")
        first = ids.index(part.after) + 1
    return list_wire(data[first : first + part.limit], len(data) > first + part.limit)


def list_wire(data: Sequence[dict[str, Any]], has_more: bool = False) -> dict[str, Any]:
    """The envelope of every list."""
    return {
        "object": "list",
        "data": data,
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
