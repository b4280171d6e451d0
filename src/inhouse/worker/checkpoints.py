"""A job's model on the way, published so that it may be asked: which steps, and how.

A few epochs' ends are enough to choose from, and nothing is ever taken back. Training's own checkpoints, which a run
goes on from, are `tune.checkpoint`'s.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from typing import Any

from inhouse.data.loader import Epochs
from inhouse.schema import ModelCard
from inhouse.store import fence as fences
from inhouse.store import ids
from inhouse.store.records import checkpoints
from inhouse.store.records import jobs as records
from inhouse.tune.loop import Step
from inhouse.worker.context import Context
from inhouse.worker.patience import patiently
from inhouse.worker.room import storage_full

LAST = 3
"""Ends of epochs that are published in any case: those that a choice is mostly between, and what OpenAI gives."""
SPREAD = 8
"""About as many more, evenly over the run, for one that is stopped early or learnt too much."""


def steps_to_publish(source: Epochs) -> frozenset[int]:
    """After which steps (counted from 1) the model is published: ends of epochs."""
    epochs = source.steps // source.steps_per_epoch
    every = math.ceil(epochs / SPREAD)
    chosen = {*range(max(1, epochs - LAST + 1), epochs + 1), *range(every, epochs + 1, every)}
    return frozenset(epoch * source.steps_per_epoch for epoch in chosen)


def publisher(
    context: Context, card: ModelCard, write: Callable[[Step], str], say: Callable[[], None]
) -> Callable[[Step], None]:
    """What publishes the model after a step, as a copy of the final model's `card` under a name of its own.

    `write` keeps its weights and returns their digest; `say` writes what the job's log still holds back, so that the
    lines stay in order. Raises LeaseLost when the claim has passed on.
    """

    def publish(step: Step) -> None:
        say()
        name = ids.checkpoint(card.name, step.step)
        with storage_full():
            digest = write(step)
        about = {**card.about, "step": step.step}

        def put() -> None:
            with context.db.write() as conn:
                fences.require(conn, context.job.id, context.fence)
                now = context.db.clock(conn)
                values = {"name": name, "digest": digest, "about": about, "created_at": now}
                checkpoints.put(conn, card.model_copy(update=values), step.step, _metrics(step))
                said = f"Checkpoint created at step {step.step}: {name}"
                data = {"checkpoint": name}
                records.add_event(conn, context.job.id, said, now, data=data, fence=None)

        patiently(put)

    return publish


def kept(context: Context, name: str, write: Callable[[Any], None]) -> str:
    """The digest of a folder that `write` fills, kept among the artifacts; the folder itself goes again."""
    # no other attempt, however late it wakes, writes here
    folder = context.scratch / f"attempt-{context.fence}" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(folder)
    digest = context.artifacts.put_folder(folder)
    shutil.rmtree(folder)
    return digest


def _metrics(step: Step) -> dict[str, Any]:
    """What was measured at this step, in OpenAI's words; what is not a number is left out."""
    found: dict[str, Any] = {
        "step": step.step,
        "train_loss": step.loss,
        "train_mean_token_accuracy": step.accuracy,
    }
    for name, score in (("valid", step.valid), ("full_valid", step.full_valid)):
        if score is not None:
            found |= {f"{name}_loss": score.loss, f"{name}_mean_token_accuracy": score.accuracy}
    return {key: value for key, value in found.items() if math.isfinite(value)}
