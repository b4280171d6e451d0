"""A job's process in which opening a base fails: FOLDER ERROR TIMES, then what every child is given.

It fails in as many processes as TIMES says, which are counted in FOLDER; after that all is well.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from inhouse import errors
from inhouse.worker import child, tasks

if __name__ == "__main__":
    folder, error, times, job_id, fence, note = sys.argv[1:]
    refusals = Path(folder) / "refusals"
    refused = len(refusals.read_text().splitlines()) if refusals.exists() else 0
    if refused < int(times):
        with refusals.open("a") as file:
            file.write(f"{job_id} {fence}\n")

        def refuse(*_: Any, **__: Any) -> Any:
            raise getattr(errors, error)("Nobody answers.")

        tasks.open_base = refuse
    sys.exit(child.main(job_id, int(fence), Path(note)))
