"""The measured peak is a real speed, soon known, and leaves no trace."""

from __future__ import annotations

import time

import pytest
import torch

from inhouse.device import matrix_peak
from inhouse.device.peak import BUDGET_S


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_plain_product_is_much_faster_than_the_peak(dtype: torch.dtype) -> None:
    peak = matrix_peak(torch.device("cpu"), dtype)
    x = torch.ones(256, 256, dtype=dtype)
    began = time.perf_counter()
    x @ x
    assert 2 * 256**3 / (time.perf_counter() - began) < 10 * peak


def test_measuring_ends_soon_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    began = time.process_time()
    assert matrix_peak(torch.device("cpu"), torch.float32) > 0
    assert time.process_time() - began < BUDGET_S * 5 + 1
    assert torch.equal(torch.get_rng_state(), before)
