"""When keys were last used, on its way to the store: noted in memory, written at most once a minute a key.

It knows ids and times. A request notes and goes on; nothing waits for the store.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.server.threads import StoreThreads
from inhouse.store.records import keys

log = logging.getLogger(__name__)

WRITE_EVERY_S = 60.0
LOOK_EVERY_S = 1.0


class LastUse:
    """The newest use of each key that is not written yet."""

    def __init__(self, store: StoreThreads) -> None:
        self.store = store
        self._used: dict[str, float] = {}
        """Key → Unix seconds of its newest use."""
        self._written: dict[str, float] = {}
        """Key → monotonic seconds of its newest writing."""

    def note(self, key: str) -> None:
        self._used[key] = time.time()

    async def flush(self, *, all: bool = False) -> None:
        """Writes what is due; with `all`, whatever waits."""
        now = time.monotonic()
        due = {
            key: at
            for key, at in self._used.items()
            if all or now - self._written.get(key, -WRITE_EVERY_S) >= WRITE_EVERY_S
        }
        if not due:
            return
        try:
            await self.store.write(lambda conn: keys.note_use(conn, due))
        except (InhouseError, SQLAlchemyError) as error:
            log.warning("the last use of %d keys waits to be written: %s", len(due), type(error).__name__)
            return
        for key, at in due.items():
            self._written[key] = now
            if self._used[key] == at:
                del self._used[key]
        self._written = {key: at for key, at in self._written.items() if now - at < WRITE_EVERY_S}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.flush()
