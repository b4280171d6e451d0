"""A frozen linear layer with low-rank updates on each of the projections fused in it.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def lora_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    parts: tuple[tuple[int, int], ...],
    a: tuple[Tensor, ...],
    b: tuple[Tensor, ...],
) -> Tensor:
    """x Wᵀ + bias, plus scale · (x Aᵀ) Bᵀ on the output columns of each part.

    x       [T, I]        any float
    weight  [O, I]        frozen: no gradient is computed for it
    parts   (start, stop) output columns of each adapted projection, in the order of a and b
    a       [R, I] each   float32 or x's type
    b       [stop - start, R] each
    One saved input serves all parts: x, and the small x Aᵀ.
    """
    return _LoraLinear.apply(x, weight, bias, scale, parts, *a, *b)  # type: ignore[no-any-return, no-untyped-call]


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: float,
        parts: tuple[tuple[int, int], ...],
        *factors: Tensor,
    ) -> Tensor:
        a = torch.cat([f.to(x.dtype) for f in factors[: len(parts)]])  # [n·R, I]
        b = [f.to(x.dtype) for f in factors[len(parts) :]]
        y = F.linear(x, weight, bias)
        low = (x @ a.T).mul_(scale)  # [T, n·R]
        at = 0
        for (start, stop), up in zip(parts, b, strict=True):
            rank = up.shape[1]
            y[:, start:stop] += low[:, at : at + rank] @ up.T
            at += rank
        ctx.save_for_backward(x, weight, low, a, *b)
        ctx.scale, ctx.parts, ctx.types = scale, parts, [f.dtype for f in factors]
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        x, weight, low, a, *b = ctx.saved_tensors
        grad_low = torch.empty_like(low)
        grad_b = []
        at = 0
        for (start, stop), up in zip(ctx.parts, b, strict=True):
            rank = up.shape[1]
            columns = grad[:, start:stop]
            grad_low[:, at : at + rank] = columns @ up
            grad_b.append(columns.T @ low[:, at : at + rank])
            at += rank
        grad_low *= ctx.scale
        grad_a = (grad_low.T @ x).split([up.shape[1] for up in b])
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addmm(grad @ weight, grad_low, a)
        factors = [g.to(t) for g, t in zip((*grad_a, *grad_b), ctx.types, strict=True)]
        return (grad_x, None, None, None, None, *factors)
