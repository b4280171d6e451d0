"""The factors of all adapters that are on the device: one store of rank rows for each projection of the model.

An adapter has the same rows in every store, as many as its highest rank; what it leaves alone there is never read.
So ranks may differ, and no adapter takes the room of a larger one. It knows slots and rows; which adapter is to be
in a slot is `engine.slots`' matter, how they are computed `engine.adapters`'.

Source of the idea: Sheng et al., "S-LoRA: Serving Thousands of Concurrent LoRA Adapters", 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.engine.ranges import Ranges
from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter
from inhouse.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Factors:
    """An adapter as the arena holds it: in the model's type, B transposed and with the scale in it."""

    parts: dict[str, tuple[Tensor, Tensor]]
    """Projection → A [R, I] and B [R, O]"""

    @property
    def rows(self) -> int:
        """Rank rows it takes: its highest rank."""
        return max(len(a) for a, _ in self.parts.values())

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes + b.nbytes for a, b in self.parts.values())


def factors_of(adapter: Adapter, dtype: torch.dtype) -> Factors:
    """Raises BadCheckpoint where a number does not survive the model's type."""
    parts = {
        name: (a.to(dtype).contiguous(), _scaled(b, adapter.scale_of(name), dtype))
        for name, (a, b) in adapter.tensors.items()
    }
    # Infinity in a row that a token does not use would still become NaN in its sum: nothing times infinity is that.
    broken = [name for name, pair in parts.items() if not all(map(_is_finite, pair))]
    if broken:
        raise BadCheckpoint(
            f"The adapter holds NaN or infinity, or numbers too large for {str(dtype).removeprefix('torch.')}, in "
            f"{len(broken)} modules: {', '.join(broken[:4])}. Tune it again."
        )
    return Factors(parts)


def _scaled(b: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """b [O, R] → [R, O], rounded once: a product with a number is computed in float32 whatever the type."""
    product = b * scale if b.dtype == dtype else b.float() * scale
    return product.to(dtype).T.contiguous()


def _is_finite(t: Tensor) -> bool:
    """By the extremes, which NaN takes over: a ninth of what a mask of all numbers costs (measured, bfloat16)."""
    least, most = t.aminmax()
    return math.isfinite(least) and math.isfinite(most)


class Arena:
    """Rank rows on the device. Memory that no adapter has reached costs nothing on most systems."""

    def __init__(self, decoder: Decoder, rows: int) -> None:
        self.ranges = Ranges(rows)
        self.a: dict[str, Tensor] = {}
        """Projection → [rank rows, I]"""
        self.b: dict[str, Tensor] = {}
        """Projection → [rank rows, O]"""
        self._ranks: dict[int, dict[str, int]] = {}
        for linear in decoder.linears():
            for part in linear.parts:
                for stores, width in (
                    (self.a, linear.weight.shape[1]),
                    (self.b, part.stop - part.start),
                ):
                    stores[part.name] = torch.empty(rows, width, device=decoder.device, dtype=decoder.dtype)

    def load(self, slot: int, factors: Factors) -> None:
        """Copies an adapter into a slot's rows, in the place of whichever was there."""
        self.release(slot)
        for move in self.ranges.place(slot, factors.rows):
            for store in (*self.a.values(), *self.b.values()):
                # Copied twice, because source and target may overlap.
                store[move.target : move.target + move.rows] = store[
                    move.source : move.source + move.rows
                ].clone()
        start = self.ranges.at(slot).start
        for name, (a, b) in factors.parts.items():
            self.a[name][start : start + len(a)].copy_(a)
            self.b[name][start : start + len(b)].copy_(b)
        self._ranks[slot] = {name: len(a) for name, (a, _) in factors.parts.items()}

    def release(self, slot: int) -> None:
        """Gives a slot's rows back."""
        self.ranges.release(slot)
        self._ranks.pop(slot, None)

    def start(self, slot: int) -> int:
        """The slot's first rank row."""
        return self.ranges.at(slot).start

    def rank(self, slot: int, part: str) -> int:
        """How many rank rows the slot's adapter has for a projection; 0 where it leaves it alone."""
        return self._ranks[slot].get(part, 0)


def row_bytes(decoder: Decoder) -> int:
    """What one rank row takes over all projections."""
    return sum(
        (linear.weight.shape[1] + part.stop - part.start) * decoder.dtype.itemsize
        for linear in decoder.linears()
        for part in linear.parts
    )
