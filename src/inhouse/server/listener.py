"""The HTTP server around the application: its connections, its signals, and how it stops.

It knows uvicorn, so that no other file must. The first SIGTERM or Ctrl-C drains, the second ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from inhouse.errors import Draining
from inhouse.server import descriptors
from inhouse.server.gateway import Gateway

log = logging.getLogger(__name__)

HEAD_S = 20.0
"""How long a request's head may take to arrive; a connection between requests has KEEP_ALIVE_S."""
KEEP_ALIVE_S = 75
SEND_BUFFER_BYTES = 256 * 1024
"""Kept small in the kernel, so that a reader who stands still shows within a few frames."""
OVER_HEAD_S = 1.0
"""The same for a connection that is one too many, and only waits to be told so."""
POLITE = 32
"""So many beyond the most are told that there are too many. What comes beyond these is cut off unheard."""
ACCEPTED_AT_ONCE = 32
"""In one turn of the event loop, before it counts again. Also how often in a row a loop that has no descriptor left
tries, and logs it."""
WAITING_FOR_US = 2048
"""Connections that the system holds until they are accepted."""
GRACE_S = 2.0
"""What streams get, after they were told to end, to write their last frame."""


class Connection(H11Protocol):
    """uvicorn's connection, which shows its transport to the application and waits only so long for a head."""

    _head_timer: asyncio.TimerHandle | None = None
    _is_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        over = len(self.connections) - descriptors.most_connections()
        self._is_over = over > 0
        self.app_state = {**self.app_state, "transport": transport, "is_one_too_many": self._is_over}
        if over > POLITE:
            transport.abort()
            return
        own = transport.get_extra_info("socket")
        if own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def _watch_head(self) -> None:
        """Between requests a timer runs; a request under way stops it."""
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy:
            self._forget_head()
        elif self._head_timer is None:
            wait_s = HEAD_S if self.cycle is None else HEAD_S + KEEP_ALIVE_S
            wait_s = OVER_HEAD_S if self._is_over else wait_s
            self._head_timer = self.loop.call_later(wait_s, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Listener(uvicorn.Server):
    """Serves an application made by create_app on sockets that already listen."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=ACCEPTED_AT_ONCE,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(GRACE_S),
            )
        )
        self.gateway = cast(Gateway, app.state.gateway)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():  # asyncio takes one number for two things; the system's may be larger
            listening.listen(WAITING_FOR_US)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves it out then, but threads and counts want to be put away
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lifespan.shutdown(), GRACE_S)

    def handle_exit(self, sig: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Called by the signal: the first starts to drain, the second stops at once."""
        assert self._loop is not None, "signals are captured only while serving"
        self._loop.call_soon_threadsafe(self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        if self.gateway.work.draining:
            self.force_exit = self.should_exit = True
        else:
            self.gateway.work.draining = True
            self._drain = asyncio.create_task(self._drain_and_exit())

    async def _drain_and_exit(self) -> None:
        """New work is refused while running work ends by itself; what is left at the end is told to end."""
        running, drain_s = self.gateway.work.active, self.gateway.settings.drain_s
        log.info("draining: %d requests may go on for up to %g s, new ones are refused", running, drain_s)
        await self._until_idle(drain_s)
        self.gateway.relay.end_all(
            Draining("This server is shutting down and ended this request. Send it again.", retry_after_s=5)
        )
        await self._until_idle(GRACE_S)
        self.should_exit = True

    async def _until_idle(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.gateway.work.active and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
