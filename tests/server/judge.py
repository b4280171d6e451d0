"""Listens to every reply of every house, and holds it against OpenAI's own published description.

A reply under /v1 that OpenAI has, too, must be what the description says: JSON bodies, each event of a stream, lists;
every error must be an ErrorResponse. What may differ stands in WAIVERS, each with its reason and an example.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .description import faults, paths

KEPT_BYTES = 64 * 1024
"""Of one reply; of a longer stream the first events are judged."""


@dataclass(frozen=True, slots=True)
class Said:
    """A reply as it left."""

    method: str
    path: str
    status: int
    kind: str
    """Its content type, without parameters."""
    body: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Waiver:
    """A difference that is meant."""

    operation: str
    """A regular expression for what the description calls it: method and path."""
    fault: str
    """A regular expression that finds it among the faults."""
    why: str


_NULL_UNTIL_THE_END = "null until a choice ends, as in the description's own examples; its schema forgets it"
_NULL_USAGE = "with include_usage each chunk but the last has usage null, as the description says in words"

WAIVERS: tuple[Waiver, ...] = (
    Waiver(
        "POST /chat/completions",
        r"event \d+: \$\.choices\[\d+\]\.(logprobs|finish_reason): None is not",
        _NULL_UNTIL_THE_END,
    ),
    Waiver("POST /chat/completions", r"event \d+: \$\.usage: None is not of type 'object'", _NULL_USAGE),
    Waiver(
        "POST /completions",
        r"event \d+: \$\.choices\[\d+\]\.finish_reason: None is not",
        _NULL_UNTIL_THE_END,
    ),
    Waiver("POST /completions", r"event \d+: \$\.usage: None is not of type 'object'", _NULL_USAGE),
    Waiver(
        "POST /chat/completions",
        r"event \d+: \$\.choices\[\d+\]\.logprobs\.refusal: None is not",
        "the schema of a whole reply has null here, where nothing was refused",
    ),
    Waiver(
        "POST /completions",
        r"\.(token_logprobs\[0\]: None is not of type 'number'|top_logprobs: None is not of type 'array')",
        "an echoed prompt's first token follows nothing and has no probability; with logprobs 0 there are no top ones",
    ),
    Waiver(
        "POST /embeddings",
        r"^\$\.data\[\d+\]\.embedding: '[A-Za-z0-9+/=]+' is not of type 'array'",
        "encoding_format base64 asks for text, which the schema of the reply does not know",
    ),
    Waiver(
        r"(GET|POST) /files(/\{file_id\})?",
        r"\.purpose: 'evals' is not one of",
        "files may be uploaded for evals; the schema of the reply has not followed",
    ),
    Waiver(
        r"GET /(files|batches)",
        r"^\$\.(first|last)_id: None is not of type 'string'",
        "an empty list has no first and no last, and the schema no word for that",
    ),
    Waiver(
        r"(GET|POST) /fine_tuning/jobs(/.*)?",
        r"\.method\.type: '(memory|auto)' is not one of",
        "ways to teach that OpenAI does not have",
    ),
    Waiver(
        r"(GET|POST) /fine_tuning/jobs(/.*)?",
        r"\.learning_rate_multiplier: \S+ is less than or equal to the minimum of True",
        "its bound is a boolean, as older JSON schemas had it, so that no number up to 1 could ever be right",
    ),
    Waiver(
        r"POST /organization/projects/\{project_id\}/service_accounts",
        r"^\$\.role: 'owner' is not one of",
        "x_role admin makes an owner, which the schema of an account knows and that of a new one does not",
    ),
    Waiver(
        "GET /organization/audit_logs",
        r"^\$\.data\[\d+\]\.type: '[a-z_]+\.[a-z_]+' is not one of",
        "acts that OpenAI has no word for, such as job.created, are told by our own",
    ),
)

HEARD: deque[Said] = deque(maxlen=4000)
"""What the servers of this process have said and nobody has judged yet."""


class Listening:
    """ASGI layer that keeps what is said. It judges nothing, so that it holds up nobody."""

    def __init__(self, app: ASGIApp, heard: deque[Said]) -> None:
        self.app = app
        self.heard = heard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        start: Message = {"status": 0, "headers": []}
        kept, is_whole = bytearray(), False

        async def listening(message: Message) -> None:
            nonlocal start, is_whole
            await send(message)
            if message["type"] == "http.response.start":
                start = message
            elif len(kept) < KEPT_BYTES:
                kept.extend(message.get("body", b"")[: KEPT_BYTES - len(kept)])
                is_whole = not message.get("more_body", False) and len(kept) < KEPT_BYTES

        try:
            await self.app(scope, receive, listening)
        finally:
            kind = dict(start["headers"]).get(b"content-type", b"").decode().partition(";")[0]
            self.heard.append(
                Said(scope["method"], scope["path"], start["status"], kind, bytes(kept), is_whole)
            )


def judge(said: Said, waivers: tuple[Waiver, ...] = WAIVERS) -> list[str]:
    """What is wrong with a reply and not waived."""
    operation, schemas = operation_of(said.method, said.path)
    waived = [waiver.fault for waiver in waivers if re.fullmatch(waiver.operation, operation or "")]
    return [
        f"{said.method} {said.path} {said.status}: {fault}"
        for fault in _faults(said, schemas)
        if not any(re.search(pattern, fault) for pattern in waived)
    ]


def operation_of(method: str, path: str) -> tuple[str | None, dict[str, str]]:
    """The description's name for a request, and the name of the schema of each kind of good reply."""
    for pattern, told, operations in _patterns():
        if pattern.fullmatch(path.removeprefix("/v1")) and method in operations:
            return f"{method} {told}", operations[method]
    return None, {}


@cache
def _patterns() -> list[tuple[re.Pattern[str], str, dict[str, dict[str, str]]]]:
    """Every path as a pattern, those without parameters first, with its methods' replies."""
    found = []
    for path, operations in paths().items():
        if "?" in path:
            continue
        wild = ".+" if path == "/models/{model}" else "[^/]+"
        pattern = re.compile(re.sub(r"\\\{\w+\\\}", wild, re.escape(path)))
        replies = {
            method.upper(): {
                kind: content["schema"]["$ref"].rpartition("/")[2]
                for status in ("200", "201")
                for kind, content in operation.get("responses", {}).get(status, {}).get("content", {}).items()
                if "$ref" in content.get("schema", {})
            }
            for method, operation in operations.items()
            if isinstance(operation, dict)
        }
        found.append((pattern, path, replies))
    return sorted(found, key=lambda one: one[1].count("{"))


def _faults(said: Said, schemas: dict[str, str]) -> Iterator[str]:
    if said.status >= 400:
        if said.kind != "application/json":
            yield f"an error of the kind {said.kind!r}"
        elif said.is_whole:
            yield from faults("ErrorResponse", json.loads(said.body))
    elif said.kind == "application/json" and said.is_whole and "application/json" in schemas:
        yield from faults(schemas["application/json"], json.loads(said.body))
    elif said.kind == "text/event-stream" and schemas:
        # completions stream what they answer whole, and the description has no kind of its own for it
        name = schemas.get("text/event-stream", schemas.get("application/json", ""))
        for number, event in enumerate(_events(said)):
            is_error = set(event) == {"error"}
            yield from (f"event {number}: {f}" for f in faults("ErrorResponse" if is_error else name, event))


def _events(said: Said) -> Iterator[dict[str, Any]]:
    whole = said.body.split(b"\n\n")[:-1]  # what follows the last blank line is no event, or half of one
    for block in whole:
        data = [line.removeprefix(b"data: ") for line in block.split(b"\n") if line.startswith(b"data: ")]
        if data and data != [b"[DONE]"]:
            yield json.loads(b"\n".join(data))
