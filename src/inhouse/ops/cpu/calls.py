"""What calls into the kernels share."""

from __future__ import annotations

import torch
from torch import Tensor

LANES = 16
"""Numbers that a kernel takes at once: widths are multiples of it."""
WORTH_THREADS = 2**16
"""Multiplications below which one thread is quicker than many."""

_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def name_of(first: Tensor, *others: Tensor) -> str:
    """The kernels' word for the type that all tensors have; empty where they differ, or no kernel takes it."""
    kind = first.dtype
    return _NAMES.get(kind, "") if all(t.dtype is kind for t in others) else ""


def threads_for(work: int) -> int:
    """Threads for so many multiplications."""
    return torch.get_num_threads() if work >= WORTH_THREADS else 1


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin; None for none."""
    return None if tensor is None else tensor.data_ptr()
