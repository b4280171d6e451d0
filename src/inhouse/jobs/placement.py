"""Which kinds of job a worker may claim, and which idle replica makes room: a pure function.

It knows no torch, clock, file or database; what it needs to know of time is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inhouse.schema import JobKind


@dataclass(frozen=True, slots=True)
class Held:
    """A job that a worker runs."""

    job: str
    kind: JobKind
    is_busy: bool = True
    """A replica that loads or answers requests; tuning always is."""
    idle_s: float = 0.0
    """How long ago a replica answered its last request."""


@dataclass(frozen=True, slots=True)
class WorkerRoom:
    """A worker's slots, and what it holds in them."""

    serve_slots: int
    tune_slots: int
    held: tuple[Held, ...] = ()

    def free(self, kind: JobKind) -> int:
        """How many more jobs of this kind fit."""
        slots = self.serve_slots if kind == "serve" else self.tune_slots
        return max(0, slots - sum(job.kind == kind for job in self.held))


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that some worker could claim."""

    job: str
    kind: JobKind
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """What a worker does next."""

    kinds: tuple[JobKind, ...]
    """The kinds it may claim."""
    stop: tuple[str, ...]
    """Replicas to end, least recently used first, for serve jobs that find no slot anywhere here."""


def choose(worker: WorkerRoom, waiting: Sequence[Waiting]) -> Placement:
    """Claim what fits. When serve jobs wait and do not fit, end as many idle replicas as they need."""
    kinds: tuple[JobKind, ...] = ("serve", "tune")
    short = sum(job.kind == "serve" for job in waiting) - worker.free("serve")
    idle = [job for job in worker.held if job.kind == "serve" and not job.is_busy]
    idle.sort(
        key=lambda job: (-job.idle_s, job.job)
    )  # the id breaks ties, so that the same input gives the same
    return Placement(
        kinds=tuple(kind for kind in kinds if worker.free(kind) > 0),
        stop=tuple(job.job for job in idle[: max(0, short)]),
    )
