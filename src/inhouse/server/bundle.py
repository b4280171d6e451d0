"""Many conversations with one model in one request: a body a line comes in, an event a row goes out as it ends.

It knows how rows share a request, and that each is answered or refused by itself. What a row may say and what its
reply looks like is chat's to know.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InhouseError, InvalidRequest
from inhouse.schema import EngineCall, EngineFrame, ModelCard
from inhouse.server import bases, body, gateway, memory
from inhouse.server.auth import caller
from inhouse.server.calls import Call
from inhouse.server.channel import Channel, error_of
from inhouse.server.memory import Memory
from inhouse.server.openai import chat
from inhouse.server.openai.answer import Choice
from inhouse.server.openai.chat import ChatRequest
from inhouse.server.streams import EventStream

MOST_ROWS = 64
"""In one request. A row's own cost is far above its share of a request's long before."""

router = APIRouter()


@router.post("/v1/x/rows", openapi_extra=body.documented_lines(ChatRequest), response_model=None)
async def create(request: Request) -> Response:
    """Answers rows, each the body of a chat completion, all for one model; each event holds one row's reply."""
    gw, who = gateway.of(request), caller(request)
    asked = [_asked(line) for line in await body.lines(request, MOST_ROWS, gw.settings.max_body_bytes)]
    models = {row.model for row in asked if isinstance(row, ChatRequest)}
    if len(models) > 1:
        raise InvalidRequest(
            f"The rows name {len(models)} models. Send those of one model at once.", param="model"
        )

    def look(conn: Connection) -> Iterator[tuple[ModelCard, Memory | None] | InhouseError]:
        cards = {model: bases.find(conn, who.project, model) for model in models}
        for row in asked:
            try:
                if isinstance(row, InhouseError):
                    raise row
                card = cards[row.model]
                yield card, memory.find(conn, who, card, row.x_memory)
            except InhouseError as error:
                yield error

    found = await gw.store.read(lambda conn: list(look(conn)))
    bundle = Bundle(request)
    for row, needed in zip(asked, found, strict=True):
        bundle.add(row, needed)
    return EventStream(bundle, bundle.events())


def _asked(line: bytes) -> ChatRequest | InhouseError:
    try:
        row = body.parse(line, ChatRequest)
    except InhouseError as error:
        return error
    for field, is_more in (("stream", bool(row.stream)), ("n", row.choices > 1)):
        if is_more:
            return InvalidRequest(f"A row gets one whole reply. Leave {field} out.", param=field)
    return row


@dataclass(slots=True)
class _Row:
    """A row under way."""

    number: int
    asked: ChatRequest
    known: Memory | None
    id: str
    call: Call
    choice: Choice


class Bundle:
    """The rows of one request. Each is a call of its own: counted, limited and ended by itself."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._relay = gateway.of(request).relay
        self._created = int(time.time())
        self._count = 0
        self._refused: list[bytes] = []
        self._open: dict[int, _Row] = {}
        """By their numbers in the engine's call."""
        self._channel: Channel | None = None

    def add(
        self, asked: ChatRequest | InhouseError, needed: tuple[ModelCard, Memory | None] | InhouseError
    ) -> None:
        """Takes the next row's place, or notes why it has none."""
        number = self._count
        self._count += 1
        try:
            if isinstance(asked, InhouseError):
                raise asked
            if isinstance(needed, InhouseError):
                raise needed
            card, known = needed
            id, call = chat.begin(self._request, asked, card, known)
        except InhouseError as error:
            self._refused.append(_refusal(number, error))
            return
        self._open[len(self._open)] = _Row(number, asked, known, id, call, Choice())

    async def events(self) -> AsyncIterator[bytes]:
        """An event a row: at once for those that are refused, for the others as they end."""
        if self._refused:
            yield b"".join(self._refused)
        if not self._open:
            return
        rows = list(self._open.values())
        try:
            self._channel = await self._relay.open(
                rows[0].call.base,
                EngineCall(op="generate", bundle=tuple(row.call.requests[0] for row in rows)),
            )
            for row in rows:
                row.call.fingerprint = self._channel.replica.fingerprint
            while frames := await self._channel.frames():
                if out := b"".join(self._heard(frames)):
                    yield out
        except InhouseError as error:
            yield b"".join(self._fail(place, error) for place in list(self._open))

    def close(self) -> None:
        """Cancels what still runs, and counts it."""
        if self._channel is not None:
            self._relay.close(self._channel)
        for row in self._open.values():
            row.call.close()

    def _heard(self, frames: Sequence[EngineFrame]) -> Iterator[bytes]:
        """The events of those rows that end with these frames."""
        for frame in frames:
            row = self._open.get(frame.request)
            if row is None:
                continue
            try:
                if frame.fault is not None:
                    raise error_of(frame.fault)
                for _, delta in row.call.take(0, [frame]):
                    row.choice.add(delta)
            except InhouseError as error:
                yield self._fail(frame.request, error)
                continue
            if frame.done is not None:
                reply = chat.reply(row.call, row.asked, row.known, [row.choice], row.id, self._created)
                yield self._end(frame.request, _event({"row": row.number, "reply": reply}))

    def _fail(self, place: int, error: InhouseError) -> bytes:
        self._open[place].call.note(error)
        return self._end(place, _refusal(self._open[place].number, error))

    def _end(self, place: int, event: bytes) -> bytes:
        self._open.pop(place).call.close()
        return event


def _refusal(number: int, error: InhouseError) -> bytes:
    return _event(
        {
            "row": number,
            "refused": error.to_wire()["error"],
            "status": error.status,
            "retry_after_s": error.retry_after_s,
        }
    )


def _event(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
