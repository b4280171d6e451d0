"""How fast a device multiplies matrices: the yardstick that a training run's speed is held against."""

from __future__ import annotations

import time

import torch
from torch import Tensor

BUDGET_S = 0.2
"""Enough for dozens of rounds; the best of them counts, so what else the machine does in between does not."""
SMALLEST, LARGEST = 1024, 8192
ROUND_S = 0.01
"""A quicker product is too small to keep the device busy, and the next one is twice as wide."""


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second in the best of several square products, with the threads torch has."""
    size = SMALLEST
    x = _square(size, device, dtype)
    _product_s(x, device)  # libraries wake up at their first product
    best, until = 0.0, time.perf_counter() + BUDGET_S
    while time.perf_counter() < until:
        seconds = _product_s(x, device)
        best = max(best, 2 * size**3 / seconds)
        if seconds < ROUND_S and size < LARGEST:
            size *= 2
            x = _square(size, device, dtype)
    return best


def _square(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers that differ: a product of equal ones draws less power, and some devices then run faster."""
    return torch.arange(size * size, device=device, dtype=torch.float32).sin_().view(size, size).to(dtype)


def _product_s(x: Tensor, device: torch.device) -> float:
    began = time.perf_counter()
    x @ x
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began
