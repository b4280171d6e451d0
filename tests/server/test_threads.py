"""Readers of the store wait for nobody who writes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from inhouse.server.threads import STORE_THREADS, StoreThreads
from inhouse.store.db import Database
from inhouse.store.migrations import migrate


def one(conn: Connection) -> Any:
    return conn.exec_driver_sql("SELECT 1").scalar()


async def read_beside_waiting_writers(store: StoreThreads, file: Path, *, least: int) -> float:
    """Seconds that a read takes while another process holds the database and `least` writers wait for it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        db = store.db

        def own() -> None:
            with db.write() as conn:
                one(conn)

        ways: tuple[Callable[[], Any], ...] = (lambda: store.write(one), lambda: store.run(own))
        writers = [asyncio.create_task(ways[i % 2]()) for i in range(least)]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        reading = asyncio.create_task(store.read(one))
        await asyncio.wait([reading], timeout=1.5)
        took_s = time.monotonic() - started
        assert not any(writer.done() for writer in writers), "they wait still"
        other.execute("ROLLBACK")
        await asyncio.gather(reading, *writers)
    return took_s


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_read_is_answered_beside_any_number_of_waiting_writers(tmp_path: Path, is_guarded: bool) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    migrate(db)
    store = StoreThreads(db)
    if not is_guarded:
        store._writers.shutdown()
        store._writers = store._store
    took_s = asyncio.run(read_beside_waiting_writers(store, tmp_path / "x.db", least=3 * STORE_THREADS))
    assert (took_s < 1.0) is is_guarded, "control: with threads in common it waits"
    store.close()
    db.dispose()
