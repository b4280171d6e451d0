"""A job's process in which each step leaves a weight that is no number. Arguments as every child's."""

from __future__ import annotations

import sys
from pathlib import Path

from inhouse.tune.optim import Optimizer
from inhouse.worker import child

sound = Optimizer.step


def spoils(self: Optimizer, learning_rate: float, *, clip: float, norm: float) -> None:
    sound(self, learning_rate, clip=clip, norm=norm)
    self.weights[7] = float("nan")


if __name__ == "__main__":
    Optimizer.step = spoils  # type: ignore[method-assign]
    sys.exit(child.main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
