"""Runs an engine for callers on a unix socket: steps in this thread, sockets in another.

It knows when to step, when to sleep and when to end. Nothing here waits for a caller: commands come in by a
queue, frames go out to the listener's loop, and with nothing to do the thread sleeps until a command comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from inhouse.engine.engine import Engine, Reply
from inhouse.engine.faults import around_request, fault_of
from inhouse.engine.listener import Add, Cancel, Command, Keep, Listener, Stop
from inhouse.engine.request import Request
from inhouse.errors import Draining, InhouseError, Unavailable
from inhouse.schema import EngineFault, EngineFrame


class EngineServer:
    """An engine at an address. `run` blocks until `stop`, which any thread or signal handler may call."""

    def __init__(
        self,
        engine: Engine,
        path: Path,
        *,
        max_queued: int = 1024,
        idle_reader_s: float = 4.0,
        drain_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._drain_s = drain_s
        self._clock = clock
        # A SimpleQueue, because its put may interrupt its get, as a signal handler's does.
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._listener = Listener(
            path, engine, self._inbox, max_queued=max_queued, idle_reader_s=idle_reader_s
        )
        self._end_at: float | None = None

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Serves until stopped; running requests may end by themselves within drain_s. Calls `ready` once calls
        are accepted. An error of the step itself ends every call with a fault, and is raised."""
        self._listener.start()
        last: InhouseError = Unavailable("The engine failed. Send the request again.", code="engine_lost")
        try:
            if ready is not None:
                ready()
            while not self._is_over():
                self._obey()
                if self._engine.has_work:
                    self._listener.post(self._engine.step())
            last = Draining("The engine was shut down before the request ended. Send it again.")
        finally:
            self._listener.close(last)

    def stop(self) -> None:
        """Takes no new requests and lets running ones end. Called again, ends them at once."""
        self._inbox.put(Stop())

    def keep(self, wants: Mapping[str, int]) -> None:
        """These adapters stay on the device from now on, and no others. Any thread may say so; see `Engine.keep`."""
        self._inbox.put(Keep(wants))

    def _obey(self) -> None:
        """Carries out what was asked for; sleeps until something is when there is nothing else to do."""
        if not self._engine.has_work:
            self._do(self._inbox.get())
        while True:
            try:
                command = self._inbox.get_nowait()
            except Empty:
                return
            self._do(command)

    def _do(self, command: Command) -> None:
        match command:
            case Add(request):
                self._add(request)
            case Cancel(request_id):
                self._engine.cancel(request_id)
            case Keep(wants):
                self._engine.keep({} if self._end_at is not None else wants)
            case Stop():
                self._begin_end()

    def _add(self, request: Request) -> None:
        if self._end_at is not None:
            self._listener.post(
                [_fault(request, fault_of(Draining("The engine is shutting down. Send it again.")))]
            )
            return
        added = around_request(request.id, partial(self._engine.add, request))
        self._listener.post([_fault(request, added)] if isinstance(added, EngineFault) else added)

    def _begin_end(self) -> None:
        """The first time: no new requests, and the running ones get drain_s. The second time: now."""
        self._end_at = self._clock() + (self._drain_s if self._end_at is None else 0.0)
        self._engine.keep({})  # nothing more is loaded for those who may come
        self._listener.refuse(
            Draining("The engine is shutting down. Send the request again.", retry_after_s=1.0)
        )

    def _is_over(self) -> bool:
        return self._end_at is not None and (not self._engine.has_work or self._clock() >= self._end_at)


def _fault(request: Request, fault: EngineFault) -> Reply:
    return Reply(request.id, EngineFrame(fault=fault))
