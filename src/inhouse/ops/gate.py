"""What stands in the middle of an MLP: a gate times the rest.

Source: Shazeer, "GLU Variants Improve Transformer", 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) · up, where gate and up are the two halves of the last dimension.

    gate_up  [T, 2·M]  →  [T, M]
    """
    if torch.is_grad_enabled() and gate_up.requires_grad:
        return _SiluMul.apply(gate_up)  # type: ignore[no-any-return, no-untyped-call]
    middle: Tensor = kernels.kernel("gate", gate_up.device)(gate_up)
    return middle


def plain(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def gelu_tanh_mul(gate_up: Tensor) -> Tensor:
    """The same with GELU, by its approximation with tanh. gate_up [T, 2·M] → [T, M]"""
    gate, up = gate_up.chunk(2, -1)
    return F.gelu(gate, approximate="tanh") * up


def clamped_swiglu(gate_up: Tensor, *, alpha: float, limit: float) -> Tensor:
    """gate · sigmoid(alpha · gate) · (up + 1), neither above the limit and up not below minus it.

    gate_up  [T, 2·M]  gates in the even columns, ups in the odd ones  →  [T, M]
    Source: OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025.
    """
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


class _SiluMul(torch.autograd.Function):
    """Keeps its input alone and computes the rest again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return plain(gate_up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        to_gate, to_up = out.chunk(2, -1)
        torch.mul(grad, F.silu(gate), out=to_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=to_gate)
        return out


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (implementation(made(5, 96, device=device, dtype=dtype)),)


kernels.define("gate", plain, _probe)
