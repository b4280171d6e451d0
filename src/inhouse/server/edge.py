"""The outermost layer: request ids, errors as replies, draining, and readers that stand still.

It knows no key, no route and no model. Everything that any other layer raises ends here, so this is the
server's one `except Exception`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inhouse import logs
from inhouse.errors import Draining, InhouseError, InternalError, Unavailable
from inhouse.server.access import Access
from inhouse.server.replies import error_frame, error_reply

KERNEL_TELLS = sys.platform == "linux"
"""Whether the kernel says how much of what it took the client has not."""
if KERNEL_TELLS:
    import fcntl
    import termios

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready", "/version"})
"""The only paths that need no key, and that answer while the server drains."""
SWEEP_S = 0.25


class ClientGone(ConnectionError):
    """The client hung up; there is nobody to answer."""


class Work:
    """The requests that are running now, and whether new ones are taken."""

    def __init__(self) -> None:
        self.draining = False
        self.active = 0
        self.last_request = time.monotonic()
        self.worker_restarts = 0
        """Times that the worker of this machine had to be started again."""

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Counts one request from its first byte to its last. Raises Draining when no more are taken."""
        if self.draining:
            raise Draining("This server is shutting down. Try again shortly.", retry_after_s=5)
        self.active += 1
        self.last_request = time.monotonic()
        try:
            yield
        finally:
            self.active -= 1
            self.last_request = time.monotonic()


@dataclass(slots=True)
class _Waiting:
    transport: asyncio.Transport
    unread: int = -1
    """Bytes on their way at the sweeper's last look; -1 before its first."""
    since: float = 0.0


class Readers:
    """Clients that we wait for, because what they were sent before has not left yet.

    One sweeper looks at all of them: a deadline for each write would cost every token a timer.
    """

    def __init__(self, idle_s: float) -> None:
        self.idle_s = idle_s
        self.evicted = 0
        self._waiting: dict[int, _Waiting] = {}

    @contextlib.contextmanager
    def waiting_for(self, request: int, transport: asyncio.Transport) -> Iterator[None]:
        self._waiting[request] = _Waiting(transport)
        try:
            yield
        finally:
            self._waiting.pop(request, None)

    def sweep(self, now: float) -> None:
        """Cuts off each client that has read nothing for `idle_s` while bytes waited for it."""
        for waiting in list(self._waiting.values()):
            unread = _unread_bytes(waiting.transport)
            if unread != waiting.unread:
                waiting.unread, waiting.since = unread, now
            elif now - waiting.since > self.idle_s:
                self.evicted += 1
                waiting.transport.abort()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(time.monotonic())


def _unread_bytes(transport: asyncio.Transport) -> int:
    """What the client has not taken yet: here, and in the kernel where it tells."""
    here = transport.get_write_buffer_size()
    if KERNEL_TELLS:
        own = transport.get_extra_info("socket")
        with contextlib.suppress(OSError, ValueError):  # ValueError: the socket has just been closed
            queued = fcntl.ioctl(own.fileno(), termios.TIOCOUTQ, bytes(4))
            return here + int.from_bytes(queued, sys.byteorder)
    return here


class Edge:
    """ASGI layer around everything else."""

    def __init__(self, app: ASGIApp, *, work: Work, readers: Readers, access: Access | None = None) -> None:
        """access  is told of every reply; None: nobody is, as for a request from within"""
        self.app = app
        self.work = work
        self.readers = readers
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websocket is served
            await send({"type": "websocket.close", "code": 1008})
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = f"req_{secrets.token_hex(12)}"
        reply, started = _Reply(send, state, self.readers), time.monotonic()
        with logs.about(request_id=state["request_id"]):
            try:
                await self._answer(scope, receive, reply)
            finally:
                if self.access is not None:
                    self.access.note(
                        scope,
                        status=reply.status,
                        sent_bytes=reply.sent_bytes,
                        started=started,
                        is_gone=reply.is_gone,
                    )

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        try:
            state = scope["state"]
            if state.get("is_one_too_many"):
                state["reply_headers"] = {"connection": "close"}
                if scope["path"] not in OPEN_PATHS:
                    raise Unavailable(_TOO_MANY, code="too_many_connections", retry_after_s=1)
            if scope["path"] in OPEN_PATHS:
                await self.app(scope, receive, reply)
            else:
                with self.work.one():
                    await self.app(scope, receive, reply)
        except ClientGone:
            reply.is_gone = True
        except asyncio.CancelledError:
            if not self.work.draining:  # a second SIGTERM cuts what runs; that is no fault
                raise
        except InhouseError as error:
            await reply.fail(error, scope, receive)
        except Exception as fault:  # noqa: BLE001 - the one around every call
            request_id = scope["state"]["request_id"]
            log.error("%s failed: %s", request_id, logs.place(fault))
            await reply.fail(InternalError(_OUR_FAULT.format(request_id)), scope, receive)


_TOO_MANY = "This server has as many connections as it can hold. Try again shortly."
_OUR_FAULT = "The server failed on this request. Its log says more under {}."


class _Reply:
    """`send` for one request: adds the headers that every reply carries and notices a standing reader."""

    __slots__ = (
        "is_event_stream",
        "is_gone",
        "readers",
        "send",
        "sent_bytes",
        "state",
        "status",
        "transport",
    )

    def __init__(self, send: Send, state: dict[str, Any], readers: Readers) -> None:
        self.send = send
        self.state = state
        self.readers = readers
        self.transport: asyncio.Transport | None = state.get("transport")
        self.status: int | None = None
        """None until a reply has begun."""
        self.sent_bytes = 0
        self.is_event_stream = False
        self.is_gone = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ())]
            self.is_event_stream = any(v.startswith(b"text/event-stream") for _, v in headers)
            headers.append((b"x-request-id", self.state["request_id"].encode()))
            headers += [(k.encode(), v.encode()) for k, v in self.state.get("reply_headers", {}).items()]
            message["headers"] = headers
        self.sent_bytes += len(message.get("body", b""))
        if self.transport is None:
            await self.send(message)
            return
        if self.transport.is_closing():
            raise ClientGone
        with self.readers.waiting_for(id(self), self.transport):
            await self.send(message)

    async def fail(self, error: InhouseError, scope: Scope, receive: Receive) -> None:
        """The error as a reply, or as a stream's last frame; a half-sent body ends as a broken connection."""
        with contextlib.suppress(ClientGone):
            if self.status is None:
                await error_reply(error)(scope, receive, self)
            elif self.is_event_stream:
                write = self.state.get("error_frame", error_frame)
                await self({"type": "http.response.body", "body": write(error), "more_body": False})
            elif self.transport is not None:
                self.transport.abort()
