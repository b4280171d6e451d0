"""The process a job runs in: `python -m inhouse.worker.child JOB FENCE`.

Exit code 0 means that the job's outcome is in the store, whatever it was; any other, that the process failed
and the job should be tried again.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

from inhouse import settings as settings_module
from inhouse.errors import Diverged, InhouseError, LeaseLost, StoreBusy
from inhouse.jobs import queue
from inhouse.schema import Job, JobFault
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import jobs as records
from inhouse.worker.context import Context
from inhouse.worker.parent import end_with_parent
from inhouse.worker.tasks import TASKS

log = logging.getLogger(__name__)


def main(job_id: str, fence: int) -> int:
    """Runs one job to its end."""
    settings = settings_module.load()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    end_with_parent(lambda: os._exit(1))
    db = Database(settings.database)
    with db.read() as conn:
        job = records.get(conn, None, job_id)
    scratch = Path(settings.scratch_dir / job_id)
    scratch.mkdir(parents=True, exist_ok=True)
    context = Context(settings, db, Artifacts(settings.artifacts_dir), job, fence, scratch)
    try:
        TASKS[job.kind](context)
    except LeaseLost:
        log.info("%s: the claim has passed on; stopping", job_id)
    except StoreBusy as e:
        log.warning(
            "%s: the store is away (%s); another attempt will go on from the last checkpoint", job_id, e
        )
        return 1
    except Exception as e:  # noqa: BLE001 - the worker around a job: one of the three places
        return _end_as_failed(db, job, fence, e)
    return 0


def _end_as_failed(db: Database, job: Job, fence: int, error: Exception) -> int:
    fault = _fault(error)
    if fault.code == "internal_error":
        log.error("%s failed:\n%s", job.id, "".join(traceback.format_exception(error)))
    try:
        queue.finish(
            db,
            job.id,
            fence,
            "failed",
            error=fault,
            publish=lambda conn: records.add_event(
                conn, job.id, fault.message, db.clock(conn), level="error", fence=None
            ),
        )
    except LeaseLost:
        log.info("%s: failed, but the claim had passed on", job.id)
    return 0


def _fault(error: Exception) -> JobFault:
    """What the owner of the job reads. Our own errors speak for themselves; a stranger's is our fault."""
    if isinstance(error, InhouseError):
        code = "diverged" if isinstance(error, Diverged) else error.code
        return JobFault(code=code, message=error.message, param=error.param)
    if (
        isinstance(error, MemoryError)
        or "out of memory" in str(error)
        or "can't allocate memory" in str(error)
    ):
        return JobFault(
            code="out_of_memory",
            message="The job needed more memory than there is. Lower batch_size, shorten the longest rows, or take "
            "a smaller base.",
        )
    return JobFault(
        code="internal_error",
        message=f"The job failed on an internal error ({type(error).__name__}). The worker's log holds the details.",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
