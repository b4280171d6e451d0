"""One request's connection to an engine: a call goes down, frames come up, closing it cancels.

It knows the socket's lines, no HTTP. What arrives is bounded: the stream's reader pauses the engine's socket
when nobody takes the frames.
"""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from inhouse.errors import InhouseError, Unavailable
from inhouse.schema import EngineCall, EngineFault, EngineFrame, Replica

READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 2**20
"""A frame's size: the log-probabilities of a whole echoed context fit."""


class EngineGone(Unavailable):
    """The engine ended the connection before the request was done."""

    code = "engine_lost"


def error_of(fault: EngineFault) -> InhouseError:
    """The engine's fault as the error that the caller meets."""
    error = InhouseError(fault.message, param=fault.param, code=fault.code)
    error.status, error.type = fault.status, fault.type
    if fault.status == 503:
        error.retry_after_s = 1.0
    return error


class Channel:
    """An open connection. `frames` until it answers an empty list; `close` whenever, as often as you like."""

    def __init__(
        self, replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: int
    ) -> None:
        self.replica = replica
        self._reader = reader
        self._writer = writer
        self._rest = b""
        self._first: list[EngineFrame] = []
        self._unfinished = max(1, requests)
        self._is_bundle = requests > 1
        self._ended_by: InhouseError | None = None

    @classmethod
    async def connect(cls, replica: Replica, call: EngineCall) -> Channel:
        """Connects and sends the call. Raises OSError when nobody listens."""
        path = replica.address.removeprefix("unix:")
        reader, writer = await asyncio.open_unix_connection(path, limit=READ_BYTES)
        channel = cls(replica, reader, writer, len(call.bundle))
        writer.write(call.model_dump_json(exclude_none=True).encode() + b"\n")
        return channel

    async def begin(self) -> None:
        """Waits for the first frames. Raises the engine's fault, or EngineGone: then nothing was answered."""
        await self._writer.drain()
        self._first = await self._receive()
        if self._first[0].fault is not None and not self._is_bundle:
            raise error_of(self._first[0].fault)

    async def frames(self) -> list[EngineFrame]:
        """All that has arrived since the last call, at least one frame; empty after the last.

        Raises what the engine answers as its fault, but a bundle's faults are frames like others; raises what
        `end` was given, and EngineGone.
        """
        if self._first:
            found, self._first = self._first, []
        else:
            found = await self._receive()
        last = found[-1] if found else None
        if last is not None and last.fault is not None and not self._is_bundle:
            if len(found) > 1:  # what came before the fault is still the caller's
                self._first = [last]
                return found[:-1]
            raise error_of(last.fault)
        return found

    def end(self, error: InhouseError) -> None:
        """Makes the waiting reader meet `error` now."""
        if self._unfinished:
            self._ended_by = error
            self.close()

    def close(self) -> None:
        self._writer.transport.abort()
        if not self._reader.at_eof():
            self._reader.feed_eof()

    async def _receive(self) -> list[EngineFrame]:
        if not self._unfinished:
            return []
        while True:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError:
                data = b""
            if self._ended_by is not None:
                raise self._ended_by
            if not data:
                raise EngineGone(
                    "The engine stopped while it served this request. Send it again.", retry_after_s=1
                )
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > MAX_LINE_BYTES:
                raise EngineGone("The engine sent a frame over the size limit.", retry_after_s=1)
            if lines:
                return self._parse(lines)

    def _parse(self, lines: list[bytes]) -> list[EngineFrame]:
        try:
            frames = [EngineFrame.model_validate_json(line) for line in lines]
        except ValidationError as error:
            raise EngineGone(
                "The engine sent a frame that this server cannot read.", retry_after_s=1
            ) from error
        self._unfinished -= sum(_is_last(frame) for frame in frames)
        return frames


def _is_last(frame: EngineFrame) -> bool:
    """Whether nothing more comes for its request."""
    return any(end is not None for end in (frame.done, frame.fault, frame.explained, frame.verified))


async def stats(replica: Replica) -> dict[str, float]:
    """An engine's own numbers. Raises OSError or EngineGone."""
    channel = await Channel.connect(replica, EngineCall(op="stats"))
    try:
        await channel.begin()
        return (await channel.frames())[0].stats or {}
    finally:
        channel.close()
