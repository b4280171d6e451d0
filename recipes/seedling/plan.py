"""Every number of a run that decides its result, and the legs it is trained in.

A leg is one rise and fall of the learning rate over its own mixture of data. It knows neither files nor models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inhouse.tune.recipe import Recipe
from recipes.seedling.stream import Mixture


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a run that is trained in one go."""

    name: str
    before: int
    """Steps of the legs before it."""
    steps: int
    seed: int
    """Of its data."""
    is_later: bool
    """Whether its conversations are the later ones (see `world`)."""
    mixture: Mixture
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers. Kept with the run, so that a restart cannot mix two."""

    tokens: int
    """Of the first leg."""
    second_tokens: int = 0
    """Of the second: it goes on from the first one's weights, with what was learnt least coming most."""
    seed: int = 1
    step_tokens: int = 8192
    """Few enough for thousands of updates from a small budget of tokens."""
    learning_rate: float = 4e-3
    second_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    text_first: float = 0.3
    text_last: float = 0.12
    second_text: float = 0.08
    drills_first: float = 0.4
    drills_until: float = 0.12
    short_until: float = 0.12
    long_from: float = 0.8
    whole_until: float = 0.4
    muon: int = 1
    primed: int = 1
    curve_points: int = 16
    items: int = 60
    """Held-out conversations for each ability at every point of the curve."""

    @property
    def steps(self) -> int:
        """Of all legs."""
        return sum(leg.steps for leg in self.legs)

    @property
    def legs(self) -> list[Leg]:
        first = Leg(
            name="first",
            before=0,
            steps=math.ceil(self.tokens / self.step_tokens),
            seed=self.seed,
            is_later=False,
            mixture=Mixture(
                text_first=self.text_first,
                text_last=self.text_last,
                drills_first=self.drills_first,
                drills_until=self.drills_until,
                short_until=self.short_until,
                long_from=self.long_from,
                whole_until=self.whole_until,
            ),
            recipe=self._recipe(self.tokens, self.learning_rate),
        )
        if not self.second_tokens:
            return [first]
        second = Leg(
            name="second",
            before=first.steps,
            steps=math.ceil(self.second_tokens / self.step_tokens),
            seed=self.seed + 1,
            is_later=True,
            mixture=Mixture(text_first=self.second_text, text_last=self.second_text, long_from=0.5),
            recipe=self._recipe(self.second_tokens, self.second_rate),
        )
        return [first, second]

    def _recipe(self, tokens: int, learning_rate: float) -> Recipe:
        steps = math.ceil(tokens / self.step_tokens)
        return Recipe(
            method="full",
            epochs=1,
            batch_size=1,
            learning_rate=learning_rate,
            warmup_steps=min(self.warmup_steps, max(1, steps // 10)),
            rank=0,
            alpha=0.0,
            weight_decay=self.weight_decay,
            clip=1.0,
            checkpoint_every=max(1, min(200, steps // 10)),
            seed=self.seed,
            micro_tokens=max(4096, self.step_tokens // math.ceil(self.step_tokens / 8192)),
            optimizer="muon" if self.muon else "adamw",
            betas=(0.9, 0.95),
        )
