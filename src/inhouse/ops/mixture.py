"""Many small MLPs of which each token uses a few.

Uses are sorted by expert once, so that each expert that anybody uses is read once and makes one product, and one that
nobody uses costs nothing. How experts' matrices lie, and what multiplies with them, is `ops.expert_matrices`' matter.

Source: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Uses:
    """Which expert each of N rows is for. The rows of one expert follow one another, and experts rise."""

    experts: Tensor
    """[N] int64"""
    count: int
    """How many experts there are, used or not"""

    @cached_property
    def active(self) -> tuple[list[int], list[int]]:
        """The experts that anybody uses, and how many rows each has. Asks the device."""
        experts, rows = self.experts.unique_consecutive(return_counts=True)
        return experts.tolist(), rows.tolist()

    @cached_property
    def stops(self) -> Tensor:
        """Where each expert's rows end, [E] int32. Asks nobody."""
        every = torch.arange(self.count, device=self.experts.device)
        return torch.searchsorted(self.experts, every, right=True, out_int32=True)


class ExpertMatrices(Protocol):
    """W [E, O, I], with a bias [E, O] or none, in some form."""

    def products(self, x: Tensor, uses: Uses) -> Tensor:
        """x Wᵀ + bias of each row's expert. x [N, I] → [N, O] of x's type."""

    @property
    def count(self) -> int:
        """E"""


def choose_experts(scores: Tensor, active: int, *, is_normalised: bool) -> tuple[Tensor, Tensor]:
    """The likeliest experts of each token, and each one's share.

    scores   [T, E]  the router's
    returns  [T, A] int64 and [T, A] of the scores' type. Shares are of all experts' softmax; normalised, they make one.
    """
    shares, chosen = scores.float().softmax(-1).topk(active, -1)
    if is_normalised:
        shares = shares / shares.sum(-1, keepdim=True)
    return chosen, shares.to(scores.dtype)


def mix_experts(
    x: Tensor,
    chosen: Tensor,
    shares: Tensor,
    up: ExpertMatrices,
    down: ExpertMatrices,
    middle: Callable[[Tensor], Tensor],
) -> Tensor:
    """The sum over a token's experts of share · down(middle(up(x))).

    x        [T, D]
    chosen   [T, A]     int64, each token's experts, none of them twice
    shares   [T, A]
    up       of [E, O, D]
    down     of [E, D, M]
    middle   [n, O] → [n, M]
    returns  [T, D]
    """
    experts, order = chosen.flatten().sort(stable=True)  # [T · A]
    uses = Uses(experts, up.count)
    rows = x.index_select(0, order // chosen.shape[1])  # [T · A, D]
    given = down.products(middle(up.products(rows, uses)), uses)
    each = given.index_select(0, order.argsort()).view(*chosen.shape, -1)  # [T, A, D]
    return (each * shares[..., None]).sum(1)
