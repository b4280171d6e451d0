"""One inference call from admission to its usage row, for chat and completions alike.

It knows what a call costs and when it is over; it knows nothing of how the answer is written on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from inhouse.errors import InhouseError, InternalError
from inhouse.schema import (
    Check,
    Delta,
    EngineCall,
    EngineDone,
    EngineFrame,
    EngineOp,
    EngineRequest,
    ModelCard,
    Usage,
)
from inhouse.server import gateway
from inhouse.server.auth import caller
from inhouse.server.channel import Channel, error_of
from inhouse.server.edge import ClientGone
from inhouse.server.metrics import Clock
from inhouse.store.records.usage import Kind, UsageRow

T = TypeVar("T")

CHARACTERS_A_TOKEN = 4
"""For the reservation only; the engine counts, and the difference is given back."""
TOKENS_IF_UNSAID = 256
BATCH_SHARE = 0.5
"""Of a base's places, what may be taken when a batch asks for more: the others are for whoever waits for a reply."""


@dataclass(frozen=True, slots=True)
class Background:
    """What a request's state holds when it is a line of a batch: its engines serve it behind everybody else, it counts
    against an allowance of its own that is as large as the project's, and its usage is written with its result."""

    usage: list[UsageRow] = field(default_factory=list)


def estimate(requests: Sequence[EngineRequest], context: int | None = None) -> int:
    """Tokens to reserve before the engine has counted; of no request more than the context takes."""
    total = 0
    for r in requests:
        text = r.prompt or "".join(m.text for m in r.messages or ())
        prompt = len(r.tokens) if r.tokens else len(text) // CHARACTERS_A_TOKEN + 1
        asked = r.sampling.max_new_tokens
        tokens = prompt + r.n * (TOKENS_IF_UNSAID if asked is None else asked)
        total += tokens if context is None else min(tokens, r.n * context)
    return total


class Call:
    """One or more engine requests that are one request to the caller. Use it with `with`, or `close` it."""

    def __init__(
        self,
        request: Request,
        card: ModelCard,
        requests: Sequence[EngineRequest],
        *,
        at_once: int | None = None,
        kind: Kind = "completions",
    ) -> None:
        """Reserves its places before anything is awaited. Raises RateLimited or EngineOverloaded.

        at_once  how many of the requests are under way together, where that is fewer than all
        kind     what its usage is counted as
        """
        self.gw = gateway.of(request)
        self.caller = caller(request)
        self.request_id: str = request.state.request_id
        self.card = card
        self.kind = kind
        self.base = gateway.resident(card)
        background = request.scope["state"].get("background")
        self._ledger = self.gw.usage if background is None else background.usage
        if background is not None:
            requests = [r.model_copy(update={"priority": "batch"}) for r in requests]
        self.requests = requests
        self.failed: int | None = None
        """The number of the request whose fault ended the call, where `together` met it."""
        self.adapter = card.digest if card.kind == "adapter" else None
        self.fingerprint = ""
        self._held = contextlib.ExitStack()
        self._opened: list[Channel] = []
        """In the order they opened in, so that none is lost when the call is cancelled half-way."""
        self._channels: list[Channel] = []
        """In the order of the requests."""
        self._counted = [Usage()] * len(requests)
        self._reason: str | None = None
        self._error_code: str | None = None
        now = time.monotonic()
        parties = self.caller.parties if background is None else self.caller.batch_parties
        try:
            self._reserved = self.gw.meter.reserve(
                parties, estimate(requests, self.gw.relay.context(self.base)), now
            )
        finally:
            request.state.reply_headers = self.gw.meter.headers(parties, now)
        places = sum(r.n for r in requests)
        share = 1.0 if background is None else BATCH_SHARE
        try:
            self._held.enter_context(
                self.gw.relay.slots(self.base, min(places, at_once or places), share=share)
            )
        except InhouseError:
            self._reserved.settle(0, now)
            raise
        self._clock = Clock(self.gw.metrics, card.base)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def usage(self) -> Usage:
        """All requests' tokens so far: the engine's count of those that are done, ours of the others."""
        prompt = sum(u.prompt_tokens for u in self._counted)
        completion = sum(u.completion_tokens for u in self._counted)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            cached_tokens=sum(u.cached_tokens for u in self._counted),
        )

    async def start(self) -> None:
        """Opens every channel. From here on there is an engine that has begun to answer."""
        opened = await asyncio.gather(*(self._open(r) for r in self.requests), return_exceptions=True)
        for problem in opened:
            if isinstance(problem, BaseException):
                self.note(problem)
                raise problem
        self._channels = [c for c in opened if isinstance(c, Channel)]
        self.fingerprint = self._channels[0].replica.fingerprint

    async def start_or_close(self, receive: Receive) -> None:
        """`start`, for a stream that outlives its route; closed by whatever stops it, a client that hangs up too."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            await until_gone(receive, self.start())
            undo.pop_all()

    async def deltas(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        """What has arrived, with the number of the request it belongs to, until all are done."""
        waiting: dict[asyncio.Task[list[EngineFrame]], int] = {}
        try:
            if len(self._channels) == 1:
                while frames := await self._channels[0].frames():
                    yield self.take(0, frames)
                return
            for i, channel in enumerate(self._channels):
                waiting[asyncio.create_task(channel.frames())] = i
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    i = waiting.pop(task)
                    if frames := await task:
                        waiting[asyncio.create_task(self._channels[i].frames())] = i
                        yield self.take(i, frames)
        except InhouseError as error:
            self.note(error)
            raise
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def together(self, numbers: range) -> list[EngineDone]:
        """What the requests of these numbers end with, asked of one engine in one call. Raises the first fault."""
        bundle = tuple(self.requests[i] for i in numbers)
        if len(bundle) == 1:
            self.failed = numbers[0]  # its fault is the channel's, and is raised by it
        channel = await self.gw.relay.open(self.base, EngineCall(op="generate", bundle=bundle))
        self._opened.append(channel)
        self.fingerprint = channel.replica.fingerprint
        done: dict[int, EngineDone] = {}
        while frames := await channel.frames():
            for frame in frames:
                if frame.fault is not None:
                    self.failed = numbers[frame.request]
                    raise error_of(frame.fault)
                self.take(numbers[frame.request], [frame])
                if frame.done is not None:
                    done[frame.request] = frame.done
        self.failed = None
        self.gw.relay.close(channel)
        return [done[i] for i in range(len(bundle))]

    def close(self) -> None:
        """Cancels what still runs, gives places and unused tokens back, writes the usage. Once."""
        if self._reserved.is_settled:
            return
        for channel in self._opened:
            self.gw.relay.close(channel)
        self._held.close()
        used = self.usage
        self._reserved.settle(used.total_tokens, time.monotonic())
        self._clock.end(
            prompt=used.prompt_tokens,
            generated=used.completion_tokens,
            reason=self._reason,
            error_code=self._error_code,
        )
        if used.total_tokens:
            self._ledger.append(
                UsageRow(
                    project=self.caller.project,
                    key=self.caller.key,
                    model=self.card.name,
                    request_id=self.request_id,
                    prompt_tokens=used.prompt_tokens,
                    completion_tokens=used.completion_tokens,
                    cached_tokens=used.cached_tokens,
                    kind=self.kind,
                    at=time.time(),
                )
            )

    def take(self, i: int, frames: list[EngineFrame]) -> list[tuple[int, Delta]]:
        """Counts what has arrived for the request of this number. Raises InternalError for another adapter's answer."""
        found = []
        for frame in frames:
            if frame.delta is not None:
                self._clock.tokens(i, frame.delta.index, frame.delta.tokens)
                count = self._counted[i]
                prompt = count.prompt_tokens + frame.delta.prompt_tokens
                tokens = count.completion_tokens + frame.delta.tokens
                self._counted[i] = Usage(
                    prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens
                )
                self._reason = frame.delta.finish_reason or self._reason
                found.append((i, frame.delta))
            elif frame.done is not None:
                if frame.done.adapter != self.adapter:
                    raise InternalError("The engine answered with another adapter than the one asked for.")
                self._counted[i] = frame.done.usage
        return found

    def note(self, problem: BaseException) -> None:
        """What the call has ended with, for the numbers."""
        self._error_code = problem.code if isinstance(problem, InhouseError) else "internal_error"

    async def _open(self, request: EngineRequest) -> Channel:
        channel = await self.gw.relay.open(self.base, EngineCall(op="generate", request=request))
        self._opened.append(channel)
        return channel


async def explain(request: Request, base: str, call: EngineRequest) -> dict[str, Any]:
    """What an engine's memory sees in a question."""
    frame = await _look(request, base, call, "explain")
    if frame.explained is None:
        raise InternalError("The engine answered something else than an explanation.")
    return frame.explained


async def verify(request: Request, base: str, call: EngineRequest) -> tuple[Check, ...]:
    """Whether an adapter does what it says, by an engine that serves its base."""
    frame = await _look(request, base, call, "verify")
    if frame.verified is None:
        raise InternalError("The engine answered something else than checks.")
    return frame.verified


async def _look(request: Request, base: str, call: EngineRequest, op: EngineOp) -> EngineFrame:
    """An engine's one frame. It counts as a request of the project, and takes a place."""
    gw, parties = gateway.of(request), caller(request).parties
    now = time.monotonic()
    try:
        reserved = gw.meter.reserve(parties, 0, now)
    finally:
        request.state.reply_headers = gw.meter.headers(parties, now)
    try:
        with gw.relay.slots(base, 1):
            channel = await gw.relay.open(base, EngineCall(op=op, request=call))
            try:
                (frame,) = await channel.frames()
            finally:
                gw.relay.close(channel)
    finally:
        reserved.settle(0, time.monotonic())
    return frame


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; when the client hangs up first, work is cancelled and ClientGone raised."""
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hangs_up(receive))
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return await doing
        raise ClientGone
    finally:
        doing.cancel()
        watching.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


async def _hangs_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
