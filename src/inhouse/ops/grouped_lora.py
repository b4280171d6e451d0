"""Low-rank updates of many adapters in one product: the plain version.

An arena holds the factors of many adapters as rank rows, one after the other; which rows are whose, and which tokens
of a step use them, is said by `Groups`. Kernels for one kind of device stand beside this and must agree with it.

Source of the idea of one arena for ranks that differ: Sheng et al., "S-LoRA: Serving Thousands of Concurrent LoRA
Adapters", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.ops.probe import integers, made
from inhouse.ops.registry import Implementation, kernels


@dataclass(frozen=True, slots=True)
class Groups:
    """Who uses which adapter in a step. A token stands in one group at most; two adapters for it are two `Groups`."""

    rows: Tensor
    """[N] int32, places of the stream, those of one adapter side by side"""
    bounds: Tensor
    """[S + 1] int32, where each adapter's places begin in `rows`"""
    starts: Tensor
    """[S] int32, the adapter's first rank row in the arena"""
    ranks: Tensor
    """[S] int32, how many rank rows it has"""
    longest: int
    """Most tokens of one adapter."""
    highest: int
    """Highest rank among them."""


def grouped_lora(y: Tensor, x: Tensor, a: Tensor, b: Tensor, groups: Groups) -> None:
    """y[rows] += (x[rows] A[ranks]ᵀ) B[ranks], for each group. Rows outside every group are not touched.

    y  [T, O]      may be a slice of wider rows, such as one projection of a fused layer
    x  [T, I]
    a  [rows, I]   rank rows of the arena
    b  [rows, O]   the other factor, transposed, with the adapter's scale already in it
    """
    kernels.kernel("grouped_lora", x.device)(y, x, a, b, groups)


def plain(y: Tensor, x: Tensor, a: Tensor, b: Tensor, groups: Groups) -> None:
    bounds, starts, ranks = (t.tolist() for t in (groups.bounds, groups.starts, groups.ranks))
    for group, (start, rank) in enumerate(zip(starts, ranks, strict=True)):
        rows = groups.rows[bounds[group] : bounds[group + 1]].long()
        mine = slice(start, start + rank)
        low = torch.mm(x[rows], a[mine].T)  # [n, R]
        y[rows] += torch.mm(low, b[mine])


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Three adapters of ranks 1, 4 and 16, the second of which nobody uses; y is a slice of wider rows."""
    groups = Groups(
        rows=integers([3, 0, 1, 5, 8, 6], device),
        bounds=integers([0, 1, 1, 6], device),
        starts=integers([2, 20, 3], device),
        ranks=integers([1, 4, 16], device),
        longest=5,
        highest=16,
    )
    x, a, b, y = (
        made(*shape, device=device, dtype=dtype, seed=seed)
        for seed, shape in enumerate([(9, 40), (24, 40), (24, 36), (9, 80)])
    )
    implementation(y[:, 16:52], x, a, b, groups)
    return (y,)


kernels.define("grouped_lora", plain, _probe)
