"""The process a job runs in: `python -m inhouse.worker.child JOB FENCE DEVICE-NOTE`.

Exit code 0 means that the job's outcome is in the store, whatever it was; the others (`worker.ends`), that the
process failed and the job should be tried again.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback
from pathlib import Path

from sqlalchemy import Connection

from inhouse import device as devices
from inhouse import logs
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
from inhouse.schema import TERMINAL_STATES, Job, JobFault
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import require_current
from inhouse.store.records import jobs as records
from inhouse.worker import device_note, ends
from inhouse.worker.context import Context
from inhouse.worker.micro import halve
from inhouse.worker.parent import end_with_parent
from inhouse.worker.patience import patiently
from inhouse.worker.room import storage_full, wait_for_room
from inhouse.worker.tasks import TASKS

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
)
"""What allocators say; the last two are of matrix products on a processor, which have no word for the reason."""


def main(job_id: str, fence: int, note: Path | None = None) -> int:
    """Runs one job to its end."""
    os.umask(0o077)
    settings = settings_module.load()
    logs.configure(settings.log_level, settings.log_format, "job", job=job_id)
    end_with_parent(lambda: os._exit(1))
    db = Database(settings.database)

    def look() -> Job:
        with db.read() as conn:
            require_current(conn)
            return records.get(conn, None, job_id)

    try:
        job = patiently(look)
    except InvalidRequest as e:
        log.error("%s is left alone: %s", job_id, e.message)
        return ends.OTHER_RELEASE
    scratch = settings.scratch_dir / job_id
    context = Context(settings, db, Artifacts(settings.artifacts_dir), job, fence, scratch)
    try:
        with logs.about(project=job.project):
            _run(context, note)
    except LeaseLost:
        log.info("%s: the claim has passed on; stopping", job_id)
        return ends.DONE
    except StoreBusy as e:
        log.warning(
            "%s: the store is away (%s); another attempt will go on from the last checkpoint", job_id, e
        )
        return ends.STORE_AWAY
    except Exception as e:  # noqa: BLE001 - the worker around a job: one of the three places
        again = _another_attempt(context, e)
        if again is not None:
            return again
        _end_as_failed(context, e)
    if _is_over(context):
        shutil.rmtree(scratch, ignore_errors=True)
    return ends.DONE


def _another_attempt(context: Context, error: Exception) -> int | None:
    """The exit code that asks for one where the job may go through elsewhere, or with less; None: it has failed."""
    attempt = f"Attempt {context.job.attempts}"
    if isinstance(error, device_note.NoSuchDevice):
        _say(context, f"{attempt}: {error.message} The job goes back to the queue, for another worker.")
        return ends.NO_DEVICE
    if devices.is_lost(error):
        said = f"the device failed ({_first_line(error)})"
        log.error("%s: %s", context.job.id, said)
        _say(context, f"{attempt}: {said}. The job goes back to the queue.")
        return ends.DEVICE_LOST
    if isinstance(error, Unavailable):
        log.warning("%s: %s", context.job.id, error.message)
        _say(context, f"{attempt}: {error.message} The job goes back to the queue.")
        return ends.AGAIN
    if _is_out_of_memory(error) and halve(context):
        _say(context, f"{attempt}: memory ran out. Once more, with half the tokens at a time.")
        return ends.SMALLER
    return None


def _first_line(error: Exception) -> str:
    """What a device or its library says of a failure, without the advice that follows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def _say(context: Context, message: str) -> None:
    def say() -> None:
        with context.db.write() as conn:
            now = context.db.clock(conn)
            records.add_event(conn, context.job.id, message, now, level="warn", fence=context.fence)

    try:
        patiently(say)
    except (LeaseLost, StorageFull) as e:
        log.info("%s: not said: %s", context.job.id, e)


def _is_over(context: Context) -> bool:
    """Whether the job has ended. A paused one goes on from what lies in its folder, so a doubt keeps that."""
    try:
        with context.db.read() as conn:
            return records.get(conn, None, context.job.id).state in TERMINAL_STATES
    except Unavailable as e:
        log.warning("%s: its folder stays for now: %s", context.job.id, e.message)
        return False


def _run(context: Context, note: Path | None) -> None:
    """Runs the task; where a disk is full it waits, and begins again from the last checkpoint."""
    times = 0
    while True:
        try:
            with storage_full():
                if note is not None:
                    device_note.same_device(context.settings.device, note)
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
    def write() -> None:
        with context.db.write() as conn:
            records.set_x_state(conn, context.job.id, context.fence, word)

    try:
        patiently(write)
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
        patiently(lambda: queue.finish(db, job.id, context.fence, "failed", error=fault, publish=tell))
    except LeaseLost:
        log.info("%s: failed, but the claim had passed on", job.id)


def _fault(error: Exception) -> JobFault:
    """What the owner of the job reads. Our own errors speak for themselves; a stranger's is our fault."""
    if isinstance(error, InhouseError):
        code = "diverged" if isinstance(error, Diverged) else error.code
        return JobFault(code=code, message=error.message, param=error.param)
    if _is_out_of_memory(error):
        return JobFault(
            code="out_of_memory",
            message="The job needed more memory than there is. Lower batch_size, shorten the longest rows, or take "
            "a smaller base.",
        )
    return JobFault(
        code="internal_error",
        message=f"The job failed on an internal error ({type(error).__name__}). The worker's log holds the details.",
    )


def _is_out_of_memory(error: Exception) -> bool:
    said = str(error)
    return isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *map(Path, sys.argv[3:])))
