"""A server over a prepared folder, in a process of its own that may be killed: `batch_server FOLDER [OPTIONS]`.

It says its address, and then serves. The options take a guard out, or make it die at a place of its own choosing:
    --die-in NOTE|END   kill -9 of itself in the midst of that write, the first time that it comes there
    --no-transaction    each statement is a transaction of its own
    --no-fence          whoever once held a batch may write to it
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inhouse.jobs import batches as queue
from inhouse.schema import File
from inhouse.server.app import create_app
from inhouse.server.listener import Listener
from inhouse.server.place import listen
from inhouse.settings import Settings
from inhouse.store import tables
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import files, usage

PLACES: dict[str, tuple[Any, str]] = {"NOTE": (usage, "add_many"), "END": (files, "add")}
"""What is called in the midst of each write, after its first statements."""


def autocommit(set_attribute: Callable[[Any, str, Any], object]) -> None:
    """Takes transactions away: what one statement wrote lasts from the next one on, whatever comes."""

    def keep(conn: sa.Connection, *_: object) -> None:
        driver: Any = conn.connection.driver_connection
        if conn.dialect.name == "postgresql":
            driver.commit()
        else:
            driver.execute("COMMIT")
            driver.execute("BEGIN IMMEDIATE")

    known = Database.write

    @contextlib.contextmanager
    def write(self: Database) -> Iterator[sa.Connection]:
        with known(self) as conn:
            sa.event.listen(conn, "before_cursor_execute", keep)
            yield conn

    set_attribute(Database, "write", write)


def die_once(folder: Path, place: str) -> None:
    """Kills this process where `place` says, unless it was killed there before."""
    module, name = PLACES[place]
    known = getattr(module, name)
    died = folder / "died"

    def dying(conn: sa.Connection, *rest: Any) -> None:
        is_upload = isinstance(rest[0], File) and rest[0].purpose == "batch"
        if not died.exists() and not is_upload:
            conn.exec_driver_sql("SELECT 1")  # without transactions, what came before lasts now
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        known(conn, *rest)

    setattr(module, name, dying)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die-in", choices=[*PLACES])
    parser.add_argument("--no-transaction", action="store_true")
    parser.add_argument("--no-fence", action="store_true")
    asked = parser.parse_args()
    if asked.die_in:
        die_once(asked.folder, asked.die_in)
    if asked.no_transaction:
        autocommit(setattr)
    if asked.no_fence:
        queue._held = lambda batch: tables.batches.c.id == batch.id
    settings = Settings(data_dir=asked.folder, worker=False, lease_s=1.0, max_running=8, load_wait_s=5.0)
    app = create_app(settings, Database(settings.database), Artifacts(settings.artifacts_dir))
    server, listener = Listener(app), listen("127.0.0.1", 0)
    server.config.port = listener.getsockname()[1]
    print(f"http://127.0.0.1:{server.config.port}", flush=True)
    asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
