"""One core, and whether it was ours: pins processes to it and tells how much of it others used meanwhile.

It reads /proc; where there is none it pins nothing and rejects nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.house.house import descendants

T = TypeVar("T")

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MAX_FOREIGN = 0.1
"""A round in which others had more than this share of the core is done again: a wall over 1.1 of what is ours."""
TRIES = 3


def pin(core: int | None) -> int | None:
    """Keeps this process, and what it starts from now on, on one core; by default the last it may use."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    if core is None:
        core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    os.environ["OMP_NUM_THREADS"] = "1"
    return core


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its children that were waited for have used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_S


def tree_cpu_s() -> float:
    """CPU seconds of this process and everything below it."""
    return sum(cpu_s(pid) for pid in (os.getpid(), *descendants(os.getpid())))


class Rounds:
    """Repeats a measurement on a pinned core, and does rounds again in which others had too much of the core."""

    def __init__(self, core: int | None) -> None:
        self.core = core
        self.rejected: list[dict[str, Any]] = []

    def take(self, what: str, measure: Callable[[], T]) -> T:
        """What `measure` returns in a round that was ours; the last of a few tries stays, and is noted."""
        for attempt in range(1, TRIES + 1):
            busy, ours, began = self._busy_s(), tree_cpu_s(), time.perf_counter()
            result = measure()
            wall = time.perf_counter() - began
            foreign = (self._busy_s() - busy) - (tree_cpu_s() - ours)
            if self.core is None or foreign <= MAX_FOREIGN * wall + 2 / TICKS_PER_S:
                return result
            kept = attempt == TRIES
            self.rejected.append({"round": what, "foreign_share": round(foreign / wall, 2), "kept": kept})
        return result

    def _busy_s(self) -> float:
        """Seconds in which the core was not idle, stolen ones included."""
        if self.core is None:
            return 0.0
        for line in Path("/proc/stat").read_text().splitlines():
            if line.startswith(f"cpu{self.core} "):
                user, nice, system, _, _, irq, soft_irq, steal = map(int, line.split()[1:9])
                return (user + nice + system + irq + soft_irq + steal) / TICKS_PER_S
        raise AssertionError(f"/proc/stat has no core {self.core}")
