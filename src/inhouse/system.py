"""What is asked of the operating system alike by the front of house and the workshop: durable folders, room, limits.

It knows no job, no file's meaning and no wire.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A disk or a quota has no room; some may come free."""
NO_ROOM = DISK_FULL | {errno.EFBIG}
"""The same, or a file may not grow so large."""


def sync_folder(folder: Path) -> None:
    """Makes renames in this folder last through a power cut, where the system lets folders be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def limit_memory(more_bytes: int) -> None:
    """This process may take so many more bytes of addresses than it has now, and leaves no core. Not every system can
    do that; it is left out there."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, used + more_bytes))
    except (ImportError, OSError, ValueError):
        return
