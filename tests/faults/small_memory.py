"""A job in a process with BYTES beside what it has once it is loaded, and maybe no second try; then as every child."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

from inhouse.worker import child

M_ARENA_MAX = -8
"""From malloc.h."""

if __name__ == "__main__":
    room, retry, job_id, fence, note = sys.argv[1:]
    if retry == "no-retry":
        child.halve = lambda context: False  # type: ignore[assignment]
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)  # else each thread takes 64 MB of addresses, or not
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(room)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.exit(child.main(job_id, int(fence), Path(note)))
