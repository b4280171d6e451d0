"""Tokens used, on their way to the store: gathered, and written together a moment later.

It knows rows and when to write them, not what they are counted for.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.server.threads import StoreThreads
from inhouse.store.records import usage
from inhouse.store.records.usage import UsageRow

log = logging.getLogger(__name__)

WRITE_EVERY_S = 0.5
MOST_WAITING = 100_000
"""Rows kept while the store takes none; beyond, the oldest are lost, and the log says how many."""


class UsageLog:
    """Rows wait here until they are in the store; whatever ails the store makes them wait longer."""

    def __init__(self, store: StoreThreads) -> None:
        self.store = store
        self._waiting: list[UsageRow] = []
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Rows that are not in the store yet."""
        return len(self._waiting)

    def append(self, row: UsageRow) -> None:
        self._waiting.append(row)

    async def flush(self) -> None:
        """Afterwards all that was added before is in the store, unless the store takes none."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        """Rows wait until they are written. Whoever is cut off may have written them: twice is as good as once."""
        rows = self._waiting[:]
        if not rows:
            return
        try:
            await self.store.write(lambda conn: usage.add_many(conn, rows))
        except (InhouseError, SQLAlchemyError) as error:
            reason = error.message if isinstance(error, InhouseError) else type(error).__name__
            log.warning("usage of %d requests waits to be written: %s", len(self._waiting), reason)
            if (lost := len(self._waiting) - MOST_WAITING) > 0:
                del self._waiting[:lost]
                log.error("usage of the %d oldest requests that waited is lost", lost)
        else:
            del self._waiting[: len(rows)]

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.flush()
