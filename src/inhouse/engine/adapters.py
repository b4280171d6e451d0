"""Many adapters in one batch; a row may use two, a task's and a fact's expert, and gets the sum of both.

It knows slots and the arena; which adapter sits where is decided by `engine.slots`, read from disk by
`engine.library`. Two ways lead to the same sums. *Grouped*: each adapter's rows by themselves, from the arena, by a
kernel where the device has one. *Stacked*: all adapters as one wide product over copies of their factors, which are
kept while the same adapters run. Rows of the base are not touched by either, so they are exactly the base's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from inhouse import ops
from inhouse.engine.arena import Arena, Factors
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Linear

NOBODY = -1
"""Stands where a row uses fewer slots than another."""
SPARE = 2
"""A stack is kept for fewer adapters than it holds as long as it is not more than this many times too large."""


class Bank:
    """Adapters on the device, by slot."""

    def __init__(self, decoder: Decoder, rows: int) -> None:
        """rows  what the arena holds, in rank rows"""
        self.arena = Arena(decoder, rows)
        self._device = decoder.device
        self._stacked: frozenset[int] = frozenset()
        self._stacks: dict[str, ops.Stack | None] = {}
        self._last: tuple[list[tuple[int, ...]], Grouped | None] = [], None
        """What was mixed last, and how: most steps' sequences are those of the step before."""

    def load(self, slot: int, factors: Factors) -> None:
        """Puts an adapter into a slot, in the place of whichever was there."""
        self.release(slot)
        self.arena.load(slot, factors)

    def release(self, slot: int) -> None:
        """Empties a slot."""
        self.arena.release(slot)
        self._last = [], None
        if slot in self._stacked:
            self._stacked, self._stacks = frozenset(), {}

    def mix(self, slots: list[tuple[int, ...]]) -> Grouped | Stacked | None:
        """What to add to the linear layers when token i uses slots[i]; None when all tokens are the base's."""
        if self._last[1] is not None and slots == self._last[0]:
            return self._last[1]
        active = frozenset(slot for used in slots for slot in used)
        if not active:
            return None
        heights = [self.arena.ranges.at(slot).rows for slot in active]
        if ops.prefers_stack(self._device, tokens=sum(map(bool, slots)), ranks=heights):
            return self._stack(slots, active)
        widest = max(map(len, slots))
        uses = [Use.of(self.arena, [used[turn : turn + 1] for used in slots]) for turn in range(widest)]
        grouped = Grouped(self.arena, tuple(uses))
        self._last = slots, grouped
        return grouped

    def stack(self, linear: Linear) -> ops.Stack | None:
        """The stacked adapters' factors for a layer; None when none of them changes it."""
        name = linear.parts[0].name
        if name not in self._stacks:
            self._stacks[name] = self._build(linear)
        return self._stacks[name]

    def _stack(self, slots: list[tuple[int, ...]], active: frozenset[int]) -> Stacked:
        rows = {slot: self.arena.ranges.at(slot).rows for slot in active | self._stacked}
        is_kept = active <= self._stacked and (
            sum(rows[slot] for slot in self._stacked) <= SPARE * sum(rows[slot] for slot in active)
        )
        if not is_kept:
            self._stacked, self._stacks = active, {}
        places = [place for place, used in enumerate(slots) if used]
        widest = max(map(len, slots))
        owners = [used + (NOBODY,) * (widest - len(used)) for used in slots if used]
        return Stacked(
            self, torch.tensor(places, device=self._device), torch.tensor(owners, device=self._device)
        )

    def _build(self, linear: Linear) -> ops.Stack | None:
        every_a: list[Tensor] = []
        owner: list[int] = []
        parts: list[tuple[slice, slice, Tensor]] = []
        for part in linear.parts:
            first, every_b = len(owner), []
            for slot in sorted(self._stacked):
                start, rank = self.arena.start(slot), self.arena.rank(slot, part.name)
                every_a.append(self.arena.a[part.name][start : start + rank])
                every_b.append(self.arena.b[part.name][start : start + rank])
                owner += [slot] * rank
            if len(owner) > first:
                parts.append((slice(part.start, part.stop), slice(first, len(owner)), torch.cat(every_b)))
        if not parts:
            return None
        return ops.Stack(torch.cat(every_a), torch.tensor(owner, device=self._device), tuple(parts))


@dataclass(frozen=True, slots=True)
class Use:
    """Which tokens use which slot, one at most each; what `ops.Groups` says, for any projection."""

    arena: Arena
    slots: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    """Of each slot, places of the stream."""
    _groups: dict[tuple[int, ...], ops.Groups | None] = field(default_factory=dict)

    @classmethod
    def of(cls, arena: Arena, slots: list[tuple[int, ...]]) -> Use:
        """slots[i] holds the slot that token i uses, or nothing."""
        found: dict[int, list[int]] = {}
        for place, used in enumerate(slots):
            for slot in used:
                found.setdefault(slot, []).append(place)
        return cls(arena, tuple(found), tuple(map(tuple, found.values())))

    def groups(self, part: str) -> ops.Groups | None:
        """The groups for a projection; None when no adapter in use changes it. Most projections share theirs."""
        ranks = tuple(self.arena.rank(slot, part) for slot in self.slots)
        if ranks not in self._groups:
            self._groups[ranks] = self._make(ranks)
        return self._groups[ranks]

    def _make(self, ranks: tuple[int, ...]) -> ops.Groups | None:
        users = [
            (self.arena.start(slot), rank, places)
            for slot, rank, places in zip(self.slots, ranks, self.places, strict=True)
            if rank
        ]
        if not users:
            return None
        bounds = [0]
        for _, _, places in users:
            bounds.append(bounds[-1] + len(places))

        def on_device(values: list[int]) -> Tensor:
            device = next(iter(self.arena.a.values())).device
            return torch.tensor(values, dtype=torch.int32, device=device)

        return ops.Groups(
            rows=on_device([place for _, _, places in users for place in places]),
            bounds=on_device(bounds),
            starts=on_device([start for start, _, _ in users]),
            ranks=on_device([rank for _, rank, _ in users]),
            longest=max(len(places) for _, _, places in users),
            highest=max(rank for _, rank, _ in users),
        )


class Uses(Protocol):
    """Who uses which adapter, one at most a token, for each projection."""

    def groups(self, part: str) -> ops.Groups | None:
        """The groups for a projection; None when no adapter in use changes it."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """The adapters of one batch, each by itself."""

    arena: Arena
    uses: tuple[Uses, ...]
    """The first slot of each token, then the second."""

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        for part in linear.parts:
            for use in self.uses:
                groups = use.groups(part.name)
                if groups is not None:
                    columns = y[:, part.start : part.stop]
                    ops.grouped_lora(columns, x, self.arena.a[part.name], self.arena.b[part.name], groups)
        return y


@dataclass(frozen=True, slots=True)
class Stacked:
    """The adapters of one batch as one wide product."""

    bank: Bank
    rows: Tensor
    """[N] int64, places of the stream that use an adapter"""
    owners: Tensor
    """[N, most slots of a row] int64, the slots that each of them uses"""

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        stack = self.bank.stack(linear)
        if stack is not None:
            ops.stacked_lora(y, x, stack, self.rows, self.owners)
        return y
