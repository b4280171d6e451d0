"""The process a job runs in: `python -m inhouse.worker.child JOB FENCE`.

Exit code 0 means that the job's outcome is in the store, whatever it was; any other, that the process failed
and the job should be tried again.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback

from sqlalchemy import Connection

from inhouse import settings as settings_module
from inhouse.errors import (
    BadRows,
    Diverged,
    InhouseError,
    InvalidRequest,
    LeaseLost,
    StorageFull,
    StoreBusy,
    Unavailable,
)
from inhouse.jobs import queue
from inhouse.schema import TERMINAL_STATES, JobFault
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import require_current
from inhouse.store.records import jobs as records
from inhouse.worker.context import Context
from inhouse.worker.main import OTHER_RELEASE
from inhouse.worker.parent import end_with_parent
from inhouse.worker.room import storage_full, wait_for_room
from inhouse.worker.tasks import TASKS

log = logging.getLogger(__name__)


def main(job_id: str, fence: int) -> int:
    """Runs one job to its end."""
    os.umask(0o077)
    settings = settings_module.load()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    end_with_parent(lambda: os._exit(1))
    db = Database(settings.database)
    with db.read() as conn:
        try:
            require_current(conn)
        except InvalidRequest as e:
            log.error("%s is left alone: %s", job_id, e.message)
            return OTHER_RELEASE
        job = records.get(conn, None, job_id)
    scratch = settings.scratch_dir / job_id
    context = Context(settings, db, Artifacts(settings.artifacts_dir), job, fence, scratch)
    try:
        _run(context)
    except LeaseLost:
        log.info("%s: the claim has passed on; stopping", job_id)
        return 0
    except StoreBusy as e:
        log.warning(
            "%s: the store is away (%s); another attempt will go on from the last checkpoint", job_id, e
        )
        return 1
    except Exception as e:  # noqa: BLE001 - the worker around a job: one of the three places
        _end_as_failed(context, e)
    if _is_over(context):
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _is_over(context: Context) -> bool:
    """Whether the job has ended. A paused one goes on from what lies in its folder, so a doubt keeps that."""
    try:
        with context.db.read() as conn:
            return records.get(conn, None, context.job.id).state in TERMINAL_STATES
    except Unavailable as e:
        log.warning("%s: its folder stays for now: %s", context.job.id, e.message)
        return False


def _run(context: Context) -> None:
    """Runs the task; where a disk is full it waits, and begins again from the last checkpoint."""
    times = 0
    while True:
        try:
            with storage_full():
                context.scratch.mkdir(parents=True, exist_ok=True)
            TASKS[context.job.kind](context)
            return
        except StorageFull as e:
            log.warning("%s pauses: %s", context.job.id, e.message)
            _set_state(context, "paused: disk_full")
            wait_for_room(context.settings.data_dir, times)
            _set_state(context, None)
            times += 1


def _set_state(context: Context, word: str | None) -> None:
    try:
        with context.db.write() as conn:
            records.set_x_state(conn, context.job.id, context.fence, word)
    except StorageFull as e:
        log.warning("%s: the database's disk is full too: %s", context.job.id, e.message)


def _end_as_failed(context: Context, error: Exception) -> None:
    fault = _fault(error)
    job, db = context.job, context.db
    if fault.code == "internal_error":  # where it happened, but not its words: they may quote someone's data
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s failed: %s\n%s", job.id, type(error).__name__, where)
    said = [str(problem) for problem in error.problems] if isinstance(error, BadRows) else [fault.message]

    def tell(conn: Connection) -> None:
        for line in said:
            records.add_event(conn, job.id, line, db.clock(conn), level="error", fence=None)

    try:
        queue.finish(db, job.id, context.fence, "failed", error=fault, publish=tell)
    except LeaseLost:
        log.info("%s: failed, but the claim had passed on", job.id)


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
