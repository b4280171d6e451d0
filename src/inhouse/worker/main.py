"""The worker's loop: claim what fits, keep leases alive, bury what has died.

It knows jobs by kind, id and fence alone; what a job does is in `worker.tasks`, in a child process of its own,
so that a crash or an out-of-memory there ends one job and nothing else. It never imports torch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from inhouse import settings as settings_module
from inhouse.errors import InvalidRequest, LeaseLost, StorageFull, Unavailable
from inhouse.jobs import queue
from inhouse.jobs.placement import Held, WorkerRoom, choose
from inhouse.schema import Job
from inhouse.settings import Settings
from inhouse.store.db import Database
from inhouse.store.migrations import require_current
from inhouse.store.private import make_private
from inhouse.worker.parent import end_with_parent
from inhouse.worker.replica import held_replica
from inhouse.worker.room import sweep_scratch

log = logging.getLogger(__name__)

POLL_S = 0.2
"""How often the queue is looked at: a job waits at most this long for a free worker."""
CLAIM_S = 2.0
"""How often a claim is made though nothing waits: it also ends jobs that have used up their attempts."""
STOP_GRACE_S = 10.0
"""How long a child may take to end after SIGTERM."""
OTHER_RELEASE = 3
"""The exit code of a child that found the database to be of another release than its own code."""


@dataclass(slots=True)
class Child:
    """A job running in a process of its own."""

    job: Job
    process: subprocess.Popen[bytes]
    renew_at: float
    lease_ends: float
    is_stopping: bool = field(default=False)
    """Told to end so that another base can have its slot."""


class Worker:
    """One worker process: a few slots, each with at most one child."""

    def __init__(
        self, settings: Settings, db: Database, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.db = db
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.children: dict[str, Child] = {}
        self._clock = clock
        self._stopping = threading.Event()
        self._claim_at = 0.0

    def run(self) -> None:
        """Works until told to stop; then gives every job back. Raises InvalidRequest where the database is, or
        becomes, one of another release: what this worker would write there, nobody may rely on."""
        log.info("worker %s is ready", self.name)
        try:
            self._sweep()
            while not self._stopping.is_set():
                try:
                    self.turn()
                except (Unavailable, StorageFull) as e:
                    log.warning("the store does not answer; trying again: %s", e)
                self._stopping.wait(POLL_S)
        finally:
            self._give_back()

    def stop(self) -> None:
        """Asks `run` to end; safe from signal handlers and other threads."""
        self._stopping.set()

    def turn(self) -> None:
        """One look at everything: the ended, the leases, the queue."""
        self._reap()
        self._renew()
        self._claim()

    def _claim(self) -> None:
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
            self._start(job)

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

    def _start(self, job: Job) -> None:
        if (
            job.id in self.children
        ):  # our own lease lapsed unnoticed, as after a suspend: never two of one job
            self._kill(self.children.pop(job.id))
        log.info("%s %s: attempt %d, fence %d", job.kind, job.id, job.attempts, job.fence)
        process = subprocess.Popen(
            [sys.executable, "-m", "inhouse.worker.child", job.id, str(job.fence)],
            stdin=subprocess.PIPE,
            env={**os.environ, **self.settings.environment()},
        )
        now = self._clock()
        self.children[job.id] = Child(
            job, process, now + self.settings.lease_s / 3, now + self.settings.lease_s
        )

    def _renew(self) -> None:
        """Extends leases; a child whose lease is lost, or ran out unrenewed, is killed before it can do harm."""
        for child in list(self.children.values()):
            now = self._clock()
            if now < child.renew_at:
                continue
            try:
                is_ours = queue.heartbeat(self.db, child.job.id, child.job.fence, self.settings.lease_s)
            except (Unavailable, StorageFull) as e:
                if now < child.lease_ends:
                    log.warning("heartbeat of %s failed, lease runs on: %s", child.job.id, e)
                    continue
                is_ours = False
            if is_ours:
                child.renew_at = now + self.settings.lease_s / 3
                child.lease_ends = now + self.settings.lease_s
            elif child.process.poll() is None:
                log.info("%s is no longer ours: cancelled, or taken over", child.job.id)
                del self.children[child.job.id]
                self._kill(child)
                self._sweep()
            else:
                child.renew_at = now + self.settings.lease_s  # it ended by itself: the next turn buries it

    def _kill(self, child: Child) -> None:
        child.process.kill()
        child.process.communicate()  # waits, and closes the pipe that tied it to us

    def _reap(self) -> None:
        """Buries children that have ended; one that ended badly goes back to the queue at once."""
        for child in list(self.children.values()):
            code = child.process.poll()
            if code is None:
                continue
            child.process.communicate()
            del self.children[child.job.id]
            if code == 0:
                continue
            log.error("%s %s died with exit code %d", child.job.kind, child.job.id, code)
            if code == OTHER_RELEASE:  # the files on disk are not those that this process was started from
                self.stop()
            try:
                is_its_fault = not child.is_stopping and code != OTHER_RELEASE
                queue.release(self.db, child.job.id, child.job.fence, crashed=is_its_fault)
            except LeaseLost:
                pass  # cancelled, or ended by the child just before it died
            except (Unavailable, StorageFull) as e:
                log.warning("%s waits for its lease to end: %s", child.job.id, e)

    def _give_back(self) -> None:
        """Ends every child and returns its job to the queue, where the next worker resumes it."""
        for child in self.children.values():
            child.process.terminate()
        deadline = self._clock() + STOP_GRACE_S
        for child in self.children.values():
            try:
                child.process.wait(max(0.1, deadline - self._clock()))
            except subprocess.TimeoutExpired:
                self._kill(child)
            try:
                queue.release(self.db, child.job.id, child.job.fence)
            except (LeaseLost, Unavailable, StorageFull) as e:
                log.info("%s had ended, or could not be given back: %s", child.job.id, e)
        self.children.clear()


def main() -> int:
    """Runs a worker with this process's settings until SIGTERM, Ctrl-C, or the end of its standard input."""
    os.umask(0o077)
    settings = settings_module.load()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
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
