"""Which examples a step trains on: a pure function of (seed, step), so that a job resumes anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch

from inhouse.data.examples import Example


class Source(Protocol):
    """What the loop trains on: a known number of steps, and the examples of each."""

    @property
    def steps(self) -> int: ...

    def at(self, step: int) -> Sequence[Example]:
        """The examples of a step, always the same ones for the same step."""


class Epochs:
    """A fixed set of examples, shuffled anew in each epoch, in batches of equal count."""

    def __init__(self, examples: Sequence[Example], *, batch_size: int, epochs: int, seed: int) -> None:
        self.examples = examples
        self.batch_size = min(batch_size, len(examples))
        self.steps_per_epoch = math.ceil(len(examples) / self.batch_size)
        self.steps = self.steps_per_epoch * epochs
        self.seed = seed
        self._order: tuple[int, list[int]] = (-1, [])

    def at(self, step: int) -> list[Example]:
        epoch, batch = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            self._order = (epoch, torch.randperm(len(self.examples), generator=generator).tolist())
        chosen = self._order[1][batch * self.batch_size : (batch + 1) * self.batch_size]
        return [self.examples[i] for i in chosen]
