"""Room on the disk: a job that finds none waits for it, and folders of jobs that have ended are removed."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inhouse.errors import NotFound, StorageFull
from inhouse.schema import TERMINAL_STATES
from inhouse.store.db import Database
from inhouse.store.records import jobs as records
from inhouse.system import DISK_FULL

log = logging.getLogger(__name__)

FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 30.0
ROOM_BYTES = 16 * 2**20
"""What must be free before a job goes on: an adapter's checkpoint with some to spare."""


@contextmanager
def storage_full() -> Iterator[None]:
    """Says StorageFull where the system says that a disk or a quota is full."""
    try:
        yield
    except OSError as e:
        if e.errno not in DISK_FULL:
            raise
        raise StorageFull(
            f"No space left to write {e.filename or 'a file'}. Free some, and the job goes on."
        ) from e


def wait_for_room(folder: Path, times: int) -> None:
    """Returns when there is room again; each time in a row it waits longer, for what was free may not be enough."""
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**times)
    time.sleep(wait_s)
    while shutil.disk_usage(folder).free < ROOM_BYTES:
        time.sleep(wait_s)


def sweep_scratch(db: Database, scratch: Path) -> None:
    """Removes the folders of jobs that have ended: cancelled ones, and those whose worker died at the last moment."""
    for folder in scratch.glob("*"):
        with db.read() as conn:
            try:
                is_over = records.get(conn, None, folder.name).state in TERMINAL_STATES
            except NotFound:
                is_over = True
        if is_over:
            shutil.rmtree(folder, ignore_errors=True)
