"""The parts of a decoder block. They know tensors; they know neither files nor requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse import ops
from inhouse.model.rope import Rope

Turns = tuple[tuple[Tensor, Tensor], ...]
"""For each rope of the model, cosines and sines of a stream's positions, each [T, 1, pairs] float32."""
Middle = Callable[[Tensor], Tensor]
"""What stands between an MLP's two products: [T, M or 2·M] → [T, M]."""


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
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """q [T, H, K], k and v [T, G, K], sinks [H] → [T, H, K]. `ops.scored_attention` says what the options mean."""


class Stream(Attend, Protocol):
    """The same, for a stream whose sequences it knows."""

    def reach(self) -> Tensor:
        """How long each token's own sequence is by now, tokens that are still to be read included. [T] int64"""


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
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        if rotation is not None:
            q, k = ops.rotate(q, *rotation), ops.rotate(k, *rotation)
        return ops.attend_segments(q, k, v, self.lengths, scale=scale, window=window, cap=cap, sinks=sinks)

    def reach(self) -> Tensor:
        lengths = torch.tensor(self.lengths)
        return lengths.repeat_interleave(lengths)


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

    @property
    def weight_bytes(self) -> int:
        return (self.served or self.weight).nbytes

    def serve(self, quantization: str) -> None:
        """Lays the weight out for serving, and lets go of the plain one."""
        self.served = ops.for_serving(self.weight, quantization)
        self.weight = self.weight.to("meta")

    def __call__(self, x: Tensor, adapters: Adapters | None) -> Tensor:
        return self.product(x) if adapters is None else adapters(self, x)

    def named_tensors(self, label: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{label}.weight", self.weight
        if self.bias is not None:
            yield f"{label}.bias", self.bias


@dataclass(slots=True)
class Norm:
    """RMS norm, or layer norm where there is a bias."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    offset: float = 0.0
    """Added to the weight."""
    is_wide: bool = False
    """Multiplies by the weight in float32, before it rounds."""

    def __call__(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return ops.rms_norm(x, self.weight, self.eps, offset=self.offset, is_wide=self.is_wide)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def added(self, x: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
        """x + update, and its norm."""
        if self.bias is None and not self.is_wide:
            return ops.add_rms_norm(x, update, self.weight, self.eps)
        x = x + update
        return x, self(x)

    def named_tensors(self, label: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{label}.weight", self.weight
        if self.bias is not None:
            yield f"{label}.bias", self.bias


@dataclass(slots=True)
class Attention:
    """Grouped-query attention. The cache, if any, is behind `attend`."""

    layer: int
    qkv: Linear
    out: Linear
    heads: int
    kv_heads: int
    head_width: int
    scale: float
    q_norm: Norm | None = None
    """As wide as a head, or as all of them, which it then takes as one."""
    k_norm: Norm | None = None
    rope: int | None = 0
    """Which of the model's ropes turns it; None does not turn."""
    window: int | None = None
    cap: float | None = None
    sinks: Tensor | None = None
    """[H]"""
    is_interleaved: bool = False
    """Query, key and value of a head lie together in `qkv`."""

    def __call__(self, x: Tensor, turns: Turns, attend: Attend, adapters: Adapters | None) -> Tensor:
        q, k, v = self._heads(self.qkv(x, adapters))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self._normed(q, self.q_norm), self._normed(k, self.k_norm)
        rotation = None if self.rope is None else turns[self.rope]
        mixed = attend(
            self.layer,
            q,
            k,
            v,
            rotation,
            scale=self.scale,
            window=self.window,
            cap=self.cap,
            sinks=self.sinks,
        )  # [T, H, K]
        return self.out(mixed.flatten(1), adapters)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.qkv.named_tensors("qkv")
        yield from self.out.named_tensors("out")
        if self.sinks is not None:
            yield "sinks", self.sinks

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [T, H, K], keys and values [T, G, K]."""
        if self.is_interleaved:
            q, k, v = qkv.unflatten(-1, (self.heads, 3, self.head_width)).unbind(2)
        else:
            heads = qkv.unflatten(-1, (-1, self.head_width))  # [T, H + 2G, K]
            q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), 1)
        return q, k, v

    def _normed(self, x: Tensor, norm: Norm) -> Tensor:
        return norm(x) if len(norm.weight) == self.head_width else norm(x.flatten(1)).view(x.shape)


@dataclass(slots=True)
class Mlp:
    """Two linear layers with a bend between; gate and up stand in one where the bend takes both."""

    up: Linear
    down: Linear
    middle: Middle
    is_adapted: bool = True
    """Whether adapters may change it. Not beside mixtures: there its names in PEFT's format mean the experts'."""

    def __call__(self, x: Tensor, adapters: Adapters | None) -> Tensor:
        mine = adapters if self.is_adapted else None
        return self.down(self.middle(self.up(x, mine)), mine)

    def linears(self) -> tuple[Linear, ...]:
        """Those that an adapter may change."""
        return (self.up, self.down) if self.is_adapted else ()

    def serve(self, quantization: str) -> None:
        for linear in (self.up, self.down):
            linear.serve(quantization)

    @property
    def weight_bytes(self) -> int:
        return self.up.weight_bytes + self.down.weight_bytes

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.up.named_tensors("up")
        yield from self.down.named_tensors("down")


@dataclass(slots=True)
class Mixture:
    """Many small MLPs, of which a router gives each token a few. No adapter changes them."""

    router: Linear
    up: Tensor
    """[E, O, D]"""
    up_bias: Tensor | None
    """[E, O]"""
    down: Tensor
    """[E, D, M]"""
    down_bias: Tensor | None
    """[E, D]"""
    active: int
    is_normalised: bool
    middle: Middle
    served: tuple[ops.ServedExperts, ops.ServedExperts] | None = None
    """`up` and `down` as serving holds them; then those have shapes and no numbers."""

    def __call__(self, x: Tensor, adapters: Adapters | None) -> Tensor:
        chosen, shares = ops.choose_experts(
            self.router.product(x), self.active, is_normalised=self.is_normalised
        )
        up, down = self.served or (
            ops.HeldExperts(self.up, self.up_bias),
            ops.HeldExperts(self.down, self.down_bias),
        )
        return ops.mix_experts(x, chosen, shares, up, down, self.middle)

    def linears(self) -> tuple[Linear, ...]:
        return ()

    def serve(self, quantization: str) -> None:
        """Lays router and experts out for serving, and lets go of the plain ones. The router is never rounded: who
        is chosen should not hang on that. Experts may lie there already."""
        if self.served is None:
            self.lay_out(self.up, self.down, quantization)
        self.router.serve("none")

    def lay_out(self, up: Iterable[Tensor], down: Iterable[Tensor], quantization: str) -> None:
        """Takes the experts' matrices, each [O, I], one after another into the form that serves them."""
        count, device = len(self.up), self.router.weight.device
        self.served = (
            ops.experts_for_serving(up, count, self.up_bias, device, quantization),
            ops.experts_for_serving(down, count, self.down_bias, device, quantization),
        )
        self.up, self.down = self.up.to("meta"), self.down.to("meta")

    @property
    def weight_bytes(self) -> int:
        """Of the router and of as many experts as one token uses."""
        up, down = self.served or (self.up, self.down)
        return self.router.weight_bytes + (up.nbytes + down.nbytes) * self.active // len(self.up)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.router.named_tensors("router")
        for label, tensor in (
            ("experts.up", self.up),
            ("experts.up_bias", self.up_bias),
            ("experts.down", self.down),
            ("experts.down_bias", self.down_bias),
        ):
            if tensor is not None:
                yield label, tensor


@dataclass(slots=True)
class Block:
    """Attention and MLP, each added to the stream. A norm stands before each, behind it, or both."""

    attention: Attention
    mlp: Mlp | Mixture
    attention_norm: Norm | None
    mlp_norm: Norm | None
    attention_post_norm: Norm | None = None
    mlp_post_norm: Norm | None = None
    is_parallel: bool = False
    """The MLP reads the stream as it is before attention."""

    def __call__(self, x: Tensor, turns: Turns, attend: Attend, adapters: Adapters | None) -> Tensor:
        update = self.mix(x, turns, attend, adapters)
        if self.is_parallel or self.mlp_norm is None:
            mixed = x + update
            return mixed + self.feed(x if self.is_parallel else mixed, adapters)
        mixed, normed = self.mlp_norm.added(x, update)
        return mixed + _through(self.mlp_post_norm, self.mlp(normed, adapters))

    def mix(self, x: Tensor, turns: Turns, attend: Attend, adapters: Adapters | None) -> Tensor:
        """What attention adds to the stream x [T, D]."""
        added = self.attention(_through(self.attention_norm, x), turns, attend, adapters)
        return _through(self.attention_post_norm, added)

    def feed(self, x: Tensor, adapters: Adapters | None) -> Tensor:
        """What the MLP adds to the stream, for x [T, D]."""
        return _through(self.mlp_post_norm, self.mlp(_through(self.mlp_norm, x), adapters))

    def serve(self, quantization: str) -> None:
        """Lays the matrices out for serving, once."""
        if self.attention.out.served is not None:
            return
        self.attention.qkv.serve(quantization)
        self.attention.out.serve(quantization)
        self.mlp.serve(quantization)

    @property
    def weight_bytes(self) -> int:
        """Bytes of matrices that one token reads."""
        return self.attention.qkv.weight_bytes + self.attention.out.weight_bytes + self.mlp.weight_bytes

    def linears(self) -> tuple[Linear, ...]:
        """Those that an adapter may change, in order."""
        return (self.attention.qkv, self.attention.out, *self.mlp.linears())

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.attention.named_tensors()
        yield from self.mlp.named_tensors()
        for label, norm in (
            ("attention_norm", self.attention_norm),
            ("attention_post_norm", self.attention_post_norm),
            ("q_norm", self.attention.q_norm),
            ("k_norm", self.attention.k_norm),
            ("mlp_norm", self.mlp_norm),
            ("mlp_post_norm", self.mlp_post_norm),
        ):
            if norm is not None:
                yield from norm.named_tensors(label)


class Rotation:
    """Cosines and sines of rotary positions, from tables that grow as contexts need."""

    def __init__(self, ropes: Sequence[Rope], device: torch.device) -> None:
        self._tables = [_Table(rope.frequencies, rope.size, device) for rope in ropes]
        self._long = {
            i: (rope.long_above, _Table(rope.long_frequencies, rope.size, device))
            for i, rope in enumerate(ropes)
            if rope.long_frequencies
        }

    @property
    def frequencies(self) -> Tensor:
        """Of the first rope, [pairs] float64."""
        return self._tables[0].frequencies

    @property
    def asks_reach(self) -> bool:
        """Whether the angles depend on how long a sequence is."""
        return bool(self._long)

    def __call__(self, positions: Tensor, longest: int, reach: Tensor | None = None) -> Turns:
        """Each rope's cosines and sines.

        positions  [T]  int64, all below `longest`
        reach      [T]  int64, how long each token's own sequence is; None reads all as short
        """
        turns = [table(positions, longest) for table in self._tables]
        for i, (above, table) in self._long.items():
            far = table(positions, longest)
            if reach is not None:
                is_long = (reach.to(positions.device) > above)[:, None, None]
                cos, sin = (torch.where(is_long, f, n) for f, n in zip(far, turns[i], strict=True))
                turns[i] = cos, sin
        return tuple(turns)


class _Table:
    """One rope's cosines and sines, [longest so far, pairs] float32."""

    def __init__(self, frequencies: Sequence[float], size: float, device: torch.device) -> None:
        self.frequencies = torch.tensor(frequencies, dtype=torch.float64)
        self._size = size
        self._device = device
        self._cos = self._sin = torch.empty(0, len(frequencies), device=device)

    def __call__(self, positions: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        if longest > len(self._cos):
            angles = torch.outer(torch.arange(longest, dtype=torch.float64), self.frequencies).float()
            self._cos = (angles.cos() * self._size).to(self._device)
            self._sin = (angles.sin() * self._size).to(self._device)
        return self._cos[positions, None], self._sin[positions, None]


def _through(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
