"""A prompt's embedding: the mean of its tokens' final states, at length 1.

It knows states and sums, neither steps nor sequences. States are added up as whole numbers, so that the sum does not
hang on the order: a prompt gives the same bits however the steps cut it up.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.errors import InternalError

UNIT_BITS = 30
"""States are added in units of 2^-30: a float32 near 1 has steps of 2^-23."""
LARGEST = 2.0**15
"""A state's numbers must be below this: then 2^18 tokens' sum of units fits 63 bits. Final norms keep them near 1."""


@dataclass(frozen=True, slots=True)
class Part:
    """What some tokens of one prompt add to its embedding."""

    units: Tensor
    """[D] int64, on the host"""
    is_sound: bool
    """Whether every number was finite, and small enough to be added."""


def parts_of(states: Tensor, counts: list[int]) -> list[Part]:
    """The parts that runs of tokens give, one after the other; one copy from the device.

    states  [E, D]  final states
    counts  how many of the E each run has
    """
    if not counts:
        return []
    wide = states.float()
    units = (wide * 2.0**UNIT_BITS).round().long()  # exact but for the rounding: the factor is a power of two
    sound = (wide.abs() < LARGEST).all(dim=1)  # [E]; no number that is not finite passes
    sums = [
        torch.cat((part.sum(dim=0), fine.all()[None].long()))  # [D + 1]
        for part, fine in zip(units.split(counts), sound.split(counts), strict=True)
    ]
    return [Part(row[:-1], bool(row[-1])) for row in torch.stack(sums).cpu()]


class Pool:
    """Parts go in as steps give them; `text` is what they come to."""

    def __init__(self) -> None:
        self._units: Tensor | None = None

    def add(self, part: Part) -> None:
        """Raises InternalError for states that are not numbers: then the model or its adapter has overflowed."""
        if not part.is_sound:
            raise InternalError(
                "The model's output is not finite. If the request uses an adapter, tune it again."
            )
        self._units = part.units if self._units is None else self._units + part.units

    def text(self) -> str:
        """The embedding as base64 of little-endian float32. How many tokens it is the mean of divides out."""
        assert self._units is not None, "a prompt has at least one token, and all were read"
        sum_ = self._units.double()
        scaled = sum_ / torch.linalg.vector_norm(sum_).clamp_min(1.0)
        return base64.b64encode(scaled.float().numpy().astype("<f4").tobytes()).decode()
