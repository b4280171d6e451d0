"""A network between a worker and PostgreSQL that can be slow, silent, cut or gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Mode = Literal["pass", "silent", "refuse"]


class Proxy:
    """Listens on a loopback port and hands all bytes to a unix socket and back. Use it with `with`.

    Where it is silent, bytes wait as they do in a network that will be mended; where it refuses, connections end.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.delay_s = 0.0
        self.port = 0
        self._mode: Mode = "pass"
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def become(self, mode: Mode) -> None:
        """From now on; refusing also ends what is open."""
        self._mode = mode
        if mode == "refuse":
            self.reset()

    def reset(self) -> None:
        """Every connection ends at once, in the middle of whatever it was."""
        self._soon(lambda: [writer.transport.abort() for writer in list(self._open)])

    def _soon(self, do: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(do)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            writer.transport.abort()
            return
        try:
            theirs, ours = await asyncio.open_unix_connection(str(self.target))
        except OSError:  # nobody listens there
            writer.transport.abort()
            return
        ends = {writer, ours}
        self._open |= ends
        try:
            await asyncio.gather(self._pump(reader, ours), self._pump(theirs, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_s)
                while self._mode == "silent":
                    await asyncio.sleep(0.02)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # it was reset: the other way ends with it
        writer.transport.abort()
