"""A job in a process with BYTES beside what it has once it is loaded, and maybe no second try; then as every child."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from inhouse.worker import child

if __name__ == "__main__":
    room, retry, job_id, fence, note = sys.argv[1:]
    if retry == "no-retry":
        child.halve = lambda context: False  # type: ignore[assignment]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(room)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.exit(child.main(job_id, int(fence), Path(note)))
