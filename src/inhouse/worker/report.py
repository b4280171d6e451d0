"""A job's log: messages at once, steps gathered so that the store is written a few times a second at most."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from inhouse.errors import StoreBusy
from inhouse.schema import Event
from inhouse.store import fence as fences
from inhouse.store.db import Database
from inhouse.store.records import jobs as records
from inhouse.tune.loop import Step
from inhouse.worker.patience import patiently

log = logging.getLogger(__name__)

FLUSH_S = 0.5
PAGE = 1000
MOST_LINES = 100_000
"""Lines of one job's log, of all attempts together. Of a run that has more than half as many steps, only every so
many-th is written; a job that says more than that is cut short, with a last line that says so."""
FULL = f"This log is full: {MOST_LINES:,} lines are kept of a job, and what it says from here on is not."

Line = tuple[str, Literal["message", "metrics"], dict[str, Any]]


class Report:
    """Writes events under the job's fence: a process that has lost its claim cannot speak for the job."""

    def __init__(self, db: Database, job: str, fence: int) -> None:
        self._db = db
        self._job = job
        self._fence = fence
        self._waiting: list[Line] = []
        self._left: int | None = None
        """Lines that there is still room for; None: not yet counted."""
        self._flushed_at = 0.0
        self._began_at: float | None = None
        self._steps = 0
        self._learnt = 0

    def say(self, message: str, **data: Any) -> None:
        """Writes one message; a step's numbers go through `step` alone. Raises LeaseLost."""

        self.flush()
        patiently(lambda: self._put([(message, "message", data)]))

    def step(self, step: Step, steps_per_epoch: int) -> None:
        """Notes a step; it is written with others, at most half a second later."""
        now = time.monotonic()
        self._began_at = now - step.seconds if self._began_at is None else self._began_at
        self._steps += 1
        left_s = (step.steps - step.step) * (now - self._began_at) / self._steps
        data: dict[str, Any] = {
            "step": step.step,
            "total_steps": step.steps,
            "epoch": (step.step - 1) // steps_per_epoch + 1,
            "train_loss": step.loss,
            "train_mean_token_accuracy": step.accuracy,
            "learning_rate": step.learning_rate,
            "grad_norm": step.grad_norm,
            "tokens_per_s": step.tokens_per_s,
            "seconds_left": left_s,
        }
        if step.is_skipped:
            data["is_skipped"] = True
            data["train_loss"] = data["grad_norm"] = None  # not finite, and JSON has no word for that
        text = "not finite, step skipped" if step.is_skipped else f"training loss={step.loss:.4f}"
        for name, score in (("valid", step.valid), ("full_valid", step.full_valid)):
            if score is not None and math.isfinite(score.loss):
                data |= {f"{name}_loss": score.loss, f"{name}_mean_token_accuracy": score.accuracy}
                text += f", {name.replace('valid', 'validation').replace('_', ' ')} loss={score.loss:.4f}"
        if _is_written(step.step, step.steps) or step.is_skipped or step.valid is not None:
            self._waiting.append((f"Step {step.step}/{step.steps}: {text}", "metrics", data))
        self._flush_if_due(is_last=step.step == step.steps)

    def learnt(self, step: int, steps: int, loss: float | None, recall: float | None) -> None:
        """Notes how far a memory's work is, as `step` does for a model's training; not all of it has a loss."""
        now = time.monotonic()
        if self._began_at is None or step < self._learnt:  # another part of the work begins to count anew
            self._began_at = now
        self._learnt = step
        data: dict[str, Any] = {"step": step, "total_steps": steps}
        text = f"Step {step}/{steps}"
        if loss is not None and math.isfinite(loss):
            data["train_loss"] = loss
            text += f": loss={loss:.4f}"
        if recall is not None:
            data["recall"] = recall
        if step and now > self._began_at:
            data["seconds_left"] = (steps - step) * (now - self._began_at) / step
        if _is_written(step, steps):
            self._waiting.append((text, "metrics", data))
        self._flush_if_due(is_last=step >= steps)

    def flush(self) -> None:
        """Writes what waits, once the store answers. Raises LeaseLost, and StorageFull with nothing forgotten."""
        patiently(self._write)

    def _flush_if_due(self, *, is_last: bool) -> None:
        """Writes what waits a few times a second; the work goes on while the store is away."""
        if is_last:
            self.flush()
        elif time.monotonic() - self._flushed_at >= FLUSH_S:
            self.offer()

    def offer(self) -> None:
        """Writes what waits, unless the store is away: then it waits for longer, and nobody for it."""
        try:
            self._write()
        except StoreBusy as e:
            self._flushed_at = time.monotonic()
            log.warning("%s: %d lines wait for the store: %s", self._job, len(self._waiting), e)

    def _write(self) -> None:
        if self._waiting:
            self._put(self._waiting)
            self._waiting.clear()
        self._flushed_at = time.monotonic()

    def _put(self, lines: Sequence[Line]) -> None:
        """Writes lines as far as there is room, and in the last place that it is full."""
        if self._left == 0:
            with self._db.read() as conn:
                fences.require(conn, self._job, self._fence)
            return
        with self._db.write() as conn:
            now = self._db.clock(conn)
            left = self._left
            if left is None:
                left = max(0, MOST_LINES - records.count_events(conn, self._job))
            kept = [*lines[: left - 1], (FULL, "message", {})] if len(lines) >= left else lines
            for message, type, data in kept[:left]:
                records.add_event(conn, self._job, message, now, type=type, data=data, fence=self._fence)
        self._left = max(0, left - len(lines))

    def metrics(self) -> list[dict[str, Any]]:
        """The numbers of every written step, in order, from all attempts: a step run again counts as it went last."""
        self.flush()
        steps: dict[int, dict[str, Any]] = {}
        after = None
        while True:
            page, has_more = patiently(partial(self._page, after))
            for event in page:
                if "step" in event.data:
                    steps[event.data["step"]] = event.data
            if not has_more:
                return [steps[number] for number in sorted(steps)]
            after = page[-1].id

    def _page(self, after: str | None) -> tuple[list[Event], bool]:
        with self._db.read() as conn:
            return records.events(conn, None, self._job, after, PAGE, "asc")


def _is_written(step: int, steps: int) -> bool:
    """Whether a step stands in the log: each does, but for runs whose steps would fill half of it."""
    every = max(1, -(-steps // (MOST_LINES // 2)))
    return step % every == 0 or step >= steps
