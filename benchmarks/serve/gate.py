"""The gate before any speed: does an engine compute this model at all?

Every token that an engine draws greedily is looked up in a float32 reference that reads the same tokens: how far was
its logit below the likeliest one? Two engines in bfloat16 may part at a near tie and both be right; then a comparison
of their texts says nothing, and this still does.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks.serve.arms import KINDS, Arm
from benchmarks.serve.peers.wire import Absent
from benchmarks.serve.rows import Row

PROMPTS, LENGTH, NEW = 4, 24, 8
TOLERANCE = 0.25
"""Of the logits' spread, for any token in bfloat16. On the base of 387 million parameters transformers' own logits in
bfloat16 are off by 0.039 of the spread (standard deviation; ours by 0.040), the difference of two by 0.055; this is
between four and five of those."""
MEAN_TOLERANCE = {"int8": 0.15, "int4": 3.0}
"""Of the spread, for the mean over tokens: rounded weights are another model, but one near by. With random weights four
bits lose nearly everything over 24 layers (our logits are off by 0.95 of the spread, and so are peers'): all that
can be told is that tokens are not drawn at random, which would be 4.1 below."""


class Reference:
    """The float32 reference for one row, opened when it is first asked."""

    def __init__(self, row: Row, folder: Path, base: Path, *, device: str, here: bool) -> None:
        self._row, self._folder, self._base = row, folder, base
        self._device, self._here = device, here
        self._arm: Arm | None = None
        draw = random.Random(7)
        load = row.load
        named = [ask.get("adapter") for ask in load.asks(folder, 0)]
        vocabulary = range(3, 300)  # small ids: every base has them
        self.asks = [
            {"prompt": draw.choices(vocabulary, k=LENGTH), "new": NEW, "adapter": named[i % len(named)]}
            for i in range(PROMPTS)
        ]

    def judge(self, arm: Arm) -> dict[str, Any]:
        """How far the engine's tokens are from the reference's, and whether that passes."""
        tokens = arm.ask("run", asks=self.asks, closed=PROMPTS)["tokens"]
        short = [len(new) for new in tokens if len(new) != NEW]
        if short:
            raise Absent(f"it drew {short[0]} tokens where {NEW} were asked for")
        found = self._reference().ask(
            "margins",
            prompts=[ask["prompt"] for ask in self.asks],
            tokens=tokens,
            adapters=[ask["adapter"] for ask in self.asks],
        )
        margins = [margin / found["spread"] for each in found["margins"] for margin in each]
        worst, mean = max(margins), sum(margins) / len(margins)
        bound = MEAN_TOLERANCE.get(self._row.precision)
        return {
            "tokens": len(margins),
            "others": sum(margin > 0 for margin in margins),
            "worst": round(worst, 4),
            "mean": round(mean, 4),
            "is_passed": worst <= TOLERANCE if bound is None else mean <= bound,
        }

    def end(self) -> None:
        if self._arm is not None:
            self._arm.end()

    def _reference(self) -> Arm:
        if self._arm is None:
            self._arm = Arm(KINDS["PEFT mixed"], self._folder, here=self._here)
            self._arm.ask("open", base=str(self._base), precision="float32", device=self._device)
        return self._arm
