"""Rotary position embedding in the half-split layout that Hugging Face checkpoints use.

Source: Su et al., "RoFormer", 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x[i], x[i + K/2]) by its position's angle.

    x         [T, H, K]    any float
    cos, sin  [T, 1, K/2]  float32
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotate.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]
    return _turn(x, cos, sin)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    turned = torch.empty(x.shape, device=x.device)
    to_low, to_high = turned.chunk(2, -1)
    torch.mul(low, cos, out=to_low).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=to_high).addcmul_(low, sin)
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
