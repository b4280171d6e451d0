"""A run's speed is told twice, and its share is work done over what the device could do."""

from __future__ import annotations

import pytest
import torch

from inhouse.tune.loop import Step
from inhouse.worker.speed import SETTLED_S, Speed, sentence


def step(number: int, seconds: float) -> Step:
    return Step(number, 9, 1.0, 0.5, 1e-3, 1.0, tokens=600, operations=3e9, seconds=seconds)


def test_the_speed_is_due_once_it_has_settled_and_at_the_end() -> None:
    speed = Speed(torch.device("cpu"), torch.float32)
    due = [n for n in range(1, 10) if speed.add(step(n, SETTLED_S / 4))]
    assert due == [4, 9]


def test_the_share_is_the_work_done_over_the_peak() -> None:
    speed = Speed(torch.device("cpu"), torch.float32)
    speed.add(step(1, 2.0))
    speed.add(step(2, 1.0))
    facts = speed.facts()
    assert facts["tokens_per_s"] == pytest.approx(400)
    assert facts["peak_share"] * facts["peak_tflops"] * 1e12 == pytest.approx(2e9)
    assert speed.facts() == facts, "the peak is measured once"


def test_the_sentence_reads_as_people_say_it() -> None:
    facts = {"tokens_per_s": 3411.7, "peak_share": 0.43, "peak_tflops": 0.312, "dtype": "bfloat16"}
    assert sentence(facts) == (
        "3,412 tokens/s, 43 % of this machine's matrix peak (0.31 TFLOP/s in bfloat16, measured just now)."
    )


def test_without_memory_for_the_peak_the_speed_is_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> float:  # no CPU runs out of memory when it is asked to
        raise torch.OutOfMemoryError

    monkeypatch.setattr("inhouse.worker.speed.matrix_peak", full)
    speed = Speed(torch.device("cpu"), torch.float32)
    speed.add(step(1, 2.0))
    assert sentence(speed.facts()) == "300 tokens/s in float32."
