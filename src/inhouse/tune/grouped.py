"""Many small LoRAs on one stream, each on its own stretch of it, with gradients.

It knows linear layers and stretches; whose stretch it is and what is learned there is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inhouse.model.decoder import Decoder
from inhouse.model.layers import Block, Linear, Mlp, Part

Span = tuple[int, int]
"""From where to where in the stream."""


@dataclass(frozen=True, slots=True)
class Place:
    """A projection that is adapted, and the linear layer it is fused into."""

    linear: Linear
    part: Part

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def inputs(self) -> int:
        return self.linear.weight.shape[1]

    @property
    def outputs(self) -> int:
        return self.part.stop - self.part.start


def places(decoder: Decoder, first_block: int, modules: frozenset[str]) -> list[Place]:
    """The projections of the blocks from `first_block` on that `modules` names, in the order of the forward pass.

    modules  of q, k, v, out, gate, up, down; a family that has several of them in one takes it for each
    """
    return [
        Place(linear, part)
        for block in decoder.blocks[first_block:]
        for linear, kinds in _kinds(block)
        for part, names in zip(linear.parts, kinds, strict=True)
        if modules & names
    ]


@dataclass(frozen=True, slots=True)
class Factors:
    """LoRAs of one rank side by side, for each place A [E, R, in] and B [E, out, R]. E counts the LoRAs."""

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]

    def all(self) -> tuple[Tensor, ...]:
        return (*self.a, *self.b)

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Factors:
        """The way back from `all`."""
        half = len(tensors) // 2
        return cls(tuple(tensors[:half]), tuple(tensors[half:]))


class SideBySide:
    """As `Adapters`: LoRA i changes the tokens of span i and no others. The scale is 1."""

    def __init__(
        self,
        places: Sequence[Place],
        factors: Factors,
        spans: Mapping[int, Sequence[Span]],
        known: tuple[Linear, Tensor] | None = None,
    ) -> None:
        """`spans` are those of a stream of so many tokens; `known` is a layer's product that is had already."""
        self._spans = spans
        self._known = known
        self._places: dict[str, list[tuple[Part, Tensor, Tensor]]] = {}
        for place, a, b in zip(places, factors.a, factors.b, strict=True):
            self._places.setdefault(place.linear.parts[0].name, []).append((place.part, a, b))

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        known = self._known[1] if self._known is not None and self._known[0] is linear else None
        changes = self._places.get(linear.parts[0].name)
        if changes is None:
            return linear.product(x) if known is None else known
        return _Grouped.apply(  # type: ignore[no-any-return, no-untyped-call]
            x,
            linear,
            known,
            tuple(self._spans[len(x)]),
            tuple((part.start, part.stop) for part, _, _ in changes),
            *(a.to(x.dtype) for _, a, _ in changes),
            *(b.to(x.dtype) for _, _, b in changes),
        )


class _Grouped(torch.autograd.Function):
    """A loop over spans: no padding and no copies, and on a CPU its calls are a small share of the products."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        linear: Linear,
        known: Tensor | None,
        spans: tuple[Span, ...],
        parts: tuple[Span, ...],
        *factors: Tensor,
    ) -> Tensor:
        a = torch.cat(factors[: len(parts)], 1)  # [E, n·R, I]
        b = factors[len(parts) :]
        rank = b[0].shape[2]
        y = linear.product(x) if known is None else known.clone()
        low = x.new_zeros(len(x), a.shape[1])  # [T, n·R]
        for i, (start, stop) in enumerate(spans):
            low[start:stop] = x[start:stop] @ a[i].T
            for j, (left, right) in enumerate(parts):
                y[start:stop, left:right] += low[start:stop, j * rank : (j + 1) * rank] @ b[j][i].T
        ctx.save_for_backward(x, linear.weight, low, a, *b)
        ctx.spans, ctx.parts = spans, parts
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        x, weight, low, a, *b = ctx.saved_tensors
        rank = b[0].shape[2]
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        grad_low = torch.zeros_like(low)
        grad_a = torch.empty_like(a)
        grad_b = [torch.empty_like(up) for up in b]
        for i, (start, stop) in enumerate(ctx.spans):
            for j, (left, right) in enumerate(ctx.parts):
                columns = slice(j * rank, (j + 1) * rank)
                here = grad[start:stop, left:right]
                grad_low[start:stop, columns] = here @ b[j][i]
                grad_b[j][i] = here.T @ low[start:stop, columns]
            grad_a[i] = grad_low[start:stop].T @ x[start:stop]
            if grad_x is not None:
                grad_x[start:stop] += grad_low[start:stop] @ a[i]
        return (grad_x, None, None, None, None, *grad_a.split(rank, 1), *grad_b)


def _kinds(block: Block) -> list[tuple[Linear, list[set[str]]]]:
    """Each linear layer of a block with what its parts are, whatever a family calls them."""

    def of(linear: Linear, kinds: tuple[str, ...]) -> tuple[Linear, list[set[str]]]:
        return linear, [{k} for k in kinds] if len(linear.parts) == len(kinds) else [set(kinds)]

    attention, mlp = block.attention, block.mlp
    found = [of(attention.qkv, ("q", "k", "v")), of(attention.out, ("out",))]
    if isinstance(mlp, Mlp) and mlp.is_adapted:
        found += [of(mlp.up, ("gate", "up")), of(mlp.down, ("down",))]
    return found
