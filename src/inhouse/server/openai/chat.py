"""Chat completions: messages in, one or more replies out, whole or as a stream of chunks.

It knows OpenAI's wire and hands the engine messages: templates and tokens are the engine's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest
from inhouse.schema import (
    MAX_TOOLS,
    Delta,
    EngineRequest,
    MemoryUse,
    Message,
    ModelCard,
    TextPart,
    TokenLogprob,
)
from inhouse.server import bases, body, gateway, memory
from inhouse.server.auth import caller
from inhouse.server.calls import Call, until_gone
from inhouse.server.memory import Memory
from inhouse.server.openai.answer import Choice, finite, frame, gather, usage_wire
from inhouse.server.openai.formats import ResponseFormat, structure_of
from inhouse.server.openai.sampling import Inference
from inhouse.server.openai.tools import (
    MessageCall,
    ToolChoice,
    Tools,
    calls_wire,
    news_wire,
    use_of,
)
from inhouse.server.replies import Json
from inhouse.server.streams import EventStream
from inhouse.store import ids

router = APIRouter()


class ContentPart(body.RequestBody):
    type: Literal["text"]
    text: str


class ChatMessage(body.RequestBody):
    """One turn. The fields typed None come back from SDKs that echo a reply; they must be empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ContentPart], Field(min_length=1)] | None = None
    name: Annotated[str, Field(max_length=64)] | None = None
    tool_calls: Annotated[list[MessageCall], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    refusal: None = None
    annotations: Annotated[list[None], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None

    def message(self, at: str) -> Message:
        """The turn as engines take it. Raises InvalidRequest for fields that its role does not have, or lacks."""
        if self.content is None and self.tool_calls is None:
            raise _missing(f"{at}.content")
        if self.role == "tool" and self.tool_call_id is None:
            raise _missing(f"{at}.tool_call_id")
        for field, role in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
            if getattr(self, field) is not None and self.role != role:
                raise InvalidRequest(
                    f"Only the role {role} has {field}. Leave it out.", param=f"{at}.{field}"
                )
        parts = self.content
        return Message(
            role=self.role,
            content=[TextPart(type="text", text=p.text) for p in parts] if isinstance(parts, list) else parts,
            name=self.name,
            tool_calls=tuple(call.call for call in self.tool_calls or ()),
            tool_call_id=self.tool_call_id,
        )


class ChatRequest(Inference):
    """The body of a chat completion."""

    only_these: ClassVar[dict[str, str]] = Inference.only_these | {"modalities": '["text"]'}

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    x_memory: memory.Name | memory.MemoryRequest | None = None
    """The memory whose facts to answer from beside the model, by name, or with how to use it."""

    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None

    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    prediction: None = None
    prompt_cache_options: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None

    def engine_request(
        self, id: str, project: str, adapter: str | None, use: MemoryUse | None
    ) -> EngineRequest:
        """What the engine is asked. Raises InvalidRequest for fields that contradict each other."""
        self.check_stream()
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true.", param="top_logprobs")
        if (
            None not in (self.max_tokens, self.max_completion_tokens)
            and self.max_tokens != self.max_completion_tokens
        ):
            raise InvalidRequest(
                "max_tokens and max_completion_tokens mean the same and differ. Send one.", param="max_tokens"
            )
        asked = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return EngineRequest(
            id=id,
            project=project,
            priority=self.priority,
            messages=tuple(m.message(f"messages[{i}]") for i, m in enumerate(self.messages)),
            adapter=adapter,
            n=self.choices,
            memory=use,
            structure=structure_of(self.response_format, self.structured_outputs),
            tools=use_of(self.tools, self.tool_choice, self.parallel_tool_calls is not False),
            whole=not self.stream,
            sampling=self.sampling(
                max_new_tokens=asked, logprobs=(self.top_logprobs or 0) if self.logprobs else None
            ),
        )


@router.post("/v1/chat/completions", openapi_extra=body.documented(ChatRequest), response_model=None)
async def create(request: Request) -> Response:
    """Answers a conversation."""
    gw = gateway.of(request)
    asked = await body.read(request, ChatRequest, gw.settings.max_body_bytes)
    who = caller(request)

    def ask(conn: Connection) -> tuple[ModelCard, Memory | None]:
        card = bases.find(conn, who.project, asked.model)
        return card, memory.find(conn, who, card, asked.x_memory)

    question = ("chat", who.project, asked.model, asked.x_memory is None)
    card, known = await gw.store.believed(question, ask, keep=lambda found: found[1] is None)
    id, call = begin(request, asked, card, known)
    created = int(time.time())
    if asked.stream:
        await call.start_or_close(request.receive)
        return EventStream(call, _chunks(call, asked, known, id, created))
    with call:
        choices = await until_gone(request.receive, gather(call, asked.choices))
    return Json(reply(call, asked, known, choices, id, created))


def begin(request: Request, asked: ChatRequest, card: ModelCard, known: Memory | None) -> tuple[str, Call]:
    """The answer's id, and its call with its places taken. Raises InvalidRequest, RateLimited, EngineOverloaded."""
    id = ids.new("chatcmpl")
    adapter = card.digest if card.kind == "adapter" else None
    use = known.use if known else None
    return id, Call(request, card, [asked.engine_request(id, caller(request).project, adapter, use)])


def reply(
    call: Call, asked: ChatRequest, known: Memory | None, choices: Sequence[Choice], id: str, created: int
) -> dict[str, Any]:
    """The whole answer, as it goes out."""
    return (
        frame(call, id, "chat.completion", created)
        | {
            "choices": [
                {
                    "index": i,
                    "message": _reply(choice),
                    "logprobs": _logprobs(choice.logprobs) if asked.logprobs else None,
                    "finish_reason": choice.finish_reason,
                }
                for i, choice in enumerate(choices)
            ],
            "usage": usage_wire(call.usage),
        }
        | (known.wire([choice.memory for choice in choices]) if known else {})
    )


async def _chunks(
    call: Call, asked: ChatRequest, known: Memory | None, id: str, created: int
) -> AsyncIterator[bytes]:
    """The stream's frames. What never changes is serialised once, ahead of the first."""
    fixed = orjson.dumps(frame(call, id, "chat.completion.chunk", created)).removesuffix(b"}")
    no_usage = b',"usage":null}\n\n' if asked.wants_usage else b"}\n\n"

    def end() -> bytes:
        if not asked.wants_counts:
            return no_usage
        return b',"usage":%b}\n\n' % orjson.dumps(usage_wire(call.usage))

    def chunk(
        index: int, delta: bytes, reason: bytes = b"null", logprobs: bytes = b"null", more: bytes = b""
    ) -> bytes:
        return b'data: %b,"choices":[{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b%b' % (
            fixed,
            index,
            delta,
            logprobs,
            reason,
            more,
            end(),
        )

    def written(delta: Delta) -> bytes:
        out = b""
        if delta.text or delta.logprobs:
            content = b'{"content":%b}' % orjson.dumps(delta.text)
            logprobs = orjson.dumps(_logprobs(delta.logprobs or ())) if asked.logprobs else b"null"
            out = chunk(delta.index, content, logprobs=logprobs)
        if delta.calls:
            out += chunk(delta.index, b'{"tool_calls":%b}' % orjson.dumps(news_wire(delta.calls)))
        if delta.finish_reason:
            more = b""
            if known:
                keys = orjson.dumps(known.wire([delta.memory], first=delta.index, of=asked.choices))
                more = b"," + keys[1:-1]
            out += chunk(delta.index, b"{}", reason=orjson.dumps(delta.finish_reason), more=more)
        return out

    yield b"".join(
        chunk(i, b'{"role":"assistant","content":"","refusal":null}') for i in range(asked.choices)
    )
    async for batch in call.deltas():
        if out := b"".join(written(delta) for _, delta in batch):
            yield out
    if asked.wants_usage:
        yield b'data: %b,"choices":[],"usage":%b}\n\n' % (fixed, orjson.dumps(usage_wire(call.usage)))


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is required.", param=param, code="missing_required_parameter")


def _reply(choice: Choice) -> dict[str, Any]:
    text = "".join(choice.text)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if choice.calls:
        message |= {"content": text or None, "tool_calls": calls_wire(choice.calls)}
    return message


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def one(t: TokenLogprob) -> dict[str, Any]:
        return {"token": t.token, "logprob": finite(t.logprob), "bytes": t.bytes}

    return {"content": [one(t) | {"top_logprobs": [one(k) for k in t.top]} for t in tokens], "refusal": None}
