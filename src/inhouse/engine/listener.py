"""The engine's socket: an event loop in a thread of its own, so that no caller ever holds up a step.

It knows calls, frames and connections. What a call asks for it hands on: text is prepared in a small pool, the
rest goes to the engine's thread as a command. One connection is one call; its end is the call's cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from weakref import WeakValueDictionary

from pydantic import ValidationError

from inhouse.engine.connection import Connection
from inhouse.engine.engine import Engine, Reply
from inhouse.engine.faults import Result, around_request, fault_of
from inhouse.engine.request import Request
from inhouse.errors import EngineOverloaded, InhouseError, InvalidRequest
from inhouse.schema import EngineCall, EngineFault, EngineFrame, EngineOp, EngineRequest

log = logging.getLogger(__name__)

MAX_CALL_BYTES = 64 * 2**20
"""Length of a call's line; the gateway bounds bodies far below."""
CALL_S = 10.0
"""How long a caller may take to say what it wants."""
SWEEP_S = 0.25
"""How often readers are looked at that may stand still."""
CLOSE_S = 2.0
"""How long last frames may take to be read when the engine ends."""
PREPARING_THREADS = 2
"""For text; and as many more each for what asks a memory, which may first have to load, and for what has a grammar,
which has to be built: then others do not wait."""
MAX_PATH_BYTES = 100
"""Systems allow a socket's path 104 to 108 bytes."""


@dataclass(frozen=True, slots=True)
class Add:
    """Queue this request."""

    request: Request


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget this request, if it is still there."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep these adapters on the device, by key with their rank rows, and no others."""

    wants: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stop:
    """Take no new requests and end; the second time, end now."""


Command = Add | Cancel | Keep | Stop
"""What the engine's thread is asked to do."""


class Listener:
    """Accepts calls at a path. `start` and `close` are the owner's; `post` is the engine's."""

    def __init__(
        self,
        path: Path,
        engine: Engine,
        inbox: SimpleQueue[Command],
        *,
        max_queued: int,
        idle_reader_s: float,
    ) -> None:
        self._path = path
        self._engine = engine  # only its intake, its stats and its size, which any thread may use
        self._inbox = inbox
        self._max_queued = max_queued
        self._idle_reader_s = idle_reader_s
        self._thread = threading.Thread(target=self._run, name="engine-socket", daemon=True)
        self._pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="engine-text")
        self._memory_pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="engine-memory")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._grammar_pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="engine-grammar")
        self._connections: dict[str, tuple[Connection, int]] = {}
        """Whose each request is, and its number there."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._refuse: InhouseError | None = None
        self._number = 0
        self._evicted = 0

    def start(self) -> None:
        """Binds and listens. Raises InvalidRequest where the path cannot be a private socket."""
        _make_private(self._path)
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        with contextlib.ExitStack() as undo:
            undo.callback(self._stop_loop)
            self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
            undo.pop_all()

    def post(self, replies: list[Reply]) -> None:
        """Hands frames to their connections; never waits."""
        if replies:
            self._loop.call_soon_threadsafe(self._dispatch, replies)

    def refuse(self, error: InhouseError) -> None:
        """From now on new calls get this error."""
        self._refuse = error

    def close(self, error: InhouseError) -> None:
        """Ends every open call with the error, waits for readers a moment, and removes the socket."""
        asyncio.run_coroutine_threadsafe(self._end(error), self._loop).result()
        self._stop_loop()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._pool.shutdown()
        self._memory_pool.shutdown(cancel_futures=True)
        self._grammar_pool.shutdown(cancel_futures=True)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_unix_server(self._accept, self._path, limit=MAX_CALL_BYTES, backlog=1024)
        self._path.chmod(0o600)
        self._sweeper = asyncio.create_task(self._sweep())
        return server

    async def _end(self, error: InhouseError) -> None:
        self._refuse = error
        self._server.close()
        for connection, number in self._connections.values():
            connection.put(EngineFrame(fault=fault_of(error)), number)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._sweeper, *self._tasks, return_exceptions=True)

    def _dispatch(self, replies: list[Reply]) -> None:
        for reply in replies:
            if found := self._connections.get(reply.request_id):
                connection, number = found
                connection.put(reply.frame, number)

    async def _sweep(self) -> None:
        """Puts out readers that stand still, so that what they hold is others'."""
        while True:
            await asyncio.sleep(SWEEP_S)
            for request_id, (connection, _) in list(self._connections.items()):
                if connection.stalled_s() > self._idle_reader_s:
                    log.warning("request %s: its reader stood still and was put out", request_id)
                    self._evicted += 1
                    connection.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio accepts inside a task"
        self._tasks.add(task)
        connection = Connection(writer, time.monotonic)
        try:
            await self._answer(reader, connection)
            await connection.close()
        except (OSError, asyncio.CancelledError):
            pass  # the caller is gone, took too long, was put out, or the engine ends
        finally:
            connection.abort()
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        try:
            async with asyncio.timeout(CALL_S):
                line = await reader.readline()
            call = EngineCall.model_validate_json(line)
        except ValueError as error:  # over the limit, or no such call
            reason = "not a call" if isinstance(error, ValidationError) else f"over {MAX_CALL_BYTES} bytes"
            await self._tell(connection, InvalidRequest(f"The engine was sent a line that is {reason}."))
            return
        if call.op == "stats":
            connection.put(EngineFrame(stats=self._engine.stats | self._numbers()))
            await connection.pump()
        elif call.op == "generate" and call.bundle:
            await self._generate(call.bundle, reader, connection)
        elif call.request is None:
            await self._tell(
                connection, InvalidRequest(f"A call to {call.op} needs a request.", param="request")
            )
        elif self._refuse is not None:
            await self._tell(connection, self._refuse)
        elif call.op in ("explain", "verify"):
            await self._look(call.op, call.request, connection)
        else:
            await self._generate((call.request,), reader, connection)

    async def _look(self, op: EngineOp, call: EngineRequest, connection: Connection) -> None:
        """Answers a question about a call that is not to be generated, by the threads that may take their time."""
        intake = self._engine.intake

        def look() -> EngineFrame:
            if op == "verify":
                return EngineFrame(verified=tuple(intake.verify(call)))
            return EngineFrame(explained=intake.explain(call))

        seen = await self._loop.run_in_executor(self._memory_pool, around_request, call.id, look)
        connection.put(EngineFrame(fault=seen) if isinstance(seen, EngineFault) else seen)
        await connection.pump()

    async def _generate(
        self, calls: tuple[EngineRequest, ...], reader: asyncio.StreamReader, connection: Connection
    ) -> None:
        """Serves a call's requests until their last frames are out or their caller is gone."""
        connection.expect(len(calls), whole=all(call.whole for call in calls))
        taken: dict[str, EngineRequest] = {}
        for number, call in enumerate(calls):
            if refusal := self._refuse or self._crowd():
                connection.put(EngineFrame(fault=fault_of(refusal)), number)
                continue
            self._number += 1
            request_id = f"{call.id}/{self._number}"  # unique, whatever callers call theirs
            # It counts as waiting from here on; nothing was awaited since `_crowd` looked.
            self._connections[request_id] = connection, number
            taken[request_id] = call
        work = asyncio.create_task(self._prepare_and_pump(taken, connection))
        gone = asyncio.create_task(_read_to_end(reader))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for request_id in taken:
                del self._connections[request_id]
                self._inbox.put(Cancel(request_id))
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _prepare_and_pump(self, calls: Mapping[str, EngineRequest], connection: Connection) -> None:
        """Plain text of a bundle is prepared in one go; what may take its time, each by itself."""
        plain = {request_id: call for request_id, call in calls.items() if _is_plain(call)}
        others = [{request_id: call} for request_id, call in calls.items() if request_id not in plain]
        async with asyncio.TaskGroup() as group:
            for part in (plain, *others):
                if part:
                    group.create_task(self._prepare(part))
            group.create_task(connection.pump())  # what is ready leaves, whatever others take

    async def _prepare(self, calls: Mapping[str, EngineRequest]) -> None:
        """Hands the calls to the engine's thread as requests, or their callers what is wrong with them."""
        prepare = self._engine.intake.prepare

        def work() -> list[Request | EngineFault]:
            return [around_request(id, partial(prepare, call, id)) for id, call in calls.items()]

        for request_id, request in zip(calls, await self._off_loop([*calls.values()], work), strict=True):
            connection, number = self._connections[request_id]
            if isinstance(request, EngineFault):
                connection.put(EngineFrame(fault=request), number)
            else:
                self._inbox.put(Add(request))

    async def _off_loop(self, calls: list[EngineRequest], work: Callable[[], Result]) -> Result:
        """What the work for some calls gives; neither the loop nor the step waits for it."""
        if calls[0].structure is not None or calls[0].tools is not None:
            return await self._in_turn(calls[0].project, work)
        pool = self._memory_pool if calls[0].memory else self._pool
        return await self._loop.run_in_executor(pool, work)

    async def _in_turn(self, project: str, work: Callable[[], Result]) -> Result:
        """What work with a grammar gives, which may take seconds: a project has one thread at a time, and so keeps
        no other waiting for more than one such work. A caller that leaves does not end its project's turn."""
        turn = self._turns.setdefault(project, asyncio.Lock())
        await turn.acquire()
        given = self._grammar_pool.submit(work)
        given.add_done_callback(lambda _: self._loop.call_soon_threadsafe(turn.release))
        return await asyncio.wrap_future(given)

    async def _tell(self, connection: Connection, error: InhouseError) -> None:
        connection.put(EngineFrame(fault=fault_of(error)))
        await connection.pump()

    def _crowd(self) -> EngineOverloaded | None:
        """Why no further request may wait; None: one may. Those for whom there is a free place do not wait, though the
        step has not met them yet: of a crowd that comes in one moment all are here before any of them runs."""
        now = self._engine.stats
        free = self._engine.scheduler.max_running - now["running"]
        if len(self._connections) - now["running_requests"] < self._max_queued + free:
            return None
        busy = f"{self._max_queued} requests are waiting for this engine. Try again shortly."
        return EngineOverloaded(busy, retry_after_s=1.0)

    def _numbers(self) -> dict[str, float]:
        return {"connections": len(self._connections), "readers_put_out_total": self._evicted}


def _is_plain(call: EngineRequest) -> bool:
    """Whether a call needs nothing but its text prepared."""
    return call.memory is None and call.structure is None and call.tools is None


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass


def _make_private(path: Path) -> None:
    """A folder that only we can enter, without an old socket in it."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise InvalidRequest(
            f"{path} is too long for a socket ({MAX_PATH_BYTES} bytes). Set a shorter data_dir.",
            param="data_dir",
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.parent.stat().st_mode
    if stat.S_IMODE(mode) & 0o077:
        if mode & stat.S_ISVTX:
            raise InvalidRequest(
                f"{path.parent} is shared by all users; the engine's socket needs its own folder."
            )
        path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
