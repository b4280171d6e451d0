"""Training that is killed while it saves, that runs out of disk, and that meets numbers which are none."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from inhouse.data.loader import Epochs
from inhouse.data.pack import Packed
from inhouse.errors import Diverged, StorageFull
from inhouse.model.adapters import TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Adapters
from inhouse.model.weights import load_base
from inhouse.tune import checkpoint
from inhouse.tune.checkpoint import Checkpoints
from inhouse.tune.loop import Step, train
from inhouse.tune.loss import supervised
from inhouse.tune.optim import Optimizer
from tests.faults.small_disk import small_disk
from tests.faults.spoilt_weights import spoils
from tests.faults.workshop import Workshop, script, working
from tests.tiny import base_folder
from tests.tune.test_loop import recipe, source

WRITER = """
import sys, torch
from pathlib import Path
from inhouse.tune import checkpoint
from inhouse.tune.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
saved = checkpoints.latest()
step = saved.step if saved else 0
print("start", step, flush=True)
while True:
    step += 1
    checkpoints.save(step, {"x": torch.full((50_000,), float(step))}, {"at": step})
    print("saved", step, flush=True)
"""
NAIVE = WRITER.replace(
    "checkpoints.save(",
    """
    import json
    from safetensors.torch import save_file
    def save(step, tensors, state):
        folder = Path(sys.argv[1]) / f"step-{step:08d}"
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / "tensors.safetensors")
        (folder / "state.json").write_text(json.dumps(state))
    save(""",
)


def kill_at_random(folder: Path, code: str, rng: random.Random) -> int:
    """Runs a writer, kills it between 1 and 60 ms after a save, and returns the last step it acknowledged."""
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("start")
    child.stdout.readline()
    time.sleep(rng.random() * 0.06)
    child.send_signal(signal.SIGKILL)
    acknowledged = [line.split() for line in child.stdout.read().splitlines() if line.startswith("saved")]
    child.wait()
    child.stdout.close()
    return max((int(words[1]) for words in acknowledged if len(words) == 2), default=0)


def test_kills_lose_no_acknowledged_checkpoint(tmp_path: Path) -> None:
    """Fault 3: killed at random moments of a save, the newest acknowledged checkpoint is there and whole."""
    rng = random.Random(0)
    for _ in range(5):
        acknowledged = kill_at_random(tmp_path, WRITER, rng)
        newest = Checkpoints(tmp_path).latest()
        assert newest is not None and newest.step >= acknowledged
        assert float(newest.tensors["x"][0]) == newest.step == newest.state["at"]
        assert not list(tmp_path.glob(".tmp-*"))


def test_control_a_writer_that_writes_in_place_leaves_a_newest_step_that_cannot_be_read(
    tmp_path: Path,
) -> None:
    """Fault 3: the control. Of 40 kills some meet it in the middle of a file, or between two."""
    rng = random.Random(0)
    assert any(is_torn(tmp_path / str(kill), rng) for kill in range(40))


def is_torn(folder: Path, rng: random.Random) -> bool:
    """Whether a naive writer that was killed left a newest step that does not say its own number."""
    folder.mkdir()
    kill_at_random(folder, NAIVE, rng)
    newest = max(folder.glob("step-*"))
    number = int(newest.name.removeprefix("step-"))
    try:
        at = json.loads((newest / "state.json").read_text())["at"]
        return not (at == number and bool((load_file(newest / "tensors.safetensors")["x"] == number).all()))
    except (OSError, ValueError, SafetensorError):
        return True


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control: nothing is taken back"])
def test_a_full_disk_leaves_the_last_checkpoint_and_no_scraps(
    is_guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 6: the checkpoint that does not fit leaves the one before it, and nothing half-written, which would keep
    the disk full."""
    with small_disk(tmp_path / "disk", 1) as disk:
        checkpoints = Checkpoints(disk)
        if not is_guarded:
            monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(StorageFull, match="The last one is intact"):
            for step in range(1, 99):
                checkpoints.save(step, {"x": torch.zeros(80_000)}, {})
        newest = checkpoints.latest()
        assert newest is not None and newest.step >= 2
        assert bool(list(disk.glob(".tmp-*"))) is not is_guarded


def poisoned(at: set[int]) -> object:
    """The supervised loss, NaN at some of its calls."""
    calls = iter(range(10**6))

    def loss(decoder: Decoder, adapters: Adapters | None, batch: Packed, weight: float) -> object:
        value, *rest = supervised(decoder, adapters, batch, weight)
        return (value * float("nan") if next(calls) in at else value), *rest

    return loss


def steps_of(tmp_path: Path, at: set[int]) -> list[Step]:
    decoder = load_base(base_folder(tmp_path / "base"))
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    steps = list(train(decoder, lora, source(12), recipe(), checkpoints=checkpoints, loss=poisoned(at)))  # type: ignore[arg-type]
    assert all(f.isfinite().all() for pair in lora.factors.values() for f in pair)
    return steps


def test_one_step_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    """Fault 17: the step is counted, and changes nothing."""
    steps = steps_of(tmp_path, {4})
    assert [s.step for s in steps if s.is_skipped] == [5]
    assert [s.step for s in steps] == list(range(1, 37))


def test_three_in_a_row_roll_back_to_the_last_checkpoint_at_half_the_rate(tmp_path: Path) -> None:
    """Fault 17: the run goes on from there, more slowly."""
    steps = steps_of(tmp_path, {8, 9, 10})
    again = [s for s in steps if s.step == 8]
    assert [s.step for s in steps][:13] == [*range(1, 12), 8, 9]
    assert again[1].learning_rate == again[0].learning_rate / 2


def test_a_run_that_stays_infinite_ends_as_diverged(tmp_path: Path) -> None:
    """Fault 17: two rollbacks do not mend it, so the job is `diverged`."""
    with pytest.raises(Diverged, match="learning_rate"):
        steps_of(tmp_path, set(range(8, 10**4)))


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control: weights are not looked at"])
def test_weights_that_are_no_numbers_are_never_published(
    is_guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 17: what the last step has spoilt is no model, though its loss and gradient were numbers."""
    monkeypatch.setattr(Optimizer, "step", spoils)
    if not is_guarded:
        monkeypatch.setattr(Optimizer, "is_finite", lambda self: True)
    decoder = load_base(base_folder(tmp_path / "base"))
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    one_step = Epochs(source(1).examples, batch_size=5, epochs=1, seed=0)
    run = train(decoder, lora, one_step, recipe(), checkpoints=checkpoints)
    if is_guarded:
        with pytest.raises(Diverged):
            list(run)
        assert checkpoints.latest() is None
    else:
        assert [step.is_skipped for step in run] == [False]
        assert not all(f.isfinite().all() for pair in lora.factors.values() for f in pair)


def test_a_job_whose_weights_become_no_numbers_is_failed_as_diverged_and_publishes_nothing(
    tmp_path: Path,
) -> None:
    """Fault 17: its owner reads why, no model is there, and no number that is none is in its log."""
    shop = Workshop(tmp_path)
    job = shop.submit(epochs=4, batch_size=8)
    with working(shop.settings, command=script("spoilt_weights")):
        ended = shop.ended(job)
    assert ended.state == "failed" and ended.error is not None
    assert ended.error.code == "diverged" and "learning_rate" in ended.error.message
    assert shop.published() == []
    said = [e.data for e in shop.log(job)]
    assert any(data.get("is_skipped") for data in said)
    assert "NaN" not in json.dumps(said)
