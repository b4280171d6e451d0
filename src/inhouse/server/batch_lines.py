"""A batch's files: lines of requests in, lines of answers out, both in OpenAI's shapes.

It knows one line at a time and memory's bounds; it answers nothing and stores nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal

import orjson
from pydantic import Field

from inhouse.errors import InvalidRequest
from inhouse.server import body
from inhouse.server.inner import Reply

MAX_LINES = 50_000
MAX_PROBLEMS = 100


class RequestLine(body.RequestBody):
    """A line of the input."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: Annotated[str, Field(max_length=512)]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch."""

    number: int
    """In the file, from 1 on; empty lines count."""
    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the file, at a line of it or as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None

    def wire(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "param": self.param, "line": self.line}


def read(file: BinaryIO, endpoint: str, max_line_bytes: int) -> Iterator[Line | Problem]:
    """Each line or its problem, in order; what holds for the file as a whole comes last. Empty lines are left out.

    Memory is bounded by a line's length and by the ids of MAX_LINES.
    """
    seen: dict[str, int] = {}
    count = 0
    for number, raw in _raw_lines(file, max_line_bytes):
        count += 1
        if count > MAX_LINES:
            yield Problem(
                "too_many_lines",
                f"The file has over {MAX_LINES:,} requests, the most that a batch takes. Part it.",
            )
            return
        found = _line(number, raw, endpoint, max_line_bytes)
        if isinstance(found, Line) and (first := seen.setdefault(found.custom_id, number)) != number:
            found = Problem(
                "duplicate_custom_id",
                f"custom_id is that of line {first} too. Give each line its own: answers are told apart by it.",
                "custom_id",
                number,
            )
        yield found
    if not count:
        yield Problem("empty_file", "The file holds no request. Write one JSON object on each line.")


def _raw_lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbers and bytes of the lines that hold anything; None stands for one over the limit."""
    number = 0
    while raw := file.readline(limit + 1):
        number += 1
        if len(raw) > limit and not raw.endswith(b"\n"):
            while (rest := file.readline(limit)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif raw.strip():
            yield number, raw


def _line(number: int, raw: bytes | None, endpoint: str, limit: int) -> Line | Problem:
    if raw is None:
        return Problem("line_too_long", f"The line is over {limit:,} bytes. Send less in it.", None, number)
    try:
        asked = body.parse(raw, RequestLine)
    except InvalidRequest as error:
        code, message = error.code, error.message
        if code == "invalid_json":
            code, message = "invalid_json_line", message.replace("The body", "The line")
        return Problem(code, message, error.param, number)
    if asked.url != endpoint:
        return Problem(
            "invalid_url", f"url must be the batch's endpoint, {endpoint}, in each line.", "url", number
        )
    return Line(number, asked.custom_id, asked.body)


def answer_line(batch: str, line: Line, reply: Reply) -> bytes:
    """The line of a file that says what a request was answered; an error is a reply like any other."""
    return (
        b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n'
        % (
            orjson.dumps(_id(batch, line)),
            orjson.dumps(line.custom_id),
            reply.status,
            orjson.dumps(reply.request_id),
            reply.body,
        )
    )


def unanswered_line(batch: str, line: Line, code: str, message: str) -> bytes:
    """The same for a request that was never answered."""
    return orjson.dumps(
        {
            "id": _id(batch, line),
            "custom_id": line.custom_id,
            "response": None,
            "error": {"code": code, "message": message},
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _id(batch: str, line: Line) -> str:
    """The line's own id: the same whenever the file is written."""
    return "batch_req_" + hashlib.sha256(f"{batch}/{line.number}".encode()).hexdigest()[:24]
