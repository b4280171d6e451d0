"""Low-rank updates of many adapters as one wide product: fast where no kernel does groups, and groups are many and
small, because every factor is read once by two products.

The A factors of all adapters stand stacked, for all projections of a fused layer; each token's row gets all columns,
those of foreign adapters are blanked, and the stacked B factors follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.ops.registry import REFERENCE, kernels

STACK_WORK = 2**16
"""Tokens times rank rows from which plain groups are faster: a stack computes every token with every adapter.

Measured on one core (D 896, bfloat16, rank 16), milliseconds a layer, stack against groups: 8 adapters of 4 tokens
each 2.6 and 4.7, 32 of 1 token 5.8 and 15, 32 of 4 tokens 15 and 18, 8 of 64 tokens 20 and 14, 32 of 8 tokens 28
and 19. A kernel for groups beat both everywhere."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The factors of one linear layer, of all adapters in a step, for each of its projections."""

    a: Tensor
    """[ΣR, I]"""
    owner: Tensor
    """[ΣR] int64, the slot that each column is of"""
    parts: tuple[tuple[slice, slice, Tensor], ...]
    """(columns of the output, columns of the stack, B [columns, outputs])"""


def stacked_lora(y: Tensor, x: Tensor, stack: Stack, rows: Tensor, owners: Tensor) -> None:
    """y[rows] += their own adapters' updates. Rows that are not named are not touched.

    y       [T, O]
    x       [T, I]
    rows    [N] int64, places of the stream that use an adapter
    owners  [N, most slots of a row] int64, the slots that each of them uses; -1 fills up
    """
    low = torch.mm(x[rows], stack.a.T)  # [N, ΣR]
    # Filled, not multiplied: an overflow in a foreign adapter's columns must not become NaN here.
    low.masked_fill_((owners[:, :, None] != stack.owner).all(1), 0.0)
    for outputs, columns, b in stack.parts:
        y[rows, outputs] += torch.mm(low[:, columns], b)


def prefers_stack(device: torch.device, *, tokens: int, ranks: Sequence[int]) -> bool:
    """Whether the stack is faster than groups for so many tokens that use adapters, which have these ranks."""
    return kernels.choose("grouped_lora", device).name == REFERENCE and tokens * sum(ranks) < STACK_WORK
