"""Decoding steps of a few fixed shapes, each made ready once and replayed with new inputs.

A decoding step is filled up to the next shape: rows that only fill it up write to the cache's spare place, read
nothing and are cut off again. All inputs of a shape lie in one buffer, which the host fills with one copy; what the
step needs of adapters beside that is looked up on the device. It knows tensors; how a step is captured is
`device.graphs`' matter, and the step itself is the same call that `Runner` makes for any other batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from inhouse import ops
from inhouse.device import Capture, Captured
from inhouse.engine.adapters import Grouped
from inhouse.engine.arena import Arena
from inhouse.engine.batch import Batch
from inhouse.engine.cache import Cache, PagedAttend
from inhouse.model.decoder import Decoder

log = logging.getLogger(__name__)

LEAST_PAGES = 8
LEAST_RANK = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """What a step is made for; a batch that is smaller in each is filled up to it."""

    batch: int
    """Sequences"""
    pages: int
    """Pages of the longest sequence"""
    uses: int
    """Adapters of one sequence: none, one, or a task's and an expert"""
    rank: int
    """Highest rank"""

    @classmethod
    def of(cls, batch: Batch, arena: Arena) -> Shape:
        past = batch.attend.past
        assert past is not None, "a step without decoding sequences has no shape"
        uses = max(map(len, batch.slots))
        ranks = [arena.ranges.at(slot).rows for used in batch.slots for slot in used]
        return cls(
            _rounded(len(batch.tokens)),
            _power(past.tables.shape[1], LEAST_PAGES),
            uses,
            _power(max(ranks), LEAST_RANK) if uses else 0,
        )


class SlotTable:
    """Where each slot's adapter lies and how high it is in every projection, for the device to look up."""

    def __init__(self, arena: Arena, device: torch.device) -> None:
        slots = arena.ranges.rows  # an adapter has a rank row at least
        self.starts = torch.zeros(slots, dtype=torch.int32, device=device)
        """[slots] first rank row"""
        self.ranks = torch.zeros(len(arena.a), slots, dtype=torch.int32, device=device)
        """[projections, slots]"""
        self._arena = arena
        self._resident: set[int] = set()
        self._host = (self.starts.cpu().clone(), self.ranks.cpu().clone())
        self._is_stale = False

    def load(self, slot: int) -> None:
        """Notes the adapter that was put into a slot. Others may have moved for it."""
        starts, ranks = self._host
        self._resident.add(slot)
        ranks[:, slot] = torch.tensor([self._arena.rank(slot, name) for name in self._arena.a])
        for resident in self._resident:
            starts[resident] = self._arena.start(resident)
        self._is_stale = True

    def release(self, slot: int) -> None:
        self._resident.discard(slot)

    def refresh(self) -> None:
        """Copies news to the device: before a replay, never inside one."""
        if self._is_stale:
            for there, here in zip((self.starts, self.ranks), self._host, strict=True):
                there.copy_(here)
            self._is_stale = False


class Inputs:
    """What the host says to a step: one buffer of int32 on the device, its pieces by name, and a twin to fill."""

    def __init__(self, shape: Shape, cache: Cache) -> None:
        rows, uses = shape.batch, shape.uses
        self._shape, self._spare = shape, cache.spare
        sizes = {
            "tokens": (rows,),
            "positions": (rows,),
            "write": (rows,),
            "reaches": (rows,),
            "lengths": (rows,),
            "tables": (rows, shape.pages),
            "rows": (uses, rows),
            "bounds": (uses, rows + 1),
            "slots": (uses, rows),
        }
        counts = {name: torch.Size(size).numel() for name, size in sizes.items()}
        self._host = torch.zeros(sum(counts.values()), dtype=torch.int32)
        self._device = self._host.to(cache.device, copy=True)

        def pieces(buffer: Tensor) -> dict[str, Tensor]:
            parts = buffer.split(list(counts.values()))
            return {name: part.view(sizes[name]) for name, part in zip(sizes, parts, strict=True)}

        self._to_fill = pieces(self._host)
        self.given = pieces(self._device)

    def fill(self, batch: Batch) -> None:
        """Writes a batch of the host's, and sends it. Rows that fill up have no past, groups that fill up no rows."""
        attend, count, put = batch.attend, len(batch.tokens), self._to_fill
        assert attend.past is not None, "checked by Shape.of"
        self._host.zero_()
        put["tokens"][:count] = batch.tokens
        put["positions"][:count] = batch.positions
        put["write"].fill_(self._spare)[:count] = attend.write
        put["reaches"][:count] = attend.reaches
        put["lengths"][:count] = attend.past.lengths
        put["tables"][:count, : attend.past.tables.shape[1]] = attend.past.tables
        for use in range(self._shape.uses):
            users: dict[int, list[int]] = {}
            for row, used in enumerate(batch.slots):
                if use < len(used):
                    users.setdefault(used[use], []).append(row)
            bounds = list(accumulate(map(len, users.values()), initial=0))
            put["rows"][use, : bounds[-1]] = torch.tensor([row for rows in users.values() for row in rows])
            put["bounds"][use].fill_(bounds[-1])[: len(bounds)] = torch.tensor(bounds)
            put["slots"][use, : len(users)] = torch.tensor(list(users))
        self._device.copy_(self._host)


@dataclass(frozen=True, slots=True)
class Step:
    """A shape made ready."""

    inputs: Inputs
    captured: Captured
    logits: Tensor
    """[B, V] float32, written by each replay"""


@dataclass(frozen=True, slots=True)
class Looked:
    """Groups of a step whose starts and ranks were looked up on the device."""

    by_part: dict[str, ops.Groups]

    def groups(self, part: str) -> ops.Groups | None:
        return self.by_part[part]


class Steps:
    """Decoding steps by shape, made ready when a batch first needs them."""

    def __init__(
        self, decoder: Decoder, cache: Cache, arena: Arena, capture: Capture, *, with_adapters: bool = True
    ) -> None:
        """with_adapters  whether the device's kernel for them can be captured: one that asks the device cannot"""
        self.table = SlotTable(arena, decoder.device)
        self._decoder, self._cache, self._arena, self._capture = decoder, cache, arena, capture
        self._with_adapters = with_adapters
        self._steps: dict[Shape, Step | None] = {}

    def run(self, batch: Batch) -> Tensor | None:
        """Logits of the sequences that draw, [N, V] float32, to be read before the next step; None where this batch
        is to be run another way. The batch lies on the host."""
        is_alike = not batch.attend.chunks and not batch.scoring and not batch.pooling
        if not is_alike or (any(batch.slots) and not self._with_adapters):
            return None
        shape = Shape.of(batch, self._arena)
        self.table.refresh()
        if shape not in self._steps:
            self._steps[shape] = self._prepare(shape, batch)
        step = self._steps[shape]
        if step is None:
            return None
        step.inputs.fill(batch)
        step.captured.replay()
        return step.logits.index_select(0, batch.rows.to(step.logits.device))

    def _prepare(self, shape: Shape, batch: Batch) -> Step | None:
        """A step for a shape, warmed up on the batch that wants it; None where it cannot be captured."""
        config, device = self._decoder.config, self._decoder.device
        inputs = Inputs(shape, self._cache)
        inputs.fill(batch)
        logits = torch.zeros(shape.batch, config.vocab_size, dtype=torch.float32, device=device)
        try:
            captured = self._capture.capture(self._function(shape, inputs.given, logits))
        except RuntimeError as e:
            log.warning("steps of %s cannot be captured and run one by one: %s", shape, e)
            return None
        log.info("made ready: steps of %s", shape)
        return Step(inputs, captured, logits)

    def _function(self, shape: Shape, given: dict[str, Tensor], logits: Tensor) -> Callable[[], None]:
        cache, decoder = self._cache, self._decoder

        def step() -> None:
            past = ops.Past(
                given["tables"],
                given["lengths"],
                cache.page_size,
                shape.pages * cache.page_size,
                cache.nowhere,
            )
            attend = PagedAttend(cache, given["write"].long(), past, (), given["reaches"].long())
            uses = self._looked_up(shape, given)
            adapters = Grouped(self._arena, uses) if uses else None
            hidden = decoder.forward(given["tokens"].long(), given["positions"].long(), attend, adapters)
            logits.copy_(decoder.logits(hidden))

        return step

    def _looked_up(self, shape: Shape, given: dict[str, Tensor]) -> tuple[Looked, ...]:
        if not shape.uses:
            return ()
        slots = given["slots"].long()  # [uses, B]
        starts = self.table.starts[slots]  # [uses, B]
        ranks = self.table.ranks[:, slots]  # [projections, uses, B]
        return tuple(
            Looked(
                {
                    name: ops.Groups(
                        given["rows"][use],
                        given["bounds"][use],
                        starts[use],
                        ranks[number, use],
                        longest=shape.batch,
                        highest=shape.rank,
                    )
                    for number, name in enumerate(self._arena.a)
                }
            )
            for use in range(shape.uses)
        )


def _rounded(count: int) -> int:
    """The next of 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, ...: few shapes, and never more than a half of filling."""
    power = _power(count)
    return power * 3 // 4 if power > 8 and count <= power * 3 // 4 else power


def _power(count: int, least: int = 1) -> int:
    """The power of two that holds a number."""
    return max(least, 1 << (count - 1).bit_length())
