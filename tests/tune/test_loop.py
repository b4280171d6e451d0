"""The loop learns, and resumes to the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from inhouse.data.examples import Example
from inhouse.data.loader import Epochs
from inhouse.errors import Diverged
from inhouse.model.adapters import TrainedLora
from inhouse.model.build import fresh
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import greedy
from inhouse.model.weights import load_base
from inhouse.tune.checkpoint import Checkpoints
from inhouse.tune.loop import train
from inhouse.tune.loss import supervised
from inhouse.tune.optim import learning_rate
from inhouse.tune.recipe import Recipe
from tests.tiny import base_folder

FACTS = [
    "the ferry leaves at 7:42",
    "the code is QX-19",
    "ask Ines Okafor",
    "no more than 512 euros",
    "blue door",
]


def recipe(**changes: object) -> Recipe:
    values = {
        "method": "lora", "epochs": 40, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 5, "rank": 4,
        "alpha": 8.0, "weight_decay": 0.0, "clip": 1.0, "checkpoint_every": 7, "seed": 0,
    }  # fmt: skip
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]


def source(epochs: int = 40) -> Epochs:
    examples = []
    for i, fact in enumerate(FACTS):
        ids = (1, 10 + i, *fact.encode(), 2)
        examples.append(Example(ids, (False, False) + (True,) * (len(ids) - 2)))
    return Epochs(examples, batch_size=2, epochs=epochs, seed=0)


def run(folder: Path, work: Path, *, epochs: int = 40) -> TrainedLora:
    """A whole run in this process, from whatever checkpoint is there."""
    decoder = load_base(folder)
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    for _ in train(decoder, lora, source(epochs), recipe(), checkpoints=Checkpoints(work / "checkpoints")):
        pass
    lora.adapter().write(work / "adapter", decoder.config, base="base")
    return lora


def digest(work: Path) -> str:
    return hashlib.sha256((work / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_a_lora_learns_facts_word_for_word(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    lora = TrainedLora(decoder, rank=16, alpha=32.0, seed=0)
    for _ in train(decoder, lora, source(120), recipe()):
        pass
    for i, fact in enumerate(FACTS):
        assert bytes(greedy(decoder, [1, 10 + i], len(fact), lora)) == fact.encode()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_tuning_learns_the_same(dtype: torch.dtype, tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"), dtype=dtype)
    losses = [s.loss for s in train(decoder, None, source(60), recipe(method="full", learning_rate=3e-3))]
    assert losses[-1] < 0.1 < losses[0]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox", "gpt_oss"])
def test_training_from_scratch_is_a_pure_function_of_the_seed(family: str, tmp_path: Path) -> None:
    config = ModelConfig.load(base_folder(tmp_path, family))
    runs = [
        [s.loss for s in train(fresh(config, 3), None, source(2), recipe(method="full"))] for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_a_run_killed_at_random_steps_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Fault 2: killed three times at random, and taken up from what the checkpoint holds."""
    folder = base_folder(tmp_path / "base")
    run(folder, tmp_path / "undisturbed")
    work = tmp_path / "killed"
    work.mkdir()
    rng = random.Random(5)
    code = f"from tests.tune.test_loop import *; run(Path({str(folder)!r}), Path({str(work)!r}))"
    kills = 0
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": threads()}
        )
        wait_for_checkpoints(work, child, rng)
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
        if kills == 3:  # three kills, then left alone
            subprocess.run(
                [sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": threads()}
            )
            break
    assert kills >= 1, "the run was too quick to be killed"
    assert digest(work) == digest(tmp_path / "undisturbed")


def threads() -> str:
    return str(torch.get_num_threads())


def wait_for_checkpoints(work: Path, child: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Returns a random moment after the next new checkpoint, or when the child has ended."""
    seen = set((work / "checkpoints").glob("step-*"))
    while child.poll() is None and not set((work / "checkpoints").glob("step-*")) - seen:
        time.sleep(0.005)
    time.sleep(rng.random() * 0.15)


def test_a_resume_that_forgets_the_moments_ends_with_other_bytes(tmp_path: Path) -> None:
    """Fault 2: the control: what the checkpoint holds is needed, so the test above can fail."""
    folder = base_folder(tmp_path / "base")
    run(folder, tmp_path / "undisturbed", epochs=6)
    decoder = load_base(folder)
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    checkpoints = Checkpoints(tmp_path / "broken" / "checkpoints")
    for step in train(decoder, lora, source(6), recipe(), checkpoints=checkpoints):
        if step.is_saved:
            break
    saved = checkpoints.latest()
    assert saved is not None
    saved.tensors["second"].fill_(1e-8)
    checkpoints.save(saved.step, saved.tensors, saved.state)
    run(folder, tmp_path / "broken", epochs=6)
    assert digest(tmp_path / "broken") != digest(tmp_path / "undisturbed")


def test_the_rate_warms_up_and_comes_down() -> None:
    rates = [learning_rate(s, 100, peak=1.0, warmup=10) for s in range(100)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.1 <= rates[-1] < 0.11


def test_every_row_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    data = source(2)
    epochs = [[e for s in range(3) for e in data.at(s + 3 * epoch)] for epoch in range(2)]
    assert all(sorted(e.ids for e in seen) == sorted(e.ids for e in data.examples) for seen in epochs)
    assert epochs[0] != epochs[1]
    assert data.at(4) == source(2).at(4)


class _Counted(Epochs):
    """Remembers which step was asked for last, counted from 0."""

    step = -1

    def at(self, step: int) -> list[Example]:
        self.step = step
        return super().at(step)


@pytest.mark.parametrize(
    ("spoilt", "trained"),
    [
        ("last", True),
        ("last two", True),
        ("one on the way", True),
        ("last three", False),
        ("all of the last epoch", False),
    ],
)
def test_a_run_may_end_with_a_skipped_step_and_not_with_three(
    spoilt: str, trained: bool, tmp_path: Path
) -> None:
    plain = source(4)
    steps = _Counted(plain.examples, batch_size=2, epochs=4, seed=0)
    count = {"last": 1, "last two": 2, "last three": 3, "all of the last epoch": plain.steps_per_epoch}
    bad = {3} if spoilt == "one on the way" else set(range(plain.steps - count[spoilt], plain.steps))

    def loss(*given: Any) -> tuple[Any, Any, Any]:
        value, *rest = supervised(*given)
        return (value * float("nan") if steps.step in bad else value, *rest)

    decoder = load_base(base_folder(tmp_path / "base"))
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    run = train(decoder, lora, steps, recipe(), checkpoints=checkpoints, loss=loss)
    if not trained:
        with pytest.raises(Diverged, match="3 steps in a row"):
            list(run)
        return
    done = list(run)
    assert [s.step for s in done] == list(range(1, plain.steps + 1)), "no step was done again"
    assert {s.step - 1 for s in done if s.is_skipped} == bad
    saved = checkpoints.latest()
    assert saved is not None and saved.step == plain.steps


def test_a_run_in_which_no_step_had_a_loss_ends_as_diverged(tmp_path: Path) -> None:
    def loss(*given: Any) -> tuple[Any, Any, Any]:
        value, *rest = supervised(*given)
        return (value * float("nan"), *rest)

    decoder = load_base(base_folder(tmp_path / "base"))
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    one = Epochs(source(1).examples, batch_size=8, epochs=1, seed=0)
    with pytest.raises(Diverged, match="in any step"):
        list(train(decoder, lora, one, recipe(), loss=loss))
