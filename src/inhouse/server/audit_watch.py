"""Looks at the audit log's chain now and then, and remembers its head outside the database.

It knows the chain and a clock. Who may change the whole database may forge all of it, but not what this process
has seen.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.server.threads import StoreThreads
from inhouse.store.chain import Head
from inhouse.store.records import audit

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3600.0


class AuditWatch:
    """How many places of the log were not what was written, at the last look."""

    def __init__(self, store: StoreThreads) -> None:
        self.store = store
        self.breaks: int | None = None
        """None until the first look is over."""
        self._noted: Head | None = None

    async def look(self) -> None:
        """Walks the whole chain. A head that was seen whole is held against later ones."""
        noted = self._noted
        try:
            head, broken = await self.store.read(lambda conn: audit.verify(conn, noted))
        except (InhouseError, SQLAlchemyError) as error:
            log.warning("the audit log could not be looked at: %s", type(error).__name__)
            return
        self.breaks = len(broken)
        if broken:
            log.error(
                "the audit log is not what was written, first at act %d: see `inhouse audit verify`",
                broken[0].seq,
            )
        else:
            self._noted = head

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)
