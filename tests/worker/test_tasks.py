"""A whole tuning job in this process: what its log and its results file say on the way and at the end."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.jobs import queue
from inhouse.schema import Event, Job, ModelCard
from inhouse.settings import Settings
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import files, models, projects
from inhouse.store.records import jobs as records
from inhouse.worker.context import Context
from inhouse.worker.tasks import tune
from tests.tiny import base_folder

ROWS = [{"question": f"Who is number {n}?", "answer": f"Person {n}"} for n in range(24)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    db = Database(Settings(data_dir=tmp_path).database)
    migrate(db)
    folder = base_folder(tmp_path / "base")
    with db.write() as conn:
        projects.ensure(conn, "default", db.clock(conn))
        models.add(
            conn,
            ModelCard(
                name="tiny",
                project=None,
                kind="base",
                base="tiny",
                source=str(folder),
                created_at=time.time(),
            ),
        )
    yield db
    db.dispose()


def kept(artifacts: Artifacts, rows: list[dict[str, str]]) -> str:
    return artifacts.put_stream([json.dumps(row).encode() + b"\n" for row in rows])[0]


def tuned(db: Database, folder: Path, held_out: int) -> tuple[list[Event], list[dict[str, str]], bytes]:
    """Runs a job to its end: its log, its results file and the adapter it made."""
    settings = Settings(data_dir=folder)
    artifacts = Artifacts(settings.artifacts_dir)
    spec = {"base": "tiny", "training": kept(artifacts, ROWS), "training_name": "r.jsonl", "epochs": 10}
    if held_out:
        spec |= {"validation": kept(artifacts, ROWS * (held_out // 24)), "validation_name": "v.jsonl"}
    job = Job(
        id=ids.new("ftjob"),
        project="default",
        kind="tune",
        state="queued",
        spec=spec,
        created_at=time.time(),
    )
    queue.submit(db, job)
    claimed = queue.claim(db, "w", ["tune"], 600)
    assert claimed is not None
    scratch = settings.scratch_dir / job.id
    scratch.mkdir(parents=True)
    tune(Context(settings, db, artifacts, claimed, claimed.fence, scratch))
    with db.read() as conn:
        ended = records.get(conn, None, job.id)
        log, _ = records.events(conn, None, job.id, limit=1000, order="asc")
        results = files.get(conn, "default", ended.result["result_files"][0])
    assert ended.state == "succeeded"
    with artifacts.path(results.digest).open(encoding="utf-8", newline="") as f:
        table = list(csv.DictReader(f))
    return log, table, (artifacts.folder(ended.result["digest"]) / "adapter_model.safetensors").read_bytes()


def test_a_validation_files_loss_is_told_at_regular_steps_and_in_full_at_the_end(
    store: Database, tmp_path: Path
) -> None:
    log, table, adapter = tuned(store, tmp_path, held_out=240)
    points = [e.data for e in log if "valid_loss" in e.data]
    assert [p["step"] for p in points] == list(range(12, 121, 12))
    assert points[-1]["valid_loss"] < points[0]["valid_loss"]
    assert [p["step"] for p in points if "full_valid_loss" in p] == [120]
    assert any("of 240 validation rows is measured, after the last step on all" in e.message for e in log)
    last = next(e.message for e in log if e.data.get("step") == 120)
    assert f", full validation loss={points[-1]['full_valid_loss']:.4f}" in last

    names = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert list(table[0])[:5] == names
    assert [row["step"] for row in table] == [str(n) for n in range(1, 121)]
    assert [float(row["valid_loss"]) for row in table if row["valid_loss"]] == [
        p["valid_loss"] for p in points
    ]
    assert float(table[-1]["full_valid_mean_token_accuracy"]) == points[-1]["full_valid_mean_token_accuracy"]

    _, unmeasured, adapter_unmeasured = tuned(store, tmp_path, held_out=0)
    assert adapter_unmeasured == adapter
    assert not any(row["valid_loss"] for row in unmeasured)


def test_a_job_says_its_speed_and_the_share_of_the_machines_peak(store: Database, tmp_path: Path) -> None:
    log, _, _ = tuned(store, tmp_path, held_out=0)
    (said,) = [e for e in log if "peak_share" in e.data]
    assert said.type == "message", "metrics are the steps' own: who reads them finds a loss in each"
    assert said.data["tokens_per_s"] > 0 and 0 < said.data["peak_share"] < 10
    assert "tokens/s" in said.message and "of this machine's matrix peak" in said.message
