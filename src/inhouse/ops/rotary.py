"""Rotary position embedding in the half-split layout that Hugging Face checkpoints use.

Source: Su et al., "RoFormer", 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x[i], x[i + n]) by its position's angle; what lies behind the n pairs stays as it is.

    x         [T, H, K]  any float
    cos, sin  [T, 1, n]  float32, n at most K/2
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotate.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]
    return _turn(x, cos, sin)


def rotate_and_write(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rotation: tuple[Tensor, Tensor] | None,
    keys: Tensor,
    values: Tensor,
    write: Tensor,
) -> Tensor:
    """Turns queries and keys, puts keys and values at their places of the cache, and returns the queries.

    q             [T, H, K]        k, v  [T, G, K]; all three may be slices of wider rows
    rotation      cos and sin as for `rotate`; None where positions do not rotate
    keys, values  [places, G, K]   one layer's cache
    write         [T] int64        a place may stand twice only where nobody reads it
    """
    turned: Tensor = kernels.kernel("rotary", q.device)(q, k, v, rotation, keys, values, write)
    return turned


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rotation: tuple[Tensor, Tensor] | None,
    keys: Tensor,
    values: Tensor,
    write: Tensor,
) -> Tensor:
    if rotation is not None:
        q, k = rotate(q, *rotation), rotate(k, *rotation)
    keys.index_copy_(0, write, k)
    values.index_copy_(0, write, v)
    return q


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


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Five tokens of four heads over two, cut from one product, written out of order; some turned in part or not."""
    qkv = made(5, 8, 16, device=device, dtype=dtype)
    q, k, v = qkv.split((4, 2, 2), 1)
    angles = made(5, 1, 8, device=device, dtype=torch.float32, seed=1)
    keys, values = (torch.zeros(9, 2, 16, device=device, dtype=dtype) for _ in range(2))
    write = torch.tensor([7, 0, 3, 4, 1]).to(device)
    turned = implementation(q, k, v, (angles.cos(), angles.sin()), keys, values, write)
    part = implementation(
        q[:1], k[:1], v[:1], (angles[:1, :, :5].cos(), angles[:1, :, :5].sin()), keys, values, write[:1] - 1
    )
    still = implementation(q[:1], k[:1], v[:1], None, keys, values, write[:1] + 1)
    return turned, part, still, keys, values


kernels.define("rotary", plain, _probe)
