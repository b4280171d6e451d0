"""Embeddings: text or token ids in, a vector for each out.

It knows OpenAI's wire; the engine pools. Inputs go to one engine some at a time, so that a long list leaves room for
others.
"""

from __future__ import annotations

import base64
import contextlib
import sys
from array import array
from collections.abc import Iterator
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from inhouse.errors import InhouseError, InternalError
from inhouse.schema import EngineDone, EngineRequest, Sampling
from inhouse.server import bases, body, gateway
from inhouse.server.auth import caller
from inhouse.server.calls import Call, until_gone
from inhouse.server.openai.completions import TokenIds
from inhouse.store import ids

router = APIRouter()

MAX_INPUTS = 2048
"""In one request, as at OpenAI."""
AT_ONCE = 128
"""Inputs that are at the engine together: more than a step can read, few enough to leave others their places."""
ENGINE_PARAMS = ("prompt", "messages")
"""What the engine, which knows no wire, calls an input."""

Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(body.RequestBody):
    """The body of a request for embeddings."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    input: (
        Text | TokenIds | Annotated[list[Text] | list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None

    dimensions: None = None
    """A pooled state is not trained to be cut short, so fewer dimensions would be a worse vector with a good name."""

    @property
    def inputs(self) -> list[str | list[int]]:
        if isinstance(self.input, str) or isinstance(self.input[0], int):
            return [self.input]
        return list(self.input)

    def engine_requests(self, id: str, project: str, adapter: str | None) -> list[EngineRequest]:
        """What the engine is asked."""
        return [
            EngineRequest(
                id=f"{id}-{i}",
                project=project,
                prompt=one if isinstance(one, str) else None,
                tokens=None if isinstance(one, str) else tuple(one),
                adapter=adapter,
                embeds=True,
                whole=True,
                sampling=Sampling(max_new_tokens=0),
            )
            for i, one in enumerate(self.inputs)
        ]


@router.post("/v1/embeddings", openapi_extra=body.documented(EmbeddingRequest), response_model=None)
async def create(request: Request) -> Response:
    """A vector for each input: the mean of its tokens' final states, at length 1."""
    gw = gateway.of(request)
    asked = await body.read(request, EmbeddingRequest, gw.settings.max_body_bytes)
    who = caller(request)
    card = await bases.for_text(request, asked.model, "Embed with its base, {base}.")
    adapter = card.digest if card.kind == "adapter" else None
    requests = asked.engine_requests(ids.new("embd"), who.project, adapter)
    with Call(request, card, requests, at_once=AT_ONCE, kind="embeddings") as call:
        with _says_input(call):
            data = await until_gone(request.receive, _data(call, asked.encoding_format == "base64"))
        used = call.usage.prompt_tokens
        fixed = {"model": card.name, "usage": {"prompt_tokens": used, "total_tokens": used}}
        end = orjson.dumps(fixed | ({"x_adapter": call.adapter} if call.adapter else {}))
    whole = b'{"object":"list","data":[%b],%b' % (b",".join(data), end[1:])
    return Response(whole, media_type="application/json")


async def _data(call: Call, as_base64: bool) -> list[bytes]:
    """The list's items, serialised as they come, so that a long list never holds up the event loop for long."""
    items: list[bytes] = []
    for start in range(0, len(call.requests), AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, len(call.requests)))
        try:
            ended = await call.together(numbers)
        except InhouseError as error:
            call.note(error)
            raise
        items += [_item(i, done, as_base64) for i, done in zip(numbers, ended, strict=True)]
    return items


def _item(index: int, done: EngineDone, as_base64: bool) -> bytes:
    if done.embedding is None:
        raise InternalError("The engine read an input and gave no embedding.")
    vector = done.embedding if as_base64 else floats(done.embedding)
    return orjson.dumps({"object": "embedding", "index": index, "embedding": vector})


def floats(text: str) -> list[float]:
    """The numbers of base64 of little-endian float32."""
    numbers = array("f", base64.b64decode(text))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


@contextlib.contextmanager
def _says_input(call: Call) -> Iterator[None]:
    """What is wrong with one input names it as the caller does."""
    try:
        yield
    except InhouseError as error:
        if call.failed is not None and error.param in ENGINE_PARAMS:
            error.param = "input" if len(call.requests) == 1 else f"input[{call.failed}]"
            if len(call.requests) > 1:
                error.message = f"{error.param}: {error.message}"
        raise
