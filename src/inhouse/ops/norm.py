"""Root-mean-square norm, computed in float32 whatever the input's type.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, offset: float = 0.0, is_wide: bool = False) -> Tensor:
    """x / sqrt(mean(x²) + eps) · (offset + weight), over the last dimension.

    x        [..., D]  any float
    weight   [D]       same type as x
    is_wide  multiplies in float32 and rounds behind; otherwise rounds first, as the family was trained
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RmsNorm.apply(x, weight, eps, offset, is_wide)  # type: ignore[no-any-return, no-untyped-call]
    if is_wide:
        return _forward(x, weight, eps, offset, is_wide)[0]
    normed: Tensor = kernels.kernel("norm", x.device)(x, None, weight, eps)[1]
    return normed


def add_rms_norm(x: Tensor, update: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + update, and the norm of that: the two are read and written in one pass where a kernel can.

    x, update  [..., D]
    weight     [D]
    """
    if torch.is_grad_enabled() and (x.requires_grad or update.requires_grad or weight.requires_grad):
        x = x + update
        return x, rms_norm(x, weight, eps)
    both: tuple[Tensor, Tensor] = kernels.kernel("norm", x.device)(x, update, weight, eps)
    return both


def plain(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The operation "norm": (x + update, its norm); x itself where there is no update."""
    if update is not None:
        x = x + update
    return x, _forward(x, weight, eps, 0.0, False)[0]


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


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, update = (made(7, 48, device=device, dtype=dtype, seed=seed) for seed in (0, 1))
    heads, weight = x.view(7, 3, 16), made(48, device=device, dtype=dtype)
    alone = implementation(heads, None, weight[:16], 1e-6)[1]
    return (*implementation(x, update, weight, 1e-5), alone)


kernels.define("norm", plain, _probe)
