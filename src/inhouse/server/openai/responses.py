"""Responses: a turn in, its reply out as items, whole or as events; stored ones are read, gone on from, forgotten.

It knows OpenAI's wire and hands the engine messages, as chat does; nothing runs in the background.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InhouseError, InvalidRequest, UnsupportedParameter
from inhouse.schema import Delta, ModelCard, Usage
from inhouse.server import audit, bases, body, gateway, idempotency, memory
from inhouse.server.auth import Caller, caller
from inhouse.server.calls import Call, until_gone
from inhouse.server.idempotency import HEADER, REPLAYED, Reservation
from inhouse.server.memory import Memory
from inhouse.server.openai.listing import cut, piece
from inhouse.server.openai.response_items import items_of
from inhouse.server.openai.response_output import Events, Output, replay
from inhouse.server.openai.response_request import ResponseRequest
from inhouse.server.replies import Json
from inhouse.server.streams import HEADERS, EventStream
from inhouse.store import ids
from inhouse.store.records import forgetting, responses
from inhouse.store.records.idempotency import StoredReply
from inhouse.store.records.responses import StoredResponse

router = APIRouter()

CHAT_WORDS = {"messages": "input", "response_format": "text.format", "logprobs": "include"}
"""Fields that engines name as chat does, and what they are called here."""
_MESSAGE_WORDS = {"max_completion_tokens": "max_output_tokens", "response_format": "text.format"}


@router.post("/v1/responses", openapi_extra=body.documented(ResponseRequest), response_model=None)
async def create(request: Request) -> Response:
    """Answers a turn of a conversation."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, ResponseRequest, gw.settings.max_body_bytes)
    if HEADER in request.headers and not asked.is_stored:
        raise UnsupportedParameter(
            "store: false keeps nothing, so the reply cannot be repeated. Leave the Idempotency-Key header out.",
            param="Idempotency-Key",
        )
    same = repr((sorted(who.groups), who.is_admin)).encode() + asked.model_dump_json().encode()
    key = await idempotency.reserve(request, same)
    if isinstance(key, StoredReply):
        return _again(key, asked)
    async with contextlib.AsyncExitStack() as undo:
        if key is not None:
            undo.push_async_callback(key.give_back)
        turn = await gw.store.read(lambda conn: _turn(conn, who, asked, key))
        with in_our_words():
            call = turn.call(request)
            if asked.stream:
                await call.start_or_close(request.receive)
            else:
                with call:
                    await until_gone(request.receive, _gather(call, turn.output))
        if asked.stream:
            request.state.error_frame = turn.events.error
            reply: Response = EventStream(call, _frames(call, turn), last=b"")
        else:
            turn.output.end()
            reply = Json(await turn.end(call))
        undo.pop_all()
    return reply


@router.get("/v1/responses/{id}", response_model=None)
async def retrieve(request: Request, id: str) -> Response:
    """A stored response."""
    body.query(request, ())
    return Json((await _get(request, id)).reply)


@router.delete("/v1/responses/{id}", response_model=None)
async def delete(request: Request, id: str) -> Response:
    """Forgets a stored response."""
    who = caller(request)

    def remove(conn: Connection) -> None:
        responses.delete(conn, who.project, id, groups=who.sees)
        audit.note(conn, who, "response.deleted", id)

    await gateway.of(request).store.write(remove)
    return Json({"id": id, "object": "response", "deleted": True})


@router.get("/v1/responses/{id}/input_items", response_model=None)
async def list_input_items(request: Request, id: str) -> Response:
    """What was asked in this turn, the newest item first; earlier turns are the earlier responses'."""
    part = piece(body.query(request, ("after", "limit", "order")))
    if part.order not in ("asc", "desc"):
        raise InvalidRequest('order is neither "asc" nor "desc". Use one of them.', param="order")
    items = (await _get(request, id)).items
    return Json(cut(items if part.order == "asc" else items[::-1], part))


@router.post("/v1/responses/{id}/cancel", response_model=None)
async def cancel(request: Request, id: str) -> Response:
    """Only what runs in the background can be cancelled, and nothing here does."""
    await _get(request, id)
    raise InvalidRequest(
        f"{id} was not made in the background, so it cannot be cancelled. Hang up on a request to cancel it.",
        param="id",
    )


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """Errors name fields as responses call them."""
    try:
        yield
    except InhouseError as error:
        error.param = CHAT_WORDS.get(error.param or "", error.param)
        for word, ours in _MESSAGE_WORDS.items():
            error.message = error.message.replace(word, ours)
        raise


@dataclass(slots=True)
class Turn:
    """One response under way: what was asked, what it stands on, and what has been answered so far."""

    asked: ResponseRequest
    who: Caller
    card: ModelCard
    known: Memory | None
    items: list[dict[str, Any]]
    before: list[StoredResponse]
    """The conversation that it goes on from, oldest first."""
    access: list[list[str]]
    """Whom the responses that it stands on are for."""
    since: dict[str, int]
    """The project's banks at the start: what is forgotten meanwhile must not be stored."""
    key: Reservation | None
    created_at: float
    id: str = field(default_factory=lambda: ids.new("resp"))
    output: Output = field(default_factory=Output)
    events: Events = field(default_factory=Events)

    def call(self, request: Request) -> Call:
        """Its call, with its place taken. Raises InvalidRequest, RateLimited, EngineOverloaded."""
        conversation = [item for turn in self.before for item in (*turn.items, *turn.reply["output"])]
        adapter = self.card.digest if self.card.kind == "adapter" else None
        use = self.known.use if self.known else None
        asked = self.asked.engine_request(
            self.id, self.who.project, adapter, use, [*conversation, *self.items]
        )
        return Call(request, self.card, [asked])

    async def end(self, call: Call) -> dict[str, Any]:
        """The whole response, stored where that was asked for; `store` says whether it is."""
        cut = {"reason": "max_output_tokens"} if self.output.is_cut else None
        reply = self.wire(call, "completed" if cut is None else "incomplete", incomplete_details=cut)
        reply |= {"output": self.output.items, "usage": usage_wire(call.usage)}
        reply |= self.known.wire([self.output.memory]) if self.known else {}
        is_kept = self.asked.is_stored and await call.gw.store.write(lambda conn: self._keep(conn, reply))
        return reply | {"store": is_kept}

    def failed(self, call: Call, error: InhouseError) -> dict[str, Any]:
        """The response that an error ended. It is not stored."""
        self.output.cut()
        code = "rate_limit_exceeded" if error.status == 429 else "invalid_prompt"
        wire = {"code": "server_error" if error.status >= 500 else code, "message": error.message}
        reply = self.wire(call, "failed", error=wire) | {"output": self.output.items, "store": False}
        return reply | {"usage": usage_wire(call.usage)}

    def wire(self, call: Call, status: str, **known: Any) -> dict[str, Any]:
        """The response, without what only its end brings."""
        reply = {
            "id": self.id,
            "object": "response",
            "created_at": int(self.created_at),
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None,
            "incomplete_details": None,
            "model": self.card.name,
            "output": [],
            "store": self.asked.is_stored,
        }
        adapter = {"x_adapter": call.adapter} if call.adapter else {}
        return reply | self.asked.wire() | adapter | known

    def _keep(self, conn: Connection, reply: dict[str, Any]) -> bool:
        """Stores the response; not one that may say what was forgotten while it was made."""
        project = self.who.project
        forgetting.hold_responses(conn, project)
        cited = {fact["id"] for fact in reply.get("x_facts", ())}
        access = responses.access_of(conn, cited)
        if forgetting.has_forgotten(conn, project, self.since) or access.keys() != cited:
            if self.key is not None:
                self.key.forget(conn)
            return False
        lists = [*self.access, *access.values()]
        stored = StoredResponse(
            id=self.id,
            project=project,
            previous=self.asked.previous_response_id,
            bank=self.known.use.bank if self.known else None,
            access=[list(groups) for groups in dict.fromkeys(tuple(groups) for groups in lists) if groups],
            items=self.items,
            reply=reply,
            created_at=self.created_at,
        )
        responses.add(conn, stored)
        if self.key is not None:
            self.key.finish(conn, reply)
        return True


def usage_wire(usage: Usage) -> dict[str, Any]:
    """As responses tell it. Whatever was not found computed is found the next time, but nobody pays for writing it."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


def _turn(conn: Connection, who: Caller, asked: ResponseRequest, key: Reservation | None) -> Turn:
    card = bases.find(conn, who.project, asked.model)
    known = memory.find(conn, who, card, asked.x_memory)
    before: list[StoredResponse] = []
    if asked.previous_response_id is not None:
        last, param = asked.previous_response_id, "previous_response_id"
        before = responses.chain(conn, who.project, last, groups=who.sees, param=param)
    referred: list[StoredResponse] = []

    def find(id: str, param: str) -> dict[str, Any]:
        item, of = responses.item(conn, who.project, id, groups=who.sees, param=param)
        referred.append(of)
        return item

    items = items_of(asked.input, find)
    access = [groups for response in (*before, *referred) for groups in response.access]
    since = forgetting.revisions(conn, who.project) if asked.is_stored else {}
    return Turn(asked, who, card, known, items, before, access, since, key, time.time())


async def _gather(call: Call, output: Output) -> None:
    await call.start()
    async for batch in call.deltas():
        for _, delta in batch:
            output.add(delta)


async def _frames(call: Call, turn: Turn) -> AsyncIterator[bytes]:
    """The stream. An error is told, and then the response that it ended."""
    events, output, is_whole = turn.events, turn.output, False
    try:
        yield events.begin(turn.wire(call, "in_progress"))
        with in_our_words():
            async for batch in call.deltas():
                if out := b"".join(_steps(events, output, delta) for _, delta in batch):
                    yield out
        yield events.write(*output.end())
        whole = await turn.end(call)
        is_whole = True
        yield events.end(whole)
    except InhouseError as error:
        yield events.error(error) + events.end(turn.failed(call, error))
    finally:
        if turn.key is not None and not is_whole:
            await turn.key.give_back()


def _steps(events: Events, output: Output, delta: Delta) -> bytes:
    return events.write(*output.add(delta))


def _again(before: StoredReply, asked: ResponseRequest) -> Response:
    """The reply that was given before, as a stream where a stream is asked for."""
    if not asked.stream or before.status != 200:
        return idempotency.again(before)
    headers = {name.decode(): value.decode() for name, value in HEADERS} | REPLAYED
    return Response(replay(orjson.loads(before.body)), headers=headers)


async def _get(request: Request, id: str) -> StoredResponse:
    who = caller(request)
    return await gateway.of(request).store.read(
        lambda conn: responses.get(conn, who.project, id, groups=who.sees)
    )
