"""Random inputs, and how far a result may be from the same thing computed in float64."""

from __future__ import annotations

import torch
from torch import Tensor

TYPES = (torch.float32, torch.float16, torch.bfloat16)
CLOSE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}
"""Of the result's norm: a few units in the last place of the type."""


def normal(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(result: Tensor, wanted: Tensor) -> None:
    """`wanted` is float64."""
    assert result.shape == wanted.shape
    assert torch.isfinite(result).all()
    gap = (result.double() - wanted).norm()
    assert gap <= CLOSE[result.dtype] * wanted.norm(), f"{float(gap / wanted.norm()):.2e} away"
