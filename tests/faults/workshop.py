"""A store with a tiny base and jobs, and real workers over it in this process, for tests that harm their children."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inhouse.jobs import queue
from inhouse.schema import Event, Job, ModelCard
from inhouse.settings import Settings
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import jobs as records
from inhouse.store.records import models, projects
from inhouse.store.tables import checkpoints
from inhouse.worker.main import CHILD, Worker
from tests.house.house import until
from tests.tiny import base_folder

ROOT = Path(__file__).parents[2]


class Workshop:
    """One data folder and its store."""

    def __init__(self, folder: Path, url: str = "", *, lease_s: float = 15.0, **base: Any) -> None:
        self.settings = Settings(data_dir=folder / "data", database_url=url, lease_s=lease_s, threads=1)
        self.db = Database(self.settings.database)
        migrate(self.db)
        self.artifacts = Artifacts(self.settings.artifacts_dir)
        source = str(base_folder(folder / "tiny", **base))
        with self.db.write() as conn:
            now = self.db.clock(conn)
            projects.ensure(conn, "default", now)
            card = ModelCard(
                name="tiny", project=None, kind="base", base="tiny", source=source, created_at=now
            )
            models.add(conn, card)

    def submit(self, count: int = 24, *, answer: str = "Person {}", **spec: Any) -> str:
        """Queues a tuning job on so many rows; returns its id."""
        rows = [{"question": f"Who is number {n}?", "answer": answer.format(n)} for n in range(count)]
        digest, _ = self.artifacts.put_stream([json.dumps(row).encode() + b"\n" for row in rows])
        chosen = {"base": "tiny", "training": digest, "training_name": "r.jsonl", "rank": 4, "alpha": 8.0}
        job = Job(
            id=ids.new("ftjob"),
            project="default",
            kind="tune",
            state="queued",
            spec=chosen | spec,
            created_at=time.time(),
        )
        queue.submit(self.db, job)
        return job.id

    def job(self, job_id: str) -> Job:
        with self.db.read() as conn:
            return records.get(conn, None, job_id)

    def log(self, job_id: str) -> list[Event]:
        """A job's events, oldest first."""
        with self.db.read() as conn:
            return records.events(conn, None, job_id, limit=10_000, order="asc")[0]

    def attempts(self, job_id: str) -> int:
        return sum(e.message.startswith("Attempt") and "loading" in e.message for e in self.log(job_id))

    def step_of(self, job_id: str) -> int:
        return max((e.data["step"] for e in self.log(job_id) if "step" in e.data), default=0)

    def checkpoints(self, job_id: str) -> list[str]:
        """Names of the folders of those on disk, oldest first."""
        folder = self.settings.scratch_dir / job_id / "checkpoints"
        return sorted(f.name for f in folder.glob("step-*")) if folder.exists() else []

    def ended(self, job_id: str, limit_s: float = 150.0) -> Job:
        over = ("succeeded", "failed", "cancelled")
        found = until(lambda: (j := self.job(job_id)).state in over and j, f"{job_id} ends", limit_s)
        assert isinstance(found, Job)
        return found

    def adapter(self, job_id: str) -> bytes:
        """What the job has published."""
        folder = self.artifacts.folder(self.job(job_id).result["digest"])
        return (folder / "adapter_model.safetensors").read_bytes()

    def published(self) -> list[str]:
        """Names of all models that jobs have published, without those on the way to one."""
        with self.db.read() as conn:
            on_the_way = set(conn.scalars(sa.select(checkpoints.c.model)))
            made = [card.name for card in models.all(conn, "default") if card.kind != "base"]
        return [name for name in made if name not in on_the_way]


@contextmanager
def working(settings: Settings, url: str | None = None, command: Sequence[str] = CHILD) -> Iterator[Worker]:
    """A worker that runs in a thread, over a connection of its own; its children are real processes."""
    worker = Worker(settings, Database(url or settings.database), command=command)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(60)
        worker.db.dispose()
        assert not thread.is_alive()


def script(module: str, *arguments: object) -> tuple[str, ...]:
    """The command of a child that starts in another module first."""
    return (sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments))
