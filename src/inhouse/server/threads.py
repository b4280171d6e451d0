"""The store, asked from the event loop: a few threads, so that a slow database never stops a stream.

It knows no question; each is a function that takes a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from inhouse.store.db import Database

T = TypeVar("T")

STORE_THREADS = 4
FILE_THREADS = 16
"""Uploads wait for their clients, so they have threads of their own."""


class StoreThreads:
    """Runs questions in threads. `read` and `write` are one transaction each."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._store = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")

    async def read(self, ask: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.db.read() as conn:
                return ask(conn)

        return await self.run(run)

    async def write(self, change: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.db.write() as conn:
                return change(conn)

        return await self.run(run)

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._store, work)

    async def run_with_files(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def close(self) -> None:
        self._store.shutdown(wait=True)
        self._files.shutdown(wait=False, cancel_futures=True)
