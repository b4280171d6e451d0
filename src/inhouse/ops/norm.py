"""Root-mean-square norm, computed in float32 whatever the input's type.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension.

    x       [..., D]  any float
    weight  [D]       same type as x
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RmsNorm.apply(x, weight, eps)  # type: ignore[no-any-return, no-untyped-call]
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
    return x, _forward(x, weight, eps)[0]


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


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, update = (made(7, 48, device=device, dtype=dtype, seed=seed) for seed in (0, 1))
    heads, weight = x.view(7, 3, 16), made(48, device=device, dtype=dtype)
    alone = implementation(heads, None, weight[:16], 1e-6)[1]
    return (*implementation(x, update, weight, 1e-5), alone)


kernels.define("norm", plain, _probe)
