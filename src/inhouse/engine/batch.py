"""A plan as tensors: one flat stream of tokens, and for each where it stands, is stored and may look.

It knows plans and places; it does not know the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inhouse.engine.cache import Cache, Chunk, PagedAttend
from inhouse.engine.pages import Pages
from inhouse.engine.plan import Plan, Row
from inhouse.engine.request import Sequence


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of one forward pass."""

    tokens: Tensor
    """[T] int64"""
    positions: Tensor
    """[T] int64, each token's place in its own sequence"""
    attend: PagedAttend
    slots: list[tuple[int, ...]]
    """[T] the adapter slots of each token, one or two; none is the base"""
    rows: Tensor
    """[N + M + E] int64, places of the stream whose hidden state is wanted: the next draws', the scores', then those
    that embeddings are made of"""
    drawing: list[Row]
    """[N] who draws a token, once behind each of its guesses as well"""
    scoring: list[tuple[Sequence, int]]
    """[M] (sequence, place of the prompt token whose log-probability is wanted)"""
    pooling: list[Row]
    """Rows that give states to an embedding, in the order of their E places: each as many as `Row.states` says"""

    def to(self, device: torch.device) -> Batch:
        """The same, on a device."""
        tokens, positions, rows = (t.to(device) for t in (self.tokens, self.positions, self.rows))
        return replace(self, tokens=tokens, positions=positions, rows=rows, attend=self.attend.to(device))


def build(plan: Plan, pages: Pages, cache: Cache) -> Batch:
    """The batch of a plan with at least one row, on the host: single tokens first, so that they attend together."""
    rows = sorted(plan.rows, key=lambda row: row.count > 1)
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[tuple[int, ...]] = []
    reaches: list[int] = []
    last: list[int] = []
    drawing: list[Row] = []
    places: list[int] = []
    scoring: list[tuple[Sequence, int]] = []
    pooled: list[int] = []
    pooling: list[Row] = []
    writes: list[Tensor] = []
    chunks: list[Chunk] = []
    singles = [row for row in rows if row.count == 1]
    past = None
    if singles:
        tables = [pages.table(row.sequence) for row in singles]
        past = cache.past(tables, [row.start + 1 for row in singles])
        own = [cache.place(table, row.start) for table, row in zip(tables, singles, strict=True)]
        writes.append(torch.tensor(own))
    for row in rows:
        begin, stop = len(tokens), row.start + row.count
        tokens += row.tokens
        positions += range(row.start, stop)
        slots += [row.sequence.slots] * row.count
        reaches += [row.sequence.length] * row.count
        if row.samples:
            draws = 1 + len(row.drafts)
            last += range(len(tokens) - draws, len(tokens))
            drawing += [row] * draws
        for target in row.targets:
            places.append(begin + target - 1 - row.start)
            scoring.append((row.sequence, target))
        if states := row.states:
            pooled += range(begin + states.start - row.start, begin + states.stop - row.start)
            pooling.append(row)
        if row.count > 1:
            read = cache.places(pages.table(row.sequence), stop)
            writes.append(read[row.start :])
            chunks.append(Chunk(begin, len(tokens), read.int()))

    return Batch(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        attend=PagedAttend(cache, torch.cat(writes), past, tuple(chunks), torch.tensor(reaches)),
        slots=slots,
        rows=torch.tensor(last + places + pooled, dtype=torch.int64),
        drawing=drawing,
        scoring=scoring,
        pooling=pooling,
    )
