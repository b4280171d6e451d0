"""Rotary position embedding in the half-split layout that Hugging Face checkpoints use.

Source: Su et al., "RoFormer", 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x[i], x[i + n]) by its position's angle; what lies behind the n pairs stays as it is.

    x         [T, H, K]  any float
    cos, sin  [T, 1, n]  float32, n at most K/2
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotate.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]
    return _turn(x, cos, sin)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = cos.shape[-1]
    low, high = x[..., :pairs], x[..., pairs : 2 * pairs]
    turned = torch.empty(x.shape, device=x.device)
    to_low, to_high = turned[..., :pairs], turned[..., pairs : 2 * pairs]
    torch.mul(low, cos, out=to_low).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=to_high).addcmul_(low, sin)
    if 2 * pairs < x.shape[-1]:
        turned[..., 2 * pairs :] = x[..., 2 * pairs :]
    return turned.to(x.dtype)


class _Rotate(torch.autograd.Function):
    """A rotation's gradient is the rotation back, so nothing of x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, -sin), None, None
