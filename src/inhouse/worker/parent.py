"""A process that must not outlive its parent watches its standard input, which ends when the parent does."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable


def end_with_parent(stop: Callable[[], None]) -> None:
    """Calls `stop` from a thread once standard input ends, however the parent went, kill -9 included.

    Does nothing unless standard input is a pipe: then a person, or a service manager, started this process.
    """
    stream = sys.stdin
    if stream is None or stream.closed or not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
        return

    def watch() -> None:
        while stream.buffer.read(4096):
            pass
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
