"""Forgets the rows whose time is over: idempotency keys, files that expire, and deliveries long over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.server.threads import StoreThreads
from inhouse.store.db import clock
from inhouse.store.records import files, idempotency, webhooks

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600.0
SWEEPS: dict[str, Callable[[Connection], object]] = {
    "idempotency keys": lambda conn: idempotency.sweep(conn, clock(conn)),
    "files": files.sweep,
    "deliveries": lambda conn: webhooks.sweep(conn, clock(conn)),
}
"""Each in a transaction of its own."""


async def keep_swept(store: StoreThreads) -> None:
    """Now, and every hour. A store that fails is asked again then."""
    while True:
        for what, sweep in SWEEPS.items():
            try:
                await store.write(sweep)
            except (InhouseError, SQLAlchemyError) as error:
                log.warning("%s that are over could not be swept: %s", what, type(error).__name__)
        await asyncio.sleep(SWEEP_EVERY_S)
