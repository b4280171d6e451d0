"""Kills and freezes real workers at random and counts what was lost or published twice.

    python -m benchmarks.kill --kills 10000 --folder /tmp/kill-sqlite
    python -m benchmarks.kill --kills 10000 --folder /tmp/kill-postgres --url postgresql://user@host/empty_database

Workers are processes that claim a job, step through it with heartbeats and checkpoints, and publish a model as
they finish. A quarter of the faults freeze a worker past its lease and wake it (SIGSTOP, SIGCONT), the others are
SIGKILL. `--no-fence` takes the guard out: then the frozen ones publish twice, which shows that this can see it.

It prints a table, and one line of JSON last. Stopped, it goes on where it was when called with the same folder;
the exit status is 1 if a job was lost or published twice.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import sqlalchemy as sa

from inhouse.errors import LeaseLost, StoreBusy
from inhouse.jobs import queue
from inhouse.schema import Job, ModelCard
from inhouse.store import fence, ids
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import jobs as job_records
from inhouse.store.records import models as model_records
from inhouse.store.tables import jobs, models

STEPS = 6
PRELOADED = ["inhouse.jobs.queue", "inhouse.store.migrations", "inhouse.store.records.models", "psycopg"]
"""Imported once, so that a new worker is there in milliseconds; connections are its own."""
SETTLE_S = 120.0
"""How long the last jobs may take to end once nobody is killed any more."""


@dataclass(slots=True)
class Tally:
    """What was done so far; kept in the folder, so that a stopped run goes on."""

    killed: int = 0
    frozen: int = 0
    seconds: float = 0.0
    seed: int = 0

    @property
    def faults(self) -> int:
        return self.killed + self.frozen


@dataclass(slots=True)
class Pool:
    """Worker processes, some of them frozen for a while.

    A timer wakes each frozen one, not this thread: on SQLite a worker may be frozen with the write lock in its
    hands, and then whoever writes waits for it to wake.
    """

    options: argparse.Namespace
    context: multiprocessing.context.ForkServerContext
    workers: list[BaseProcess] = field(default_factory=list)
    frozen: dict[int, threading.Timer] = field(default_factory=dict)

    def fill(self) -> None:
        """Replace the dead."""
        self.workers = [worker for worker in self.workers if worker.is_alive()]
        while len(self.workers) < self.options.workers:
            worker = self.context.Process(target=work, args=(vars(self.options),), daemon=True)
            worker.start()
            self.workers.append(worker)

    def hurt(self, random_: random.Random, tally: Tally) -> None:
        """Freeze or kill one worker that is not frozen."""
        awake = [worker for worker in self.workers if worker.pid not in self.frozen]
        if not awake:
            return
        worker = random_.choice(awake)
        assert worker.pid is not None
        if random_.random() < self.options.freeze_share:
            os.kill(worker.pid, signal.SIGSTOP)
            asleep_s = self.options.lease_s * random_.uniform(1.2, 2.0)
            self.frozen[worker.pid] = threading.Timer(asleep_s, self._wake, (worker.pid,))
            self.frozen[worker.pid].start()
            tally.frozen += 1
        else:
            worker.kill()
            worker.join()
            tally.killed += 1

    def _wake(self, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)
        del self.frozen[pid]

    def end(self) -> None:
        for timer in list(self.frozen.values()):
            timer.cancel()
            timer.join()
        for worker in self.workers:
            worker.kill()
            worker.join()


# ── a worker ──────────────────────────────────────────────────────────────────────────────────────────────


def work(options: dict[str, object]) -> None:
    """Claim and run jobs for ever."""
    settings = argparse.Namespace(**options)
    if not settings.fence:
        fence.held = lambda job_id, number: jobs.c.id == job_id  # the control: anyone may write
    _die_with_parent()
    db = Database(settings.url)
    while True:
        try:
            job = queue.claim(db, f"worker-{os.getpid()}", ("tune",), settings.lease_s)
            if job is None:
                time.sleep(0.02)
            else:
                _run(db, job, settings)
        except (LeaseLost, StoreBusy):
            continue  # ours no longer, or the database is away: claim again


def _run(db: Database, job: Job, settings: argparse.Namespace) -> None:
    checkpoint = Path(settings.folder) / "checkpoints" / job.id
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(done + 1, STEPS + 1):
        time.sleep(settings.step_s)
        if not queue.heartbeat(db, job.id, job.fence, settings.lease_s):
            raise LeaseLost(job.id)
        partial = checkpoint.with_suffix(f".{os.getpid()}")
        partial.write_text(str(step))
        partial.replace(checkpoint)
        queue.note_checkpoint(db, job.id, job.fence, step)
    card = ModelCard(
        name=f"{job.id}:{job.fence}",
        project=job.project,
        kind="adapter",
        base="none",
        job=job.id,
        created_at=time.time(),
    )
    queue.finish(db, job.id, job.fence, "succeeded", publish=lambda conn: model_records.add(conn, card))


def _die_with_parent() -> None:
    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# ── the run ───────────────────────────────────────────────────────────────────────────────────────────────


def run(options: argparse.Namespace) -> dict[str, object]:
    """Hurt workers until the number of faults is reached, let the rest finish, and count."""
    folder = Path(options.folder)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    notes, journal = folder / "tally.json", folder / "submitted.txt"
    tally = Tally(**json.loads(notes.read_text())) if notes.exists() else Tally(seed=options.seed)
    db = Database(options.url)
    migrate(db)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    pool = Pool(options, context)
    random_ = random.Random(tally.seed + tally.faults)
    before_s, started = tally.seconds, time.monotonic()
    try:
        while tally.faults < options.kills:
            _keep_busy(db, journal, options.workers)
            pool.fill()
            time.sleep(random_.uniform(0, 2 * options.pause_s))
            pool.hurt(random_, tally)
            tally.seconds = before_s + time.monotonic() - started
            notes.write_text(json.dumps(asdict(tally)))
        deadline = time.monotonic() + SETTLE_S
        while _unfinished(db) and time.monotonic() < deadline:
            pool.fill()
            time.sleep(0.05)
        while pool.frozen:  # the sleepers must wake and try, or the fence was never asked
            time.sleep(0.05)
        time.sleep(options.step_s * 2 + 0.2)
    finally:
        pool.end()
    tally.seconds = before_s + time.monotonic() - started
    report = {**count(db, journal.read_text().split()), **asdict(tally), "fence": options.fence}
    report |= {"database": "postgres" if db.is_postgres else "sqlite", "workers": options.workers}
    report |= {"python": platform.python_version(), "sqlalchemy": sa.__version__, "cores": os.cpu_count()}
    db.dispose()
    return report


def _keep_busy(db: Database, journal: Path, workers: int) -> None:
    """Keep jobs waiting, and note each one that the store acknowledged."""
    with db.read() as conn:
        queued = conn.scalar(sa.select(sa.func.count()).where(jobs.c.state == "queued")) or 0
    if queued >= workers:
        return
    new = [
        Job(id=ids.new("ftjob"), project="kill", kind="tune", state="queued", spec={}, created_at=time.time())
        for _ in range(2 * workers)
    ]
    with db.write() as conn:
        for job in new:
            job_records.add(conn, job)
    with journal.open("a") as file:
        file.writelines(job.id + "\n" for job in new)


def _unfinished(db: Database) -> int:
    with db.read() as conn:
        query = sa.select(sa.func.count()).where(jobs.c.state.in_(("queued", "running")))
        return conn.scalar(query) or 0


def count(db: Database, submitted: list[str]) -> dict[str, object]:
    """What became of every job that was acknowledged."""
    published = sa.select(models.c.job, sa.func.count().label("times")).group_by(models.c.job).subquery()
    times = sa.func.coalesce(published.c.times, 0)
    query = sa.select(jobs.c.id, jobs.c.state, jobs.c.fence, times.label("times")).outerjoin(
        published, published.c.job == jobs.c.id
    )
    with db.read() as conn:
        rows = {row.id: row for row in conn.execute(query)}
    return {
        "jobs": len(submitted),
        "succeeded": sum(row.state == "succeeded" for row in rows.values()),
        "crashed": sum(row.state == "failed" for row in rows.values()),
        "claimed_again": sum(row.fence > 1 for row in rows.values()),
        "lost": sum(
            id not in rows
            or rows[id].state not in ("succeeded", "failed")
            or (rows[id].state == "succeeded" and rows[id].times == 0)
            for id in submitted
        ),
        "published_twice": sum(row.times > 1 for row in rows.values()),
        "published_without_success": sum(row.times > 0 and row.state != "succeeded" for row in rows.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kill", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--kills", type=int, default=10_000, help="faults in all, those of earlier runs counted"
    )
    parser.add_argument("--folder", required=True, help="where the run is kept: tally, journal, checkpoints")
    parser.add_argument("--url", help="an empty database; default: SQLite in the folder")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--lease-s", type=float, default=1.0)
    parser.add_argument("--step-s", type=float, default=0.02, help="how long one of a job's six steps takes")
    parser.add_argument("--pause-s", type=float, default=0.06, help="mean time between faults")
    parser.add_argument("--freeze-share", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-fence", dest="fence", action="store_false", help="the control: take the guard out"
    )
    options = parser.parse_args()
    options.folder = str(Path(options.folder).absolute())
    options.url = options.url or f"sqlite:///{options.folder}/inhouse.db"
    report = run(options)
    for name, value in report.items():
        print(f"{name:26} {value if not isinstance(value, float) else round(value, 1)}")
    print(json.dumps(report))
    return 1 if report["lost"] or report["published_twice"] or report["published_without_success"] else 0


if __name__ == "__main__":
    sys.exit(main())
