"""The long run in short, and its checker: each kind of broken promise is planted, and seen."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.chaos.history import History, Verdict, check
from inhouse.jobs import queue
from inhouse.schema import Bank, FactInput, File, Job, ModelCard
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, facts, files, keys, models, projects, usage
from inhouse.store.records.usage import UsageRow
from inhouse.store.tables import facts as fact_table
from inhouse.store.tables import files as file_table
from inhouse.store.tables import jobs as job_table
from inhouse.store.tables import keys as key_table
from inhouse.store.tables import models as model_table
from inhouse.store.tables import usage as usage_table

ROOT = Path(__file__).parents[2]
CONTENT = b'{"question": "q?", "answer": "a"}\n'


@dataclass
class World:
    """A store and a history that agree."""

    db: Database
    artifacts: Artifacts
    history: History
    job: str
    bank: str
    digest: str
    ids: dict[str, str] = field(default_factory=dict)

    def write(self, change: Callable[[sa.Connection], Any]) -> None:
        with self.db.write() as conn:
            change(conn)

    def verdict(self) -> Verdict:
        return check(self.history.lines(), self.db, self.artifacts)


@pytest.fixture
def world(sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    db = Database(sqlite_url)
    migrate(db)
    artifacts = Artifacts(tmp_path / "artifacts")
    history = History(tmp_path / "history.jsonl")
    digest, size = artifacts.put_stream([CONTENT])
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    adapter = artifacts.put_folder(folder)
    with db.write() as conn:
        projects.ensure(conn, "default", 1.0)
        file = File(
            id=ids.new("file"),
            project="default",
            filename="r.jsonl",
            purpose="fine-tune",
            bytes=size,
            digest=digest,
            created_at=1.0,
        )
        files.add(conn, file)
        key = keys.add(
            conn, project="default", name="k", secret_hash="h", role="member", now=1.0, shown="sk…"
        )
        bank = Bank(id=ids.new("bank"), project="default", base="tiny", base_digest="0", created_at=1.0)
        banks.add(conn, bank)
        (fact,) = facts.add_many(
            conn, bank.id, [FactInput(question="Who?", answer="Me")], author="a", now=1.0
        )
    job = a_job(db, "one")
    claimed = queue.claim(db, "w", ("tune",), 60.0)
    assert claimed is not None

    def publish(conn: sa.Connection) -> None:
        models.add(conn, a_model(job, adapter))

    queue.finish(db, job, claimed.fence, "succeeded", publish=publish)
    made = World(db, artifacts, history, job, bank.id, adapter)
    history.note("file", key="k1", id=file.id, sha256=hashlib.sha256(CONTENT).hexdigest())
    history.note("job", key="k2", id=job)
    for state in ("validating_files", "queued", "running", "queued", "running", "succeeded"):
        history.note("state", id=job, state=state)
    history.note("key", id=key)
    history.note("fact", key="k3", id=fact.id, question="Who?")
    history.note("chat", id="req_1")
    with db.write() as conn:
        usage.add_many(conn, [use("req_1")])
    made.ids = {"file": file.id, "key": key}
    yield made
    history.close()
    db.dispose()


def a_job(db: Database, suffix: str) -> str:
    job = Job(
        id=ids.new("ftjob"),
        project="default",
        kind="tune",
        state="queued",
        spec={"base": "tiny", "suffix": suffix},
        created_at=1.0,
    )
    queue.submit(db, job)
    return job.id


def a_model(job: str, digest: str) -> ModelCard:
    name = ids.tuned_model("tiny", "default", "")
    return ModelCard(
        name=name, project="default", kind="adapter", base="tiny", digest=digest, job=job, created_at=1.0
    )


def use(request: str) -> UsageRow:
    return UsageRow("default", "key", "tiny", request, 1, 1, 1.0)


def test_a_house_that_kept_its_promises_is_found_whole(world: World) -> None:
    verdict = world.verdict()
    assert verdict.broken == []
    assert verdict.counts["jobs succeeded"] == verdict.counts["models published"] == 1
    assert [verdict.counts[f"promised: {op}"] for op in ("file", "job", "key", "fact", "chat")] == [1] * 5


def damage(world: World) -> None:
    file = world.artifacts.path(next(iter(world.artifacts.manifest(world.digest).values()))["sha256"])
    file.chmod(0o600)
    file.write_bytes(b"weighty")


def fail(world: World, job: str, why: str = "internal_error") -> None:
    code = {"code": why, "message": "x"}
    world.write(
        lambda conn: conn.execute(
            job_table.update().where(job_table.c.id == job).values(state="failed", error=code)
        )
    )


def killed(world: World, times: int, what: str = "job killed") -> None:
    """A job that has crashed, and what was done meanwhile."""
    fail(world, a_job(world.db, "two"), "crashed")
    for _ in range(times):
        world.history.note("harm", what=what, began=None, until=None)


PLANTED: dict[str, tuple[Callable[[World], object], str]] = {
    "a lost file": (lambda w: w.write(lambda c: c.execute(file_table.delete())), "file .* is lost"),
    "a lost key": (lambda w: w.write(lambda c: c.execute(key_table.delete())), "key key_.* is lost"),
    "a lost fact": (lambda w: w.write(lambda c: c.execute(fact_table.delete())), "fact .* is lost"),
    "a lost job": (lambda w: w.history.note("job", key="k9", id="ftjob-gone"), "job ftjob-gone is lost"),
    "a lost model": (lambda w: w.write(lambda c: c.execute(model_table.delete())), "published 0 models"),
    "lost usage": (lambda w: w.write(lambda c: c.execute(usage_table.delete())), "req_1 .* not counted"),
    "a job that was made twice": (lambda w: a_job(w.db, "one"), "asked for as one is there 2 times"),
    "a job that never ended": (lambda w: a_job(w.db, "two"), "never ended: it is queued"),
    "a job that failed on its own": (lambda w: fail(w, a_job(w.db, "two")), "has failed: .*internal_error"),
    "a job that crashed and was killed only twice": (lambda w: killed(w, 2), "only 2 kills explain it"),
    "a job that crashed while the store was away": (
        lambda w: killed(w, 9, "database killed"),
        "only 0 kills explain it",
    ),
    "a model published twice": (
        lambda w: w.write(lambda c: models.add(c, a_model(w.job, w.digest))),
        "has succeeded and published 2 models",
    ),
    "a model of a job that failed": (lambda w: fail(w, w.job), "published a model, and is failed"),
    "a fact that was added twice": (
        lambda w: w.write(
            lambda c: facts.add_many(
                c, w.bank, [FactInput(question="Who?", answer="Me")], author="a", now=1.0
            )
        ),
        "'Who\\?' is there 2 times",
    ),
    "usage counted twice": (
        lambda w: w.write(lambda c: usage.add_many(c, [use("req_1")])),
        "req_1 is counted 2 times",
    ),
    "a key answered with two objects": (
        lambda w: w.history.note("file", key="k1", id="file-other", sha256="0"),
        "key k1 was answered with 2 different objects",
    ),
    "an ended job that runs again": (
        lambda w: w.history.note("state", id=w.job, state="running"),
        "went from succeeded to running",
    ),
    "another file than was sent": (
        lambda w: w.history.note("file", key="k1", id=w.ids["file"], sha256="0" * 64),
        "is not what was sent",
    ),
    "a damaged adapter": (damage, "the adapter of .* does not verify"),
    "an internal error": (lambda w: w.history.note("error", id="/v1/files", text="500"), "internal error"),
}


@pytest.mark.parametrize("harm", PLANTED)
def test_each_broken_promise_is_found(harm: str, world: World) -> None:
    plant, said = PLANTED[harm]
    plant(world)
    broken = world.verdict().broken
    assert broken, "nothing was seen"
    assert re.search(said, "\n".join(broken)), broken


def test_a_job_whose_processes_were_killed_three_times_may_crash(world: World) -> None:
    killed(world, 3)
    assert world.verdict().broken == []


def test_use_may_be_lost_with_a_server_that_is_killed_at_once_and_not_long_after(world: World) -> None:
    world.history.note("chat", id="req_2")
    world.history.note("harm", what="server killed", began=None, until=None)
    assert world.verdict().broken == []
    late = [line for line in world.history.lines() if line.id != "req_2"]
    before = time.time() - 60.0
    world.history.note("harm", what="database killed", began=before, until=before + 1.0)
    text = json.dumps({"op": "chat", "at": before - 1.0, "key": "", "id": "req_3", "about": {}})
    with world.history.file.open("a") as file:
        file.write(text + "\n")
    assert len(late) < len(world.history.lines())
    (said,) = world.verdict().broken
    assert "req_3" in said


def test_a_history_torn_by_a_kill_is_cut_at_its_last_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    first = History(file)
    first.note("key", id="key_1")
    first.close()
    file.write_bytes(file.read_bytes() + b'{"op": "key", "id": "ke')
    again = History(file)
    again.note("key", id="key_2")
    assert [line.id for line in again.lines()] == ["key_1", "key_2"]
    again.close()


def test_a_short_run_breaks_no_promise(tmp_path: Path) -> None:
    """Faults 1, 2, 5, 6 and 16: all of them at random for some seconds; `make chaos` is the long one."""
    command = [sys.executable, "-m", "benchmarks.chaos", "--folder", str(tmp_path / "run")]
    options = ["--seconds", "8", "--pause-s", "1", "--clients", "2", "--seed", "7"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["broken_promises"] == [] and done.returncode == 0, done.stdout
    assert report["harms"] >= 2 and report["promised: chat"] > 0
