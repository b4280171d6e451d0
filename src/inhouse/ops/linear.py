"""A linear layer without any adapter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + bias.

    x       [T, I]
    weight  [O, I]  x's type
    bias    [O]
    """
    result: Tensor = kernels.kernel("linear", x.device)(x, weight, bias)
    return result


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, weight, bias = (made(*shape, device=device, dtype=dtype) for shape in ((5, 48), (40, 48), (40,)))
    return implementation(x, weight, bias), implementation(x[:1], weight, None)


kernels.define("linear", F.linear, _probe)
