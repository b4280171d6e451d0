"""Root-mean-square norm, computed in float32 whatever the input's type.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension.

    x       [..., D]  any float
    weight  [D]       same type as x
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RmsNorm.apply(x, weight, eps)  # type: ignore[no-any-return, no-untyped-call]
    return _forward(x, weight, eps)[0]


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * inverse).to(x.dtype) * weight, inverse


class _RmsNorm(torch.autograd.Function):
    """Keeps x and one number a row; autograd would keep the float32 copy as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, inverse = _forward(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        x, weight, inverse = ctx.saved_tensors
        unit = x.float() * inverse
        wide = grad.float() * weight.float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (inverse * (wide - unit * (wide * unit).mean(-1, keepdim=True))).to(x.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad.float() * unit).flatten(0, -2).sum(0).to(weight.dtype)
        return grad_x, grad_weight, None
