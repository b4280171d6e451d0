"""The parts of a decoder block. They know tensors; they know neither files nor requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse import ops


@dataclass(frozen=True, slots=True)
class Part:
    """One projection of the checkpoint inside a fused linear layer: rows start to stop of its weight."""

    name: str
    """The module's name in the checkpoint, such as model.layers.0.self_attn.q_proj."""
    start: int
    stop: int


class Adapters(Protocol):
    """What adds low-rank updates to linear layers: one adapter in training, many at once in serving."""

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        """The layer's product with its updates. x [T, I] → [T, O]. Starts from `linear.product(x)`."""


class Attend(Protocol):
    """What turns queries, keys and values of a token stream into attention's output, rotated by their positions."""

    def __call__(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """q [T, H, K], k and v [T, G, K] → [T, H, K]."""


class Packed:
    """Attention for a stream of whole segments: training, scoring, and the plain way to generate."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = tuple(lengths)

    def __call__(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        if rotation is not None:
            q, k = ops.rotate(q, *rotation), ops.rotate(k, *rotation)
        return ops.attend_segments(q, k, v, self.lengths, scale=scale, window=window)


@dataclass(slots=True)
class Linear:
    """A linear layer that may hold several projections of the checkpoint, so that one product serves all."""

    weight: Tensor
    """[O, I]"""
    bias: Tensor | None
    """[O]"""
    parts: tuple[Part, ...]
    served: ops.Matrix | None = None
    """The weight as serving holds it; then `weight` has a shape and no numbers."""

    def product(self, x: Tensor) -> Tensor:
        """x Wᵀ + bias, without any adapter. x [T, I] → [T, O]."""
        if self.served is not None:
            return self.served.product(x, self.bias)
        return F.linear(x, self.weight, self.bias)

    def serve(self, quantization: str) -> None:
        """Lays the weight out for serving, and lets go of the plain one."""
        self.served = ops.for_serving(self.weight, quantization)
        self.weight = self.weight.to("meta")

    def __call__(self, x: Tensor, adapters: Adapters | None) -> Tensor:
        return self.product(x) if adapters is None else adapters(self, x)


@dataclass(slots=True)
class Norm:
    """RMS norm, or layer norm where there is a bias."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return ops.rms_norm(x, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def added(self, x: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
        """x + update, and its norm."""
        if self.bias is None:
            return ops.add_rms_norm(x, update, self.weight, self.eps)
        x = x + update
        return x, self(x)


@dataclass(slots=True)
class Attention:
    """Grouped-query attention. The cache, if any, is behind `attend`."""

    layer: int
    qkv: Linear
    out: Linear
    q_norm: Norm | None
    k_norm: Norm | None
    heads: int
    kv_heads: int
    head_width: int
    window: int | None

    def __call__(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, attend: Attend, adapters: Adapters | None
    ) -> Tensor:
        width, groups = self.head_width, self.kv_heads
        qkv = self.qkv(x, adapters).unflatten(-1, (-1, width))  # [T, H + 2G, K]
        q, k, v = qkv.split((self.heads, groups, groups), 1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        mixed = attend(self.layer, q, k, v, rotation, scale=width**-0.5, window=self.window)  # [T, H, K]
        return self.out(mixed.flatten(1), adapters)


@dataclass(slots=True)
class Mlp:
    """Gated by SiLU where `gated`, else the plain two-layer kind with GELU."""

    up: Linear
    """Gate and up in one when gated."""
    down: Linear
    gated: bool

    def __call__(self, x: Tensor, adapters: Adapters | None) -> Tensor:
        middle = self.up(x, adapters)
        middle = ops.silu_mul(middle) if self.gated else F.gelu(middle, approximate="tanh")
        return self.down(middle, adapters)


@dataclass(slots=True)
class Block:
    """Attention and MLP, each behind a norm and added to the stream."""

    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: Mlp

    def __call__(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, attend: Attend, adapters: Adapters | None
    ) -> Tensor:
        update = self.attention(self.attention_norm(x), rotation, attend, adapters)
        x, normed = self.mlp_norm.added(x, update)
        return x + self.mlp(normed, adapters)


class Rotation:
    """Cosines and sines of rotary positions, from a table that grows as contexts need."""

    def __init__(self, frequencies: Sequence[float], device: torch.device) -> None:
        self.frequencies = torch.tensor(frequencies, dtype=torch.float64)
        self._device = device
        self._cos = self._sin = torch.empty(0, len(frequencies), device=device)

    def __call__(self, positions: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """positions [T] int64, all below `longest` → cos and sin, each [T, 1, K/2] float32."""
        if longest > len(self._cos):
            angles = torch.outer(torch.arange(longest, dtype=torch.float64), self.frequencies).float()
            self._cos = angles.cos().to(self._device)
            self._sin = angles.sin().to(self._device)
        return self._cos[positions, None], self._sin[positions, None]
