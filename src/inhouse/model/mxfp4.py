"""Weights in MXFP4, as numbers: four bits each, and a power of two for every 32 of them.

Source: Open Compute Project, "OCP Microscaling Formats (MX) Specification", version 1.0, 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What three bits say: one of mantissa behind two of exponent. The fourth, highest bit is the sign."""
_BIAS = 127
"""A scale byte of this is 1."""


def dequantise(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights that blocks and scales stand for. Exact in bfloat16 and above, but for the widest scales.

    blocks   [..., n, 16]  uint8, two numbers a byte, the lower four bits first
    scales   [..., n]      uint8
    returns  [..., n · 32]
    """
    numbers = torch.tensor((*_MAGNITUDES, *(-m for m in _MAGNITUDES)), dtype=dtype, device=blocks.device)
    pairs = torch.stack((blocks & 0x0F, blocks >> 4), -1).flatten(-2)  # [..., n, 32]
    values = numbers[pairs.int()]
    exponents = scales.to(torch.int32)[..., None] - _BIAS
    return torch.ldexp(values, exponents).to(dtype).flatten(-2)
