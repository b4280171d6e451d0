"""Many adapters in one batch; a row may use two, a task's and a fact's expert, and gets the sum of both.

It knows slots and factors; which adapter sits where is decided by `engine.slots`, read from disk by
`engine.library`. All adapters of a batch are computed as one wide product: their A factors stacked, the columns
of foreign adapters blanked in each row, then the stacked B factors. Every adapter byte is read once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.model.adapters import Adapter
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Linear

Factors = dict[str, tuple[Tensor, Tensor]]
NOBODY = -1
"""Stands where a row uses fewer slots than another."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The factors of one linear layer, of all active adapters, for each of its parts."""

    a: Tensor
    """[ΣR, I]"""
    scale: Tensor
    """[ΣR] alpha / rank of the adapter that each column is of"""
    owner: Tensor
    """[ΣR] int64, the slot that each column is of"""
    parts: tuple[tuple[slice, slice, Tensor], ...]
    """(columns of the output, columns of the stack, B [columns, outputs])"""


class Bank:
    """Adapters on the device, by slot."""

    def __init__(self, decoder: Decoder) -> None:
        self._device = decoder.device
        self._dtype = decoder.dtype
        self._factors: dict[int, Factors] = {}
        self._scales: dict[int, float] = {}
        self._active: tuple[int, ...] = ()
        self._stacks: dict[str, Stack | None] = {}

    def load(self, slot: int, adapter: Adapter) -> None:
        """Puts an adapter into a slot, in the place of whichever was there."""
        self._factors[slot] = {
            name: (a.to(self._device, self._dtype), b.to(self._device, self._dtype))
            for name, (a, b) in adapter.tensors.items()
        }
        self._scales[slot] = adapter.scale
        self._active, self._stacks = (), {}

    def mix(self, slots: list[tuple[int, ...]]) -> Mix | None:
        """What to add to the linear layers when token i uses slots[i]; None when all tokens are the base's."""
        active = tuple(sorted({slot for used in slots for slot in used}))
        if not active:
            return None
        if active != self._active:  # stacks are kept while the same adapters run
            self._active, self._stacks = active, {}
        rows = [i for i, used in enumerate(slots) if used]
        widest = max(len(used) for used in slots)
        owners = [used + (NOBODY,) * (widest - len(used)) for used in slots if used]
        return Mix(self, torch.tensor(rows, device=self._device), torch.tensor(owners, device=self._device))

    def stack(self, linear: Linear) -> Stack | None:
        """The active adapters' factors for a layer; None when none of them changes it."""
        name = linear.parts[0].name
        if name not in self._stacks:
            self._stacks[name] = self._build(linear)
        return self._stacks[name]

    def _build(self, linear: Linear) -> Stack | None:
        every_a: list[Tensor] = []
        scale: list[float] = []
        owner: list[int] = []
        parts: list[tuple[slice, slice, Tensor]] = []
        for part in linear.parts:
            start, every_b = len(owner), []
            for slot in self._active:
                if part.name not in self._factors[slot]:
                    continue
                a, b = self._factors[slot][part.name]
                every_a.append(a)
                every_b.append(b.T)
                scale += [self._scales[slot]] * len(a)
                owner += [slot] * len(a)
            if every_b:
                parts.append((slice(part.start, part.stop), slice(start, len(owner)), torch.cat(every_b)))
        if not parts:
            return None
        return Stack(
            torch.cat(every_a),
            torch.tensor(scale, device=self._device, dtype=self._dtype),
            torch.tensor(owner, device=self._device),
            tuple(parts),
        )


@dataclass(frozen=True, slots=True)
class Mix:
    """The adapters of one batch. Rows of the base are not touched, so they are exactly the base's."""

    bank: Bank
    rows: Tensor
    """[N] int64, places of the stream that use an adapter"""
    owners: Tensor
    """[N, most slots of a row] int64, the slots that each of them uses"""

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        stack = self.bank.stack(linear)
        if stack is None:
            return y
        low = (x[self.rows] @ stack.a.T).mul_(stack.scale)  # [N, ΣR]
        # Filled, not multiplied: an overflow in a foreign adapter's columns must not become NaN here.
        low.masked_fill_((self.owners[:, :, None] != stack.owner).all(1), 0.0)
        for outputs, columns, b in stack.parts:
            y[self.rows, outputs] += low[:, columns] @ b
        return y
