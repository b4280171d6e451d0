"""How fast a job trains, and what share of its device that is: said once it has settled, and at the end."""

from __future__ import annotations

from typing import Any

import torch

from inhouse.device import matrix_peak
from inhouse.tune.loop import Step

SETTLED_S = 10.0
"""Of training: from then on a rate says something about the rest of the run."""


class Speed:
    """Sums the steps of one attempt."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._peak = 0.0
        self._is_said = False
        self._tokens = 0
        self._operations = 0.0
        self._seconds = 0.0

    def add(self, step: Step) -> bool:
        """Counts a step in; true at the two steps after which the speed is to be said."""
        self._tokens += step.tokens
        self._operations += step.operations
        self._seconds += step.seconds
        has_settled = self._seconds >= SETTLED_S and not self._is_said
        self._is_said = self._is_said or has_settled
        return has_settled or step.step == step.steps

    def facts(self) -> dict[str, Any]:
        """The means so far. The first call measures the peak, which takes a fifth of a second; where the job has left
        no memory for that, the share of the peak is not told."""
        facts: dict[str, Any] = {
            "tokens_per_s": self._tokens / self._seconds,
            "dtype": str(self._dtype).removeprefix("torch."),
        }
        try:
            self._peak = self._peak or matrix_peak(self._device, self._dtype)
        except torch.OutOfMemoryError:
            return facts
        share = self._operations / self._seconds / self._peak
        return facts | {"peak_share": share, "peak_tflops": self._peak / 1e12}


def sentence(facts: dict[str, Any]) -> str:
    """3,412 tokens/s, 43 % of this machine's matrix peak (0.31 TFLOP/s in bfloat16, measured just now)."""
    speed = f"{facts['tokens_per_s']:,.0f} tokens/s"
    if "peak_share" not in facts:
        return f"{speed} in {facts['dtype']}."
    return (
        f"{speed}, {facts['peak_share'] * 100:.0f} % of this machine's matrix peak "
        f"({facts['peak_tflops']:.2g} TFLOP/s in {facts['dtype']}, measured just now)."
    )
