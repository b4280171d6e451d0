"""The likeliest token of many rows of logits at once: most draws ask for nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


def best_tokens(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row, and whether all of the row is finite.

    logits   [N, V] float32
    returns  [N] int64, [N] bool
    """
    both: tuple[Tensor, Tensor] = kernels.kernel("sample", logits.device)(logits)
    return both


def plain(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits.argmax(-1), torch.isfinite(logits).all(-1)


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Rows with a NaN and with an infinity among others."""
    logits = made(4, 99, device=device, dtype=torch.float32)
    logits[1, 7], logits[2, 98] = torch.nan, torch.inf
    tokens, finite = implementation(logits)
    return tokens[finite], finite


kernels.define("sample", plain, _probe)
