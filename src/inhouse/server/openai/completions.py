"""Plain completions: text or token ids in, text out, with the prompt echoed and scored where asked.

It knows OpenAI's wire; several prompts become several engine requests that run side by side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, ClassVar

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from inhouse.errors import ContextLengthExceeded, InhouseError, InvalidRequest
from inhouse.schema import EngineRequest, TokenLogprob
from inhouse.server import bases, body, gateway
from inhouse.server.auth import caller
from inhouse.server.calls import Call, until_gone
from inhouse.server.openai.answer import finite, frame, gather, usage_wire
from inhouse.server.openai.formats import structure_of
from inhouse.server.openai.sampling import Inference
from inhouse.server.replies import Json
from inhouse.server.streams import EventStream
from inhouse.store import ids

router = APIRouter()

MAX_CHOICES = 128
"""Prompts times `n`: what one request may ask of an engine."""
TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(Inference):
    """The body of a completion."""

    only_these: ClassVar[dict[str, str]] = Inference.only_these

    prompt: (
        str | TokenIds | Annotated[list[str] | list[TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    best_of: None = None
    suffix: None = None
    x_memory: None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    def engine_requests(self, id: str, project: str, adapter: str | None) -> list[EngineRequest]:
        """What the engine is asked. Raises InvalidRequest for fields that contradict each other."""
        self.check_stream()
        asked = 16 if self.max_tokens is None else self.max_tokens
        if asked == 0 and not self.echo:
            raise InvalidRequest(
                "max_tokens 0 without echo answers nothing. Ask for a token or set echo.", param="max_tokens"
            )
        if (wanted := len(self.prompts) * self.choices) > MAX_CHOICES:
            raise InvalidRequest(
                f"{len(self.prompts)} prompts times n = {self.choices} are {wanted} choices; one request may "
                f"ask for {MAX_CHOICES}. Send several requests.",
                param="n",
            )
        structure = structure_of(None, self.structured_outputs)
        sampling = self.sampling(max_new_tokens=asked, logprobs=self.logprobs)
        return [
            EngineRequest(
                id=f"{id}-{i}",
                project=project,
                priority=self.priority,
                prompt=prompt if isinstance(prompt, str) else None,
                tokens=None if isinstance(prompt, str) else tuple(prompt),
                adapter=adapter,
                n=self.choices,
                echo=bool(self.echo),
                structure=structure,
                whole=not self.stream,
                sampling=sampling,
            )
            for i, prompt in enumerate(self.prompts)
        ]


@router.post("/v1/completions", openapi_extra=body.documented(CompletionRequest), response_model=None)
async def create(request: Request) -> Response:
    """Continues one or more prompts."""
    gw = gateway.of(request)
    asked = await body.read(request, CompletionRequest, gw.settings.max_body_bytes)
    who = caller(request)
    instead = "Send messages to /v1/chat/completions, or complete with its base, {base}."
    card = await bases.for_text(request, asked.model, instead)
    id = ids.new("cmpl")
    adapter = card.digest if card.kind == "adapter" else None
    call = Call(request, card, asked.engine_requests(id, who.project, adapter))
    created = int(time.time())
    if asked.stream:
        with _says_prompt():
            await call.start_or_close(request.receive)
        return EventStream(call, _chunks(call, asked, id, created))
    with call, _says_prompt():
        choices = await until_gone(request.receive, gather(call, asked.choices))
    return Json(
        frame(call, id, "text_completion", created)
        | {
            "choices": [
                {
                    "text": "".join(choice.text),
                    "index": i,
                    "logprobs": None
                    if asked.logprobs is None
                    else _logprobs(choice.logprobs, asked.logprobs, 0),
                    "finish_reason": choice.finish_reason,
                }
                for i, choice in enumerate(choices)
            ],
            "usage": usage_wire(call.usage),
        }
    )


@contextlib.contextmanager
def _says_prompt() -> Iterator[None]:
    """Too long a prompt is here the field `prompt`; the engine, which knows no wire, calls it messages."""
    try:
        yield
    except InhouseError as error:
        if error.code == ContextLengthExceeded.code:
            error.param = "prompt"
        raise


async def _chunks(call: Call, asked: CompletionRequest, id: str, created: int) -> AsyncIterator[bytes]:
    fixed = frame(call, id, "text_completion", created)
    if asked.wants_usage:
        fixed = fixed | {"usage": None}
    offsets = [0] * (asked.choices * len(call.requests))
    async for batch in call.deltas():
        out = []
        for i, delta in batch:
            if not (delta.text or delta.logprobs or delta.finish_reason):
                continue
            index = i * asked.choices + delta.index
            choice: dict[str, Any] = {
                "text": delta.text,
                "index": index,
                "logprobs": None,
                "finish_reason": delta.finish_reason,
            }
            if asked.logprobs is not None:
                choice["logprobs"] = _logprobs(delta.logprobs or (), asked.logprobs, offsets[index])
                offsets[index] += sum(len(t.token) for t in delta.logprobs or ())
            counts = {"usage": usage_wire(call.usage)} if asked.wants_counts else {}
            out.append(b"data: " + orjson.dumps(fixed | counts | {"choices": [choice]}) + b"\n\n")
        if out:
            yield b"".join(out)
    if asked.wants_usage:
        yield b"data: " + orjson.dumps(fixed | {"choices": [], "usage": usage_wire(call.usage)}) + b"\n\n"


def _logprobs(tokens: Sequence[TokenLogprob], asked: int, offset: int) -> dict[str, Any]:
    """Completions' own shape: columns instead of rows; `top_logprobs` holds the chosen token as well."""
    offsets = []
    for t in tokens:
        offsets.append(offset)
        offset += len(t.token)
    return {
        "tokens": [t.token for t in tokens],
        "token_logprobs": [finite(t.logprob) for t in tokens],
        "top_logprobs": [_top(t) for t in tokens] if asked else None,
        "text_offset": offsets,
    }


def _top(t: TokenLogprob) -> dict[str, float | None] | None:
    if t.logprob is None:
        return None
    return {k.token: finite(k.logprob) for k in t.top} | {t.token: finite(t.logprob)}
