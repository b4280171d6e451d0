"""Root-mean-square norm, computed in float32 whatever the input's type.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, offset: float = 0.0, is_wide: bool = False) -> Tensor:
    """x / sqrt(mean(x²) + eps) · (offset + weight), over the last dimension.

    x        [..., D]  any float
    weight   [D]       same type as x
    is_wide  multiplies in float32 and rounds behind; otherwise rounds first, as the family was trained
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RmsNorm.apply(x, weight, eps, offset, is_wide)  # type: ignore[no-any-return, no-untyped-call]
    return _forward(x, weight, eps, offset, is_wide)[0]


def _forward(x: Tensor, weight: Tensor, eps: float, offset: float, is_wide: bool) -> tuple[Tensor, Tensor]:
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if is_wide:
        return (wide * inverse * (offset + weight.float())).to(x.dtype), inverse
    assert not offset, "a norm with an offset multiplies in float32"
    return (wide * inverse).to(x.dtype) * weight, inverse


class _RmsNorm(torch.autograd.Function):
    """Keeps x and one number a row; autograd would keep the float32 copy as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, offset: float, is_wide: bool) -> Tensor:
        y, inverse = _forward(x, weight, eps, offset, is_wide)
        ctx.save_for_backward(x, weight, inverse)
        ctx.offset = offset
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight, inverse = ctx.saved_tensors
        unit = x.float() * inverse
        wide = grad.float() * (ctx.offset + weight.float())
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (inverse * (wide - unit * (wide * unit).mean(-1, keepdim=True))).to(x.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad.float() * unit).flatten(0, -2).sum(0).to(weight.dtype)
        return grad_x, grad_weight, None, None, None
