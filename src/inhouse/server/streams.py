"""A server-sent event stream: pre-serialised bytes out, and an end whatever happens.

It knows no resource; the bytes come ready from whoever writes the wire.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inhouse.errors import InhouseError
from inhouse.server.calls import until_gone
from inhouse.server.replies import error_frame

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
DONE = b"data: [DONE]\n\n"


class Closing(Protocol):
    """What is under way while a stream is: a call, or a bundle of them."""

    def close(self) -> None: ...


class EventStream(Response):
    """Streams `frames`, then `last` ([DONE]), or the error that ended them; closes `call` in any case."""

    def __init__(self, call: Closing, frames: AsyncIterator[bytes], last: bytes = DONE) -> None:
        super().__init__()
        self.call = call
        self.frames = frames
        self.last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._pump(send))
        finally:
            self.call.close()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        last = self.last
        try:
            async for chunk in self.frames:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except InhouseError as error:
            last = error_frame(error)
        finally:
            if isinstance(self.frames, AsyncGenerator):  # what it has to give back is given back now
                await self.frames.aclose()
        await send({"type": "http.response.body", "body": last, "more_body": False})
