"""The worker's loop: claim what fits, keep leases alive, bury what has died.

It knows jobs by kind, id and fence alone; what a job does is in `worker.tasks`, in a child process of its own,
so that a crash or an out-of-memory there ends one job and nothing else. It never imports torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from inhouse import logs
from inhouse import settings as settings_module
from inhouse.errors import InvalidRequest, LeaseLost, NotFound, StorageFull, Unavailable
from inhouse.jobs import queue
from inhouse.jobs.placement import Held, WorkerRoom, choose
from inhouse.schema import TERMINAL_STATES, Job
from inhouse.settings import Settings
from inhouse.store.db import Database
from inhouse.store.migrations import require_current
from inhouse.store.private import make_private
from inhouse.store.records import jobs as records
from inhouse.store.records import workers
from inhouse.store.records.workers import WorkerRow
from inhouse.worker import ends
from inhouse.worker.children import Child, Leash
from inhouse.worker.parent import end_with_parent
from inhouse.worker.patience import jittered
from inhouse.worker.replica import held_replica
from inhouse.worker.room import sweep_scratch

log = logging.getLogger(__name__)

CHILD = (sys.executable, "-m", "inhouse.worker.child")
"""What a job runs in; its id, its fence and where devices are noted follow."""
POLL_S = 0.2
"""How often the queue is looked at: a job waits at most this long for a free worker."""
CLAIM_S = 2.0
"""How often a claim is made though nothing waits: it also ends jobs that have used up their attempts."""
STOP_GRACE_S = 10.0
"""How long a child may take to end after SIGTERM; an engine first drains for as long as the settings give it."""
LONGEST_POLL_S = 5.0
"""While the store is away the queue is looked at ever more rarely, up to this, and no two workers in step."""
MAX_DEVICE_FAULTS = 2
"""A worker whose device failed this often within FAULT_KEPT_S takes no more jobs."""
FAULT_KEPT_S = 3600.0
"""A fault that long ago says nothing of the device any more."""


class Worker:
    """One worker process: a few slots, each with at most one child."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = CHILD,
    ) -> None:
        self.settings = settings
        self.db = db
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.children: dict[str, Child] = {}
        self.fenced = ""
        """Why this worker takes no more jobs, and what to do; empty: it takes some."""
        self._device_faults: list[float] = []
        self._clock = clock
        self._command = command
        self._stopping = threading.Event()
        self._claim_at = 0.0
        self._note_at = 0.0
        self._started_at = 0.0
        self._leases_lost = 0
        self._processes_died = 0
        self._owed: list[Child] = []
        """Children that have ended, whose jobs the store has not taken back yet."""
        self.device_note = settings.run_dir / f"device-{os.getpid()}"
        """Where children write which device they found: those that follow must have the same."""
        self.device_note.unlink(missing_ok=True)  # of an earlier process by this number

    @property
    def device_faults(self) -> int:
        """How often the device has failed of late."""
        return sum(self._clock() - at < FAULT_KEPT_S for at in self._device_faults)

    def run(self) -> None:
        """Works until told to stop; then gives every job back. Raises InvalidRequest where the database is, or
        becomes, one of another release: what this worker would write there, nobody may rely on."""
        log.info("worker %s is ready", self.name)
        leash = Leash(lambda: list(self.children.values()), self._clock)
        leash.start()
        wait_s = POLL_S
        try:
            self._sweep()
            while not self._stopping.is_set():
                try:
                    self.turn()
                    wait_s = POLL_S
                except (Unavailable, StorageFull) as e:
                    log.warning("the store does not answer; trying again: %s", e)
                    wait_s = min(2 * wait_s, LONGEST_POLL_S, self.settings.lease_s / 3)
                self._stopping.wait(POLL_S if wait_s == POLL_S else jittered(wait_s))
        finally:
            self._give_back()
            leash.stop()
            self.device_note.unlink(missing_ok=True)

    def stop(self) -> None:
        """Asks `run` to end; safe from signal handlers and other threads."""
        self._stopping.set()

    def turn(self) -> None:
        """One look at everything: the ended, the leases, the queue."""
        self._reap()
        self._renew()
        self._settle()
        self._claim()
        self._note()

    def _note(self, *, leaves: bool = False) -> None:
        """Tells the store that this worker is there, or that it goes, and what went wrong on it."""
        now = self._clock()
        if now < self._note_at and not leaves:
            return
        with self.db.write() as conn:
            require_current(conn)
            at = self.db.clock(conn)
            self._started_at = self._started_at or at
            row = WorkerRow(
                self.name, self._started_at, at, self._leases_lost, self._processes_died, self.fenced
            )
            (workers.leave if leaves else workers.note)(conn, row)
        self._note_at = now + self.settings.lease_s / 3

    def _claim(self) -> None:
        if self.fenced:
            return
        waiting = queue.waiting(self.db)
        now = self._clock()
        if not waiting and now < self._claim_at:
            return
        self._claim_at = now + CLAIM_S
        self._require_own_schema()
        is_tight = any(w.kind == "serve" for w in waiting) and self._room().free("serve") == 0
        placement = choose(self._room(ask=is_tight), waiting)
        for job_id in placement.stop:
            child = self.children[job_id]
            if not child.is_stopping:
                log.info("replica %s has been idle longest; it makes room", job_id)
                child.is_stopping = True
                child.process.terminate()
        job = queue.claim(self.db, self.name, placement.kinds, self.settings.lease_s)
        if job is not None:
            self._start(job, now)

    def _require_own_schema(self) -> None:
        with self.db.read() as conn:
            require_current(conn)

    def _room(self, *, ask: bool = False) -> WorkerRoom:
        held = tuple(
            held_replica(self.db, c.job)
            if ask and c.job.kind == "serve" and not c.is_stopping
            else Held(c.job.id, c.job.kind)
            for c in self.children.values()
        )
        return WorkerRoom(self.settings.serve_slots, self.settings.tune_slots, held)

    def _sweep(self) -> None:
        try:
            self._require_own_schema()
            sweep_scratch(self.db, self.settings.scratch_dir)
        except (Unavailable, StorageFull) as e:
            log.warning("folders of ended jobs stay for now: %s", e)

    def _start(self, job: Job, claimed_at: float) -> None:
        if (
            job.id in self.children
        ):  # our own lease lapsed unnoticed, as after a suspend: never two of one job
            self.children.pop(job.id).kill()
        log.info("%s %s: attempt %d, fence %d", job.kind, job.id, job.attempts, job.fence)
        process = subprocess.Popen(
            [*self._command, job.id, str(job.fence), str(self.device_note)],
            stdin=subprocess.PIPE,
            env={**os.environ, **self.settings.environment()},
        )
        lease_s = self.settings.lease_s
        self.children[job.id] = Child(job, process, claimed_at + lease_s / 3, claimed_at + lease_s)

    def _renew(self) -> None:
        """Extends leases. A child whose lease is another's is killed; one whose ran out, the leash has killed."""
        for child in list(self.children.values()):
            now = self._clock()
            if now < child.renew_at:
                continue
            try:
                is_ours = queue.heartbeat(self.db, child.job.id, child.job.fence, self.settings.lease_s)
            except (Unavailable, StorageFull) as e:
                log.warning("heartbeat of %s failed, lease runs on: %s", child.job.id, e)
                child.renew_at = now + jittered(min(1.0, self.settings.lease_s / 10))
                continue
            if is_ours:
                child.renew_at = now + self.settings.lease_s / 3
                child.lease_ends = now + self.settings.lease_s
            elif child.process.poll() is None:
                log.info("%s is no longer ours: cancelled, or taken over", child.job.id)
                self._leases_lost += self._is_anothers(child.job)
                del self.children[child.job.id]
                child.kill()
                self._sweep()
            else:
                child.renew_at = now + self.settings.lease_s  # it ended by itself: the next turn buries it

    def _is_anothers(self, job: Job) -> bool:
        """Whether a job has passed to another worker, rather than ended, or been put down by its own process."""
        try:
            with self.db.read() as conn:
                found = records.get(conn, None, job.id)
        except (NotFound, Unavailable, StorageFull):
            return True
        return found.state not in TERMINAL_STATES and found.fence != job.fence

    def _reap(self) -> None:
        """Buries children that have ended; the job of one that ended badly is owed to the queue."""
        for child in list(self.children.values()):
            code = child.process.poll()
            if code is None:
                continue
            child.process.communicate()
            del self.children[child.job.id]
            if code == ends.DONE:
                continue
            log.error("%s %s died with exit code %d", child.job.kind, child.job.id, code)
            self._processes_died += 1
            if (
                code == ends.OTHER_RELEASE
            ):  # the files on disk are not those that this process was started from
                self.stop()
            if code == ends.DEVICE_LOST:
                self._device_failed(child.job)
            if code == ends.NO_DEVICE:
                self._fence(
                    f"device = {self.settings.device!r} is not on its machine",
                    "set device to one that `inhouse doctor` lists, or to auto, then restart the worker",
                )
            self._owed.append(child)

    def _settle(self) -> None:
        """Gives owed jobs back to the queue; while the store is away they stay owed, or lapse with their lease."""
        for child in list(self._owed):
            is_blameless = child.is_stopping or child.process.returncode in ends.BLAMELESS
            # its lease is lost where it was cancelled, taken over, or ended by the child just before that died
            with contextlib.suppress(LeaseLost):
                queue.release(self.db, child.job.id, child.job.fence, crashed=not is_blameless)
            self._owed.remove(child)

    def _device_failed(self, job: Job) -> None:
        self._device_faults.append(self._clock())
        log.error("%s: the device failed, for the %d. time here", job.id, len(self._device_faults))
        if self.device_faults >= MAX_DEVICE_FAULTS:
            self._fence(
                f"its device failed {self.device_faults} times, last under {job.id}, whose events say how",
                "look at the device (`inhouse doctor`), then restart the worker; to work without it, set device = cpu",
            )

    def _fence(self, why: str, cure: str) -> None:
        """Takes no more jobs, and says so: in the log, and at once in the store, where readiness looks."""
        if self.fenced:
            return
        self.fenced = f"{why}; {cure}"
        log.error("this worker takes no more jobs: %s", self.fenced)
        self._note_at = 0.0

    def _give_back(self) -> None:
        """Ends every child and returns its job to the queue, where the next worker resumes it."""
        for child in self.children.values():
            child.is_stopping = True
            child.process.terminate()
        began = self._clock()
        for child in self.children.values():
            ends_by = began + STOP_GRACE_S + (self.settings.drain_s if child.job.kind == "serve" else 0.0)
            try:
                child.process.wait(max(0.1, ends_by - self._clock()))
            except subprocess.TimeoutExpired:
                child.process.kill()
            child.process.communicate()  # waits, and closes the pipe that tied it to us
            self._owed.append(child)
        self.children.clear()
        try:
            self._settle()
        except (Unavailable, StorageFull) as e:
            log.info("%d jobs could not be given back: %s", len(self._owed), e)
        try:
            self._note(leaves=True)
        except (InvalidRequest, Unavailable, StorageFull) as e:
            log.info("that this worker ends could not be noted: %s", e)


def main() -> int:
    """Runs a worker with this process's settings until SIGTERM, Ctrl-C, or the end of its standard input."""
    os.umask(0o077)
    settings = settings_module.load()
    logs.configure(settings.log_level, settings.log_format, "worker")
    try:
        make_private(settings.data_dir)
    except InvalidRequest as e:
        log.error("this worker cannot start: %s", e.message)
        return 1
    worker = Worker(settings, Database(settings.database))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, lambda *_: worker.stop())
    end_with_parent(worker.stop)
    try:
        worker.run()
    except InvalidRequest as e:
        log.error("this worker ends: %s", e.message)
        return 1
    return 0
