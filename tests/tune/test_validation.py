"""Measuring on the way tells the truth, stays small, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.data.examples import Example
from inhouse.data.pack import Packed
from inhouse.model.adapters import TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Adapters
from inhouse.model.weights import load_base, save_base
from inhouse.tune.checkpoint import Checkpoints
from inhouse.tune.loop import Step, train
from inhouse.tune.loss import Loss, supervised
from inhouse.tune.validation import Validation, evaluate
from tests.tiny import base_folder
from tests.tune.test_loop import recipe, source

HELD_OUT = [
    Example((1, 20 + i, *b"another fact"[: 4 + i], 2), (False, False) + (True,) * (5 + i)) for i in range(8)
]


def validation(max_tokens: float = 30) -> Validation:
    return Validation(HELD_OUT, max_tokens=max_tokens, seed=0)


def steps(
    work: Path, method: str, measured: Validation | None, *, stop_when_saved: bool = False
) -> list[Step]:
    """A run, its result written to `work`, from whatever checkpoint is there."""
    decoder = load_base(base_folder(work.parent / "base"))
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0) if method == "lora" else None
    done = []
    for step in train(
        decoder,
        lora,
        source(8),
        recipe(method=method, evaluate_every=5),
        validation=measured,
        checkpoints=Checkpoints(work / "checkpoints"),
    ):
        done.append(step)
        if stop_when_saved and step.is_saved:
            return done
    if lora is None:
        save_base(decoder, work / "result", like=work.parent / "base")
    else:
        lora.adapter().write(work / "result", decoder.config, base="base")
    return done


def result(work: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in (work / "result").glob("*.safetensors")}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_measuring_on_the_way_changes_no_byte_of_the_result(method: str, tmp_path: Path) -> None:
    steps(tmp_path / "unmeasured", method, None)
    measured = steps(tmp_path / "measured", method, validation())
    assert sum(s.valid is not None for s in measured) == 5
    assert result(tmp_path / "measured") == result(tmp_path / "unmeasured") != {}


def test_looks_come_every_so_many_steps_and_after_the_last_one(tmp_path: Path) -> None:
    done = steps(tmp_path / "run", "lora", validation())
    assert [s.step for s in done if s.valid] == [5, 10, 15, 20, 24]
    assert [s.step for s in done if s.full_valid] == [24]


def test_a_resumed_run_measures_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    whole = steps(tmp_path / "whole", "lora", validation())
    first = steps(tmp_path / "cut", "lora", validation(), stop_when_saved=True)
    rest = steps(tmp_path / "cut", "lora", validation())
    assert (first[-1].step, rest[0].step) == (7, 8)
    assert [(s.valid, s.full_valid) for s in first + rest] == [(s.valid, s.full_valid) for s in whole]


def test_a_run_cut_while_it_measures_loses_no_point_of_the_curve(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")

    def attempt(loss: Loss) -> Iterator[Step]:
        decoder = load_base(folder)
        lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
        numbers = recipe(evaluate_every=7)  # as checkpoint_every
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        return train(
            decoder, lora, source(8), numbers, validation=validation(), checkpoints=checkpoints, loss=loss
        )

    def cut(
        decoder: Decoder, adapters: Adapters | None, batch: Packed, weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not torch.is_grad_enabled():
            raise InterruptedError
        return supervised(decoder, adapters, batch, weight)

    with pytest.raises(InterruptedError):
        list(attempt(cut))
    assert [s.step for s in attempt(supervised) if s.valid] == [7, 14, 21, 24]


def test_a_large_file_is_sampled_on_the_way_and_read_whole_at_the_end() -> None:
    sample = validation().sample
    assert sum(len(e.ids) for e in sample) <= 30 and 1 < len(sample) < len(HELD_OUT)
    assert sample == validation().sample, "the same rows at every look and in every attempt"
    assert sample != HELD_OUT[: len(sample)], "drawn from the whole file: its head may be of one kind"
    assert len(validation(0).sample) == 1
    assert len(validation(10**6).sample) == len(HELD_OUT)


def test_a_score_is_the_mean_loss_and_the_share_of_likeliest_tokens(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    losses, right = [], []
    for example in HELD_OUT:
        logits = decoder.score([list(example.ids)])[1:-1]  # what follows place 1 and on is trained
        targets = torch.tensor(example.ids[2:])
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        right.append(logits.argmax(-1) == targets)
    for micro_tokens in (16, 4096):  # in several streams, and in one
        score = evaluate(decoder, None, HELD_OUT, micro_tokens=micro_tokens)
        assert score.loss == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
        assert score.accuracy == float(torch.cat(right).float().mean())
    assert not any(t.requires_grad for _, t in decoder.named_tensors())
