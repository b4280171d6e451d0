"""Examples side by side in one stream of tokens, without padding; positions start again with each example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.data.examples import Example


@dataclass(frozen=True, slots=True)
class Packed:
    """A stream of examples, ready for one forward pass.

    tokens     [T] int64   all examples, one after the other
    positions  [T] int64   each token's place in its example
    lengths    tokens of each example
    rows       [N] int64   places whose next token carries loss
    targets    [N] int64   those next tokens
    """

    tokens: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    rows: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Packed:
        tensors = (t.to(device) for t in (self.tokens, self.positions, self.rows, self.targets))
        tokens, positions, rows, targets = tensors
        return Packed(tokens, positions, self.lengths, rows, targets)


def pack(examples: Sequence[Example]) -> Packed:
    """One stream of these examples, in order."""
    tokens: list[int] = []
    positions: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    for example in examples:
        start = len(tokens)
        tokens += example.ids
        positions += range(len(example.ids))
        for i in range(1, len(example.ids)):
            if example.trained[i]:
                rows.append(start + i - 1)
                targets.append(example.ids[i])
    return Packed(
        torch.tensor(tokens),
        torch.tensor(positions),
        tuple(len(e.ids) for e in examples),
        torch.tensor(rows, dtype=torch.int64),
        torch.tensor(targets, dtype=torch.int64),
    )


def split(examples: Sequence[Example], max_tokens: int) -> Iterator[list[Example]]:
    """Runs of examples of at most `max_tokens` together (a longer single example stands alone)."""
    run: list[Example] = []
    size = 0
    for example in examples:
        if run and size + len(example.ids) > max_tokens:
            yield run
            run, size = [], 0
        run.append(example)
        size += len(example.ids)
    if run:
        yield run
