"""Small inputs on which an implementation is tried beside the reference: the same numbers each time."""

from __future__ import annotations

import torch
from torch import Tensor


def made(*shape: int, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Numbers around zero from a generator of the CPU, so that every device is given the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)


def integers(values: list[int] | list[list[int]], device: torch.device) -> Tensor:
    """int32 on the device."""
    return torch.tensor(values, dtype=torch.int32).to(device)
