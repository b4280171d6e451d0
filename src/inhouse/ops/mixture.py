"""Many small MLPs of which each token uses a few: the plain version, with gradients.

Tokens are sorted by expert, so that each expert that anybody uses is read once and makes one product.

Source: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


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
    up: Tensor,
    up_bias: Tensor | None,
    down: Tensor,
    down_bias: Tensor | None,
    middle: Callable[[Tensor], Tensor],
) -> Tensor:
    """The sum over a token's experts of share · (middle(x Upᵀ + bias) Downᵀ + bias).

    x        [T, D]
    chosen   [T, A]     int64, each token's experts, none of them twice
    shares   [T, A]
    up       [E, O, D]  with up_bias [E, O]
    down     [E, D, M]  with down_bias [E, D]
    middle   [n, O] → [n, M]
    returns  [T, D]
    """
    active = chosen.shape[1]
    order = chosen.flatten().argsort(stable=True)  # [T · A], uses by expert
    counts = chosen.flatten().bincount(minlength=len(up)).tolist()
    # Taken apart once: a gradient of each up[e] alone would be as large as all of them.
    ups, downs = up.unbind(), down.unbind()
    up_biases = [None] * len(ups) if up_bias is None else up_bias.unbind()
    down_biases = [None] * len(ups) if down_bias is None else down_bias.unbind()
    made = [
        F.linear(middle(F.linear(rows, ups[e], up_biases[e])), downs[e], down_biases[e])
        for e, rows in enumerate(x[order // active].split(counts))
        if len(rows)
    ]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    each = torch.cat(made)[back].view(*chosen.shape, -1)  # [T, A, D]
    return (each * shares[..., None]).sum(1)
