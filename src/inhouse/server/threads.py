"""The store, asked from the event loop: a few threads, so that a slow database never stops a stream.

It knows no question; each is a function that takes a connection. What a request cannot do without (whose key it is,
which model is meant, which engine holds it) is believed for a minute while the store is away.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection

from inhouse.errors import InhouseError, StoreBusy
from inhouse.store.db import Database

T = TypeVar("T")

STORE_THREADS = 4
"""Of those that read, and as many again that write: writers wait for one another, and readers for nobody."""
FILE_THREADS = 16
"""Uploads wait for their clients, so they have threads of their own."""
BELIEVED_S = 60.0
"""How long an answer of the store stands in while the store is away. Nothing can be revoked there meanwhile."""
SILENT_S = 2.0
"""A store that has not answered by then is away, where there is an answer to believe. A cut network says nothing."""
ASK_AGAIN_S = 0.5
"""How soon a store that was away is asked again; until then answers are believed at once."""
MOST_BELIEVED = 20_000


def _ignore(op: str, took_s: float) -> None:
    """Nobody wants to know."""


class StoreThreads:
    """Runs questions in threads. `read` and `write` are one transaction each."""

    def __init__(self, db: Database, note: Callable[[str, float], object] = _ignore) -> None:
        """note  is told of each transaction: "read" or "write", and how many seconds it took, its wait included"""
        self.db = db
        self._note = note
        self._store = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._writers = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store-writer")
        self._files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        """By the question's name: when the store gave it, and the answer."""
        self._ask_again = 0.0

    async def believed(
        self,
        name: Hashable,
        ask: Callable[[Connection], T],
        keep: Callable[[T], bool] = lambda found: found is not None,
    ) -> T:
        """What the store answers, or while it is away what it answered last, if that was BELIEVED_S ago at most.

        Only answers that `keep` says may stand in are kept. Raises StoreBusy where there is none.
        """
        at, before = self._answers.get(name, (-BELIEVED_S, None))
        is_believed = time.monotonic() - at < BELIEVED_S and name in self._answers
        if is_believed and time.monotonic() < self._ask_again:
            return before  # type: ignore[no-any-return]
        asked_at = time.monotonic()
        asking = asyncio.ensure_future(self.read(ask))
        try:
            found = await asyncio.wait_for(asyncio.shield(asking), SILENT_S) if is_believed else await asking
        except (StoreBusy, TimeoutError):
            if not is_believed:
                raise
            asking.add_done_callback(_look_away)
            self._ask_again = time.monotonic() + ASK_AGAIN_S
            return before  # type: ignore[no-any-return]
        except InhouseError:  # such as a model that there is not any more
            self._answers.pop(name, None)
            raise
        if len(self._answers) >= MOST_BELIEVED:
            self._answers.clear()
        self._answers.pop(name, None)
        if keep(found):
            self._answers[name] = asked_at, found
        return found

    def disbelieve(self) -> None:
        """Something was changed here that answers may say otherwise: a key, a project, a limit."""
        self._answers.clear()

    async def read(self, ask: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.db.read() as conn:
                return ask(conn)

        return await self._timed("read", self._store, run)

    async def write(self, change: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.db.write() as conn:
                return change(conn)

        return await self._timed("write", self._writers, run)

    async def _timed(self, op: str, pool: ThreadPoolExecutor, run: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return await self._in(pool, run)
        finally:
            self._note(op, time.monotonic() - started)

    async def run(self, work: Callable[[], T]) -> T:
        """Work with transactions of its own, which may write."""
        return await self._in(self._writers, work)

    async def run_with_files(self, work: Callable[[], T]) -> T:
        return await self._in(self._files, work)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """In a thread, where lines of the log are about the same request as here."""
        about = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: about.run(work))

    def close(self) -> None:
        self._store.shutdown(wait=True)
        self._writers.shutdown(wait=True)
        self._files.shutdown(wait=False, cancel_futures=True)


def _look_away(asked: asyncio.Future[Any]) -> None:
    """An answer that came too late is nobody's, and neither is its error."""
    if not asked.cancelled():
        asked.exception()
