"""A tuning job that is paused and resumed ends with the bytes of one that was left alone; its epochs are models."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from inhouse.jobs import queue
from inhouse.schema import Job
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import checkpoints, files, models
from inhouse.store.records import jobs as records
from inhouse.store.records.checkpoints import Checkpoint
from inhouse.worker import pause as pause_module
from inhouse.worker.checkpoints import steps_to_publish
from inhouse.worker.context import Context
from inhouse.worker.tasks import tune

from .test_tasks import ROWS, kept, store

__all__ = ["store"]
TIMED = ("tokens_per_s",)


def submitted(db: Database, folder: Path, id: str, **spec: Any) -> None:
    artifacts = Artifacts(Settings(data_dir=folder).artifacts_dir)
    told = {"base": "tiny", "training": kept(artifacts, ROWS), "epochs": 6, "batch_size": 4, **spec}
    if told.pop("measured", False):
        told["validation"] = kept(artifacts, ROWS[:8])
    job = Job(id=id, project="default", kind="tune", state="queued", spec=told, created_at=1.0)
    queue.submit(db, job)


def attempt(db: Database, folder: Path, *, pause: bool) -> Job:
    """One attempt of the job that waits; with pause its owner asks at once, so that it stops after one step."""
    settings = Settings(data_dir=folder)
    job = queue.claim(db, "w", ["tune"], 600)
    assert job is not None
    if pause:
        with db.write() as conn:
            records.pause(conn, "default", job.id, db.clock(conn))
    scratch = settings.scratch_dir / job.id
    scratch.mkdir(parents=True, exist_ok=True)
    tune(Context(settings, db, Artifacts(settings.artifacts_dir), job, job.fence, scratch))
    with db.read() as conn:
        return records.get(conn, None, job.id)


def resume(db: Database, id: str) -> None:
    with db.write() as conn:
        records.resume(conn, "default", id)


def made(db: Database, folder: Path, job: Job) -> tuple[bytes, list[dict[str, str]], list[Checkpoint]]:
    """The adapter's bytes, the results without times, and the checkpoints."""
    artifacts = Artifacts(Settings(data_dir=folder).artifacts_dir)
    with db.read() as conn:
        results = files.get(conn, "default", job.result["result_files"][0])
        found, _ = checkpoints.page(conn, "default", job.id, limit=100)
    with artifacts.path(results.digest).open(encoding="utf-8", newline="") as f:
        table = [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(f)]
    adapter = artifacts.folder(job.result["digest"]) / "adapter_model.safetensors"
    return adapter.read_bytes(), table, found


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_job_paused_at_every_step_for_a_while_gives_the_same_bytes(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(pause_module, "ASK_S", 0.0)
    submitted(store, tmp_path, "ftjob-left-alone-aaaaaaaa", method=method, measured=True)
    alone = attempt(store, tmp_path, pause=False)
    assert alone.state == "succeeded"

    id = "ftjob-paused-bbbbbbbb"
    submitted(store, tmp_path, id, method=method, measured=True)
    for step in range(1, 9):
        paused = attempt(store, tmp_path, pause=True)
        assert (paused.state, paused.attempts, paused.paused_at is None) == ("queued", 0, False)
        assert queue.claim(store, "other", ["tune"], 600) is None
        with store.read() as conn:
            log, _ = records.events(conn, None, id, limit=100)
        assert f"Paused after step {step} of 36. Resumed, the job goes on from there." in [
            e.message for e in log
        ]
        resume(store, id)
    ended = attempt(store, tmp_path, pause=False)
    assert ended.state == "succeeded"

    if method == "full":
        artifacts = Artifacts(Settings(data_dir=tmp_path).artifacts_dir)
        manifests = [artifacts.manifest(str(job.result["digest"])) for job in (alone, ended)]
        assert manifests[0] == manifests[1]
        return
    adapter, table, found = made(store, tmp_path, alone)
    adapter_paused, table_paused, found_paused = made(store, tmp_path, ended)
    assert adapter_paused == adapter
    assert table_paused == table and len(table) == 36
    assert [(c.step, c.metrics) for c in found_paused] == [(c.step, c.metrics) for c in found]


def test_control_a_job_that_loses_its_checkpoint_begins_anew(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the steps above were not simply run again each time."""
    import shutil

    monkeypatch.setattr(pause_module, "ASK_S", 0.0)
    id = "ftjob-forgetful-cccccccc"
    submitted(store, tmp_path, id)
    for _ in range(2):
        attempt(store, tmp_path, pause=True)
        shutil.rmtree(Settings(data_dir=tmp_path).scratch_dir / id)
        resume(store, id)
    with store.read() as conn:
        log, _ = records.events(conn, None, id, limit=100)
    assert sum(e.message.startswith("Paused after step 1 ") for e in log) == 2


def test_a_pause_that_is_taken_back_in_time_changes_nothing(store: Database, tmp_path: Path) -> None:
    submitted(store, tmp_path, "ftjob-undecided-dddddddd")
    with store.write() as conn:
        records.pause(conn, "default", "ftjob-undecided-dddddddd", 1.0)
    resume(store, "ftjob-undecided-dddddddd")
    assert attempt(store, tmp_path, pause=False).state == "succeeded"


def test_a_job_says_its_numbers_from_its_start(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause_module, "ASK_S", 0.0)
    submitted(store, tmp_path, "ftjob-open-eeeeeeee", batch_size="auto", learning_rate_multiplier=2.0)
    chosen = attempt(store, tmp_path, pause=True).result["hyperparameters"]
    assert (chosen["batch_size"], chosen["epochs"], chosen["learning_rate_multiplier"]) == (2, 6, 2.0)
    resume(store, "ftjob-open-eeeeeeee")
    assert attempt(store, tmp_path, pause=False).result["hyperparameters"] == chosen


class _Source:
    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        self.steps, self.steps_per_epoch = epochs * steps_per_epoch, steps_per_epoch


@pytest.mark.parametrize(
    ("epochs", "chosen"),
    [(1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (40, [5, 10, 15, 20, 25, 30, 35, 38, 39, 40])],
)
def test_the_last_three_epochs_are_published_and_some_before(epochs: int, chosen: list[int]) -> None:
    assert sorted(steps_to_publish(_Source(epochs, 7))) == [7 * epoch for epoch in chosen]  # type: ignore[arg-type]


def test_each_checkpoint_is_a_model_and_the_last_is_the_model_itself(store: Database, tmp_path: Path) -> None:
    submitted(store, tmp_path, "ftjob-with-models-ffffffff", suffix="s", measured=True)
    ended = attempt(store, tmp_path, pause=False)
    _, table, found = made(store, tmp_path, ended)
    assert ended.result["model"] == "ft:tiny:default:s:ffffffff"
    assert [c.step for c in found] == [36, 30, 24, 18, 12, 6]
    artifacts = Artifacts(Settings(data_dir=tmp_path).artifacts_dir)
    with store.read() as conn:
        cards = {c.step: models.get(conn, "default", c.model) for c in found}
        assert models.versions(conn, "default", "ft:tiny:default:s:ffffffff") == []
        assert [c.name for c in models.versions(conn, "default", "ft:tiny:default:s")] == [
            "ft:tiny:default:s:ffffffff"
        ]
    assert cards[6].name == "ft:tiny:default:s:ffffffff:ckpt-step-6"
    assert (cards[6].kind, cards[6].base, cards[6].about["step"]) == ("adapter", "tiny", 6)
    assert cards[36].digest == ended.result["digest"]
    digests = {str(card.digest) for card in cards.values()}
    assert len(digests) == 6
    for digest in digests:
        artifacts.verify_folder(digest)
    for checkpoint in found:
        row = table[checkpoint.step - 1]
        assert checkpoint.metrics["train_loss"] == float(row["train_loss"])
        assert checkpoint.metrics["valid_loss"] == float(row["valid_loss"])
    assert "full_valid_loss" in found[0].metrics and "full_valid_loss" not in found[1].metrics
    assert not list((Settings(data_dir=tmp_path).scratch_dir / ended.id).glob("attempt-*/*"))


def test_a_step_that_is_run_again_replaces_its_checkpoint(store: Database, tmp_path: Path) -> None:
    submitted(store, tmp_path, "ftjob-again-gggggggg")
    with store.write() as conn:  # what a process left that died before it could keep the step
        from inhouse.schema import ModelCard

        card = ModelCard(
            name="ft:tiny:default::gggggggg:ckpt-step-6",
            project="default",
            kind="adapter",
            base="tiny",
            digest="0" * 64,
            job="ftjob-again-gggggggg",
            created_at=1.0,
        )
        checkpoints.put(conn, card, 6, {"step": 6})
    ended = attempt(store, tmp_path, pause=False)
    assert ended.state == "succeeded"
    with store.read() as conn:
        found, _ = checkpoints.page(conn, "default", ended.id, limit=100)
        assert models.get(conn, "default", card.name).digest != "0" * 64
    assert sorted(c.step for c in found) == [6, 12, 18, 24, 30, 36]


def test_a_deleted_checkpoint_leaves_the_list(store: Database, tmp_path: Path) -> None:
    submitted(store, tmp_path, "ftjob-delete-hhhhhhhh")
    ended = attempt(store, tmp_path, pause=False)
    with store.write() as conn:
        models.delete(conn, "default", "ft:tiny:default::hhhhhhhh:ckpt-step-12")
    with store.read() as conn:
        found, _ = checkpoints.page(conn, "default", ended.id, limit=100)
        assert models.get(conn, "default", str(ended.result["model"])).digest == ended.result["digest"]
    assert sorted(c.step for c in found) == [6, 18, 24, 30, 36]
