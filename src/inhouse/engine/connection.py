"""One caller's connection: frames wait here until the caller reads them.

It belongs to the sockets' event loop, and knows neither engine nor requests. What waits is bounded: the deltas
of a choice are joined when there are too many, so that a slow reader costs text, never frames without end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import orjson

from inhouse.schema import CallDelta, Delta, EngineFrame

MAX_FRAMES = 256
"""Frames that wait before deltas are joined: more than the choices that a request may have."""
HIGH_WATER_BYTES = 64 * 1024
"""Bytes handed to the socket before the rest waits as frames."""
GATHER_S = 1.0
"""How long the deltas of a reply that is wanted whole are gathered: what was made is still known soon, should
the caller leave."""

Queued = tuple[int, EngineFrame]
"""A frame, and the number of the request it belongs to."""


class Connection:
    """Frames go in by `put` and out by `pump`; `stalled_s` says how long the caller has read nothing."""

    def __init__(self, writer: asyncio.StreamWriter, clock: Callable[[], float]) -> None:
        self._writer = writer
        self._clock = clock
        self._frames: list[Queued] = []
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._unfinished = {0}
        self._gathers = self._waits_at_first = False
        self._written = self._sent = 0
        self._moved_at = clock()
        writer.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    @property
    def waiting(self) -> int:
        """Frames that are not yet handed to the socket."""
        return len(self._frames)

    def expect(self, requests: int, *, whole: bool) -> None:
        """Says how many requests the call makes, and whether their replies are wanted whole."""
        self._unfinished = set(range(requests))
        self._gathers = whole
        self._waits_at_first = whole and requests > 1

    def put(self, frame: EngineFrame, request: int = 0) -> None:
        """Queues a frame of one of the call's requests; never waits. Behind its last there is nothing more to say."""
        if request not in self._unfinished:
            return
        if frame.delta is None:
            self._unfinished.discard(request)
            self._ended.set()
        self._frames.append((request, frame))
        if len(self._frames) > MAX_FRAMES:
            self._frames = joined(self._frames)
        self._arrived.set()

    async def pump(self) -> None:
        """Writes frames as they come, as fast as the caller reads; returns when the last one is gone.

        Of replies that are wanted whole, nothing leaves before one has ended or a while has passed, but a lone
        request's first frame: it says that the engine has begun.
        """
        waits = self._waits_at_first
        while True:
            await self._arrived.wait()
            if waits:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._ended.wait()
            self._arrived.clear()
            self._ended.clear()
            frames, self._frames, waits = self._frames, [], self._gathers
            is_over = not self._unfinished
            data = b"".join(map(_line, joined(frames) if self._gathers else frames))
            self._written += len(data)
            self._writer.write(data)
            if is_over:
                self._writer.transport.set_write_buffer_limits(high=0)  # drained is then empty
            await self._writer.drain()
            if is_over:
                return

    def stalled_s(self) -> float:
        """Seconds for which bytes have waited and none went out, as seen by whoever asks now and then."""
        unsent = self._writer.transport.get_write_buffer_size()
        sent = self._written - unsent
        if unsent == 0 or sent > self._sent:
            self._moved_at = self._clock()
        self._sent = sent
        return self._clock() - self._moved_at

    def abort(self) -> None:
        """Closes at once; what was not sent is dropped."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Closes behind the last byte."""
        self._writer.close()
        await self._writer.wait_closed()


def joined(frames: list[Queued]) -> list[Queued]:
    """The same text in one delta a choice of each request; other frames stay, behind them."""
    deltas: dict[tuple[int, int], list[Delta]] = {}
    others: list[Queued] = []
    for request, frame in frames:
        if frame.delta is None:
            others.append((request, frame))
        else:
            deltas.setdefault((request, frame.delta.index), []).append(frame.delta)
    return [(request, EngineFrame(delta=_join(pieces))) for (request, _), pieces in deltas.items()] + others


def _line(queued: Queued) -> bytes:
    request, frame = queued
    fields = frame.model_dump(exclude_defaults=True)
    return orjson.dumps(fields | {"request": request} if request else fields) + b"\n"


def _join(pieces: list[Delta]) -> Delta:
    logprobs = [logprob for piece in pieces for logprob in piece.logprobs or ()]
    has_logprobs = any(piece.logprobs is not None for piece in pieces)
    return Delta(
        index=pieces[0].index,
        text="".join(piece.text for piece in pieces),
        calls=_join_calls([news for piece in pieces for news in piece.calls]),
        tokens=sum(piece.tokens for piece in pieces),
        prompt_tokens=sum(piece.prompt_tokens for piece in pieces),
        logprobs=logprobs if has_logprobs else None,
        finish_reason=pieces[-1].finish_reason,
        memory=pieces[-1].memory,
    )


def _join_calls(news: list[CallDelta]) -> tuple[CallDelta, ...]:
    """The same news, in one piece a call."""
    calls: dict[int, CallDelta] = {}
    for piece in news:
        begun = calls.get(piece.index)
        if begun is not None:
            piece = begun.model_copy(update={"arguments": begun.arguments + piece.arguments})
        calls[piece.index] = piece
    return tuple(calls.values())
