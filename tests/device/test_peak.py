"""The measured peak is a real speed, soon known, and leaves no trace."""

from __future__ import annotations

import itertools
import math
import time

import pytest
import torch

from inhouse.device import matrix_peak
from inhouse.device import peak as peak_module
from inhouse.device.peak import BUDGET_S


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_about_the_speed_of_a_large_product(dtype: torch.dtype) -> None:
    peak = matrix_peak(torch.device("cpu"), dtype)
    x = torch.rand(1024, 1024).to(dtype)
    quickest = math.inf
    for _ in range(8):
        began = time.perf_counter()
        x @ x
        quickest = min(quickest, time.perf_counter() - began)
    assert 0.2 < 2 * 1024**3 / quickest / peak < 3


def test_a_product_counts_two_operations_for_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says that every product takes a second."""
    ticks = itertools.count()
    monkeypatch.setattr(peak_module, "_product_s", lambda x, device: 1.0)
    monkeypatch.setattr(peak_module.time, "perf_counter", lambda: next(ticks) * BUDGET_S / 2)
    assert matrix_peak(torch.device("cpu"), torch.float32) == 2 * 1024**3


def test_measuring_ends_soon_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    began = time.process_time()
    assert matrix_peak(torch.device("cpu"), torch.float32) > 0
    assert time.process_time() - began < BUDGET_S * 5 + 1
    assert torch.equal(torch.get_rng_state(), before)
