"""Forgets the rows whose time is over: idempotency keys, files that expire, and deliveries long over."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.server.threads import StoreThreads
from inhouse.store.db import clock
from inhouse.store.records import files, idempotency, webhooks

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600.0


async def keep_swept(store: StoreThreads) -> None:
    """Now, and every hour. A store that fails is asked again then."""
    while True:
        try:
            await store.write(_sweep)
        except (InhouseError, SQLAlchemyError) as error:
            log.warning("what is over could not be swept: %s", type(error).__name__)
        await asyncio.sleep(SWEEP_EVERY_S)


def _sweep(conn: Connection) -> None:
    now = clock(conn)
    idempotency.sweep(conn, now)
    files.sweep(conn)
    webhooks.sweep(conn, now)
