"""The store, asked from the event loop: a few threads, so that a slow database never stops a stream.

It knows no question; each is a function that takes a connection.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from inhouse.store.db import Database

T = TypeVar("T")

STORE_THREADS = 4
FILE_THREADS = 16
"""Uploads wait for their clients, so they have threads of their own."""


def _ignore(op: str, took_s: float) -> None:
    """Nobody wants to know."""


class StoreThreads:
    """Runs questions in threads. `read` and `write` are one transaction each."""

    def __init__(self, db: Database, note: Callable[[str, float], object] = _ignore) -> None:
        """note  is told of each transaction: "read" or "write", and how many seconds it took, its wait included"""
        self.db = db
        self._note = note
        self._store = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")

    async def read(self, ask: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.db.read() as conn:
                return ask(conn)

        return await self._timed("read", run)

    async def write(self, change: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.db.write() as conn:
                return change(conn)

        return await self._timed("write", run)

    async def _timed(self, op: str, run: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return await self.run(run)
        finally:
            self._note(op, time.monotonic() - started)

    async def run(self, work: Callable[[], T]) -> T:
        return await self._in(self._store, work)

    async def run_with_files(self, work: Callable[[], T]) -> T:
        return await self._in(self._files, work)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """In a thread, where lines of the log are about the same request as here."""
        about = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: about.run(work))

    def close(self) -> None:
        self._store.shutdown(wait=True)
        self._files.shutdown(wait=False, cancel_futures=True)
