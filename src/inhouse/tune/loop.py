"""The training loop: a generator of steps, for LoRA, full tuning and training from scratch alike.

It knows tensors and checkpoints; it knows neither jobs nor events. Everything that decides the result is a pure
function of (seed, step) or stands in the checkpoint, so a run that is killed and resumed ends with the same
bytes as one that is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from inhouse.data.examples import Example
from inhouse.data.loader import Source
from inhouse.data.pack import pack, split
from inhouse.errors import Diverged
from inhouse.model.adapters import TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.model.work import training_operations
from inhouse.tune.checkpoint import Checkpoint, Checkpoints
from inhouse.tune.loss import Loss, supervised
from inhouse.tune.optim import Optimizer, learning_rate
from inhouse.tune.recipe import Recipe
from inhouse.tune.validation import Score, Validation, evaluate

MAX_SKIPS_IN_A_ROW = 3
MAX_ROLLBACKS = 2
ROLLBACK_RATE = 0.5
"""After a rollback the run goes on at this share of its rate."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. `loss` and `accuracy` are means over its trained tokens, the loss in nats."""

    step: int
    """Counted from 1."""
    steps: int
    loss: float
    accuracy: float
    """The share of trained tokens that were the likeliest at their place, before the step."""
    learning_rate: float
    grad_norm: float
    tokens: int
    """Tokens read in this step, prompts included."""
    operations: float
    """Floating-point operations of the model for them, as `model.work` counts."""
    seconds: float
    """Of training: neither evaluation nor the checkpoint is in it."""
    is_skipped: bool = False
    """Loss or gradient was not finite, so nothing was changed."""
    is_saved: bool = False
    """A checkpoint of the state after this step is on disk."""
    valid: Score | None = None
    """After this step, over the sample of the validation rows."""
    full_valid: Score | None = None
    """After the last step, over all of them."""

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


@dataclass(slots=True)
class _Health:
    """What a run remembers of trouble; part of the checkpoint."""

    skips_in_a_row: int = 0
    rollbacks: int = 0

    @property
    def rate(self) -> float:
        return float(ROLLBACK_RATE**self.rollbacks)


def _nothing(step: Step) -> None:
    pass


def _never() -> bool:
    return False


def train(
    decoder: Decoder,
    lora: TrainedLora | None,
    source: Source,
    recipe: Recipe,
    *,
    validation: Validation | None = None,
    checkpoints: Checkpoints | None = None,
    publish_at: Collection[int] = (),
    publish: Callable[[Step], None] = _nothing,
    is_checkpoint_wanted: Callable[[], bool] = _never,
    loss: Loss = supervised,
) -> Iterator[Step]:
    """Trains `lora` beside the frozen decoder, or with None the whole decoder, in place; yields every step.

    Every `evaluate_every` steps, at those of `publish_at` and after the last one it measures on `validation`, which
    changes nothing. After each step of `publish_at` it calls `publish`, before the step is kept in a checkpoint: a run
    that is killed in between does both again. After each step it asks whether a checkpoint is wanted out of turn.
    Goes on from the newest checkpoint when there is one. Raises Diverged when the loss stays infinite or NaN
    after two rollbacks to lower rates, and StorageFull when a checkpoint does not fit the disk.
    """
    optimizer = _optimizer(decoder, lora, recipe)
    health = _Health()
    saved = checkpoints.latest() if checkpoints is not None else None
    start = _Start(optimizer.state(), saved)
    step = start.take_up(optimizer, health)
    while step < source.steps:
        began = time.perf_counter()
        rate = health.rate * learning_rate(
            step, source.steps, peak=recipe.learning_rate, warmup=recipe.warmup_steps
        )
        examples = source.at(step)
        value, accuracy = _gradient(decoder, lora, examples, recipe.micro_tokens, optimizer, loss)
        norm = optimizer.grad_norm()
        is_finite = math.isfinite(value) and math.isfinite(norm)
        if is_finite:
            optimizer.step(rate, clip=recipe.clip, norm=norm)
            health.skips_in_a_row = 0
        else:
            optimizer.clear()
            health.skips_in_a_row += 1
        step += 1
        seconds = time.perf_counter() - began
        # Before the checkpoint: a run that is killed while it measures does the step again, and measures then.
        is_published = step in publish_at
        is_measured = is_published or step % recipe.evaluate_every == 0 or step == source.steps
        measured_on = validation if is_measured else None
        valid, full_valid = _measure(decoder, lora, measured_on, step == source.steps, recipe, loss)
        is_due = step % recipe.checkpoint_every == 0 or step == source.steps or is_checkpoint_wanted()
        is_stuck = health.skips_in_a_row >= MAX_SKIPS_IN_A_ROW or (
            step == source.steps and optimizer.steps == 0
        )
        # A skipped step changed nothing, so a run may end with one: what is looked at is what it ends with.
        is_kept = is_finite or (step == source.steps and not is_stuck)
        # What a checkpoint or a model is made of was looked at: a finite step may still end beyond all numbers.
        is_sound = is_kept and (not (is_due or is_published) or optimizer.is_finite())
        lengths = [len(e.ids) for e in examples]
        done = Step(
            step=step,
            steps=source.steps,
            loss=value,
            accuracy=accuracy,
            learning_rate=rate,
            grad_norm=norm,
            tokens=sum(lengths),
            operations=training_operations(decoder, lora, lengths, sum(e.loss_tokens for e in examples)),
            seconds=seconds,
            is_skipped=not is_finite,
            valid=valid,
            full_valid=full_valid,
        )
        if is_published and is_sound:
            publish(done)
        if is_due and is_sound and checkpoints is not None:
            start.saved = Checkpoint(step, optimizer.state(), {"rollbacks": health.rollbacks})
            checkpoints.save(step, start.saved.tensors, start.saved.state)
            done = replace(done, is_saved=True)
        yield done
        if is_stuck or (is_kept and not is_sound):
            step = _roll_back(start, optimizer, health)


def _optimizer(decoder: Decoder, lora: TrainedLora | None, recipe: Recipe) -> Optimizer:
    if lora is not None:
        return Optimizer(lora.named_tensors(), weight_decay=recipe.weight_decay)
    hidden = [(linear.weight, [(p.start, p.stop) for p in linear.parts]) for linear in decoder.linears()]
    return Optimizer(
        decoder.named_tensors(),
        weight_decay=recipe.weight_decay,
        hidden=hidden if recipe.optimizer == "muon" else (),
        betas=recipe.betas,
    )


class _Start:
    """Where a run begins, and where it goes back to: the last checkpoint, else the untrained weights."""

    def __init__(self, fresh: dict[str, Tensor], saved: Checkpoint | None) -> None:
        self.fresh = fresh
        self.saved = saved

    def take_up(self, optimizer: Optimizer, health: _Health) -> int:
        """Loads it and returns the step to go on from."""
        if self.saved is None:
            optimizer.load(self.fresh)
            return 0
        optimizer.load(self.saved.tensors)
        health.rollbacks = max(health.rollbacks, int(self.saved.state["rollbacks"]))
        return self.saved.step


def _roll_back(start: _Start, optimizer: Optimizer, health: _Health) -> int:
    if health.rollbacks >= MAX_ROLLBACKS:
        raise Diverged(
            f"The loss was not finite {MAX_SKIPS_IN_A_ROW} steps in a row or in any step, or the weights were not, "
            f"and {MAX_ROLLBACKS} rollbacks to lower learning rates did not mend it. Lower learning_rate, and look for "
            "broken rows.",
        )
    health.rollbacks += 1
    health.skips_in_a_row = 0
    return start.take_up(optimizer, health)


def _gradient(
    decoder: Decoder,
    lora: TrainedLora | None,
    examples: Sequence[Example],
    micro_tokens: int,
    optimizer: Optimizer,
    loss: Loss,
) -> tuple[float, float]:
    """Sums the gradient of a step's examples, in as many streams as fit; returns (mean loss, accuracy)."""
    loss_tokens = sum(e.loss_tokens for e in examples)
    total, right = 0.0, 0
    for run in split(examples, micro_tokens):
        batch = pack(run).to(decoder.device)
        value, _, is_best = loss(decoder, lora, batch, 1.0 / loss_tokens)
        value.backward()
        optimizer.collect()
        total += float(value.detach())
        right += int(is_best.sum())
    return total, right / loss_tokens


def _measure(
    decoder: Decoder,
    lora: TrainedLora | None,
    validation: Validation | None,
    is_last: bool,
    recipe: Recipe,
    loss: Loss,
) -> tuple[Score | None, Score | None]:
    """(over the sample, after the last step over all rows)."""
    if validation is None:
        return None, None
    valid = evaluate(decoder, lora, validation.sample, micro_tokens=recipe.micro_tokens, loss=loss)
    if not is_last:
        return valid, None
    if len(validation.sample) == len(validation.examples):
        return valid, valid
    return valid, evaluate(decoder, lora, validation.examples, micro_tokens=recipe.micro_tokens, loss=loss)
