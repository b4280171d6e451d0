"""What each kind of job does, from its first line to its last: the place to begin reading the workshop."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inhouse import rows
from inhouse.data.examples import Example, from_rows
from inhouse.data.loader import Epochs
from inhouse.errors import Diverged, StoreBusy
from inhouse.jobs import queue
from inhouse.model.adapters import TrainedLora
from inhouse.model.weights import save_base
from inhouse.schema import File, JobKind, ModelCard, TuneSpec
from inhouse.store import ids
from inhouse.store.records import files, models
from inhouse.store.records import jobs as records
from inhouse.tune.checkpoint import Checkpoints
from inhouse.tune.loop import Step, train
from inhouse.tune.recipe import Recipe, resolve
from inhouse.tune.validation import SHARE, Validation
from inhouse.worker.base import OpenBase, open_base
from inhouse.worker.checkpoints import kept, publisher, steps_to_publish
from inhouse.worker.context import Context
from inhouse.worker.memory import tune_memory
from inhouse.worker.micro import is_halved
from inhouse.worker.patience import patiently
from inhouse.worker.pause import Pause
from inhouse.worker.report import Report
from inhouse.worker.room import storage_full
from inhouse.worker.serve import serve
from inhouse.worker.speed import Speed, sentence

log = logging.getLogger(__name__)


def tune(context: Context) -> None:
    """A tuning job: rows to examples, a base and a recipe, the loop, and a model that is published once."""
    spec = TuneSpec.model_validate(context.job.spec)
    report = Report(context.db, context.job.id, context.fence)
    report.say(f"Attempt {context.job.attempts}: loading {spec.base}.")
    if spec.method == "memory":
        tune_memory(context, spec, report)
        return

    def look() -> ModelCard:
        with context.db.read() as conn:
            return models.get(conn, context.job.project, spec.base)

    card = patiently(look)
    full = spec.method == "full"
    base = open_base(card, context.artifacts, context.settings, db=context.db)
    training = _examples(context, base, spec.training, spec.training_name)
    held_out = _examples(context, base, spec.validation, spec.validation_name) if spec.validation else []
    recipe = resolve(spec, base.decoder.config, parameters=base.decoder.parameters, examples=len(training))
    if is_halved(context):
        recipe = replace(recipe, micro_tokens=recipe.micro_tokens // 2)
        report.say(f"Memory ran out before: {recipe.micro_tokens} tokens at a time, half as many.")
    _say_recipe(report, recipe, training)
    plain = _plain(spec, recipe)

    def tell() -> None:
        with context.db.write() as conn:
            records.set_result(conn, context.job.id, context.fence, {"hyperparameters": plain})

    patiently(tell)

    lora = None if full else TrainedLora(base.decoder, rank=recipe.rank, alpha=recipe.alpha, seed=recipe.seed)
    source = Epochs(training, batch_size=recipe.batch_size, epochs=recipe.epochs, seed=recipe.seed)
    validation = _validation(report, held_out, source, recipe) if held_out else None
    made = _card(context, spec, card, base, plain)

    def keep(step: Step | None = None) -> str:
        return kept(context, "model", lambda folder: _write(folder, spec, made, base, lora))

    publish = publisher(context, made, keep, report.flush)
    try:
        if not _train(context, report, base, lora, source, recipe, validation, publish):
            return
    except Diverged:
        report.flush()  # the last steps are those that its owner wants to see
        raise
    with storage_full():
        _publish(context, made.model_copy(update={"digest": keep()}), plain, training, report)


COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
    "full_valid_loss": "full_valid_loss",
    "full_valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
    "epoch": "epoch",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens_per_s": "tokens_per_s",
}
"""A column of the results file, OpenAI's first and in their order, and its name in a step's event."""

TASKS: dict[JobKind, Callable[[Context], None]] = {"tune": tune, "serve": serve}


def _examples(context: Context, base: OpenBase, digest: str, name: str) -> list[Example]:
    loaded = rows.load(
        context.artifacts.path(digest), name=name, max_line_bytes=context.settings.max_line_bytes
    )
    return from_rows(loaded, base.template, context=base.decoder.config.context, name=name)


def _say_recipe(report: Report, recipe: Recipe, training: list[Example]) -> None:
    tokens = sum(len(e.ids) for e in training)
    report.say(
        f"{len(training)} examples, {tokens} tokens, {sum(e.loss_tokens for e in training)} of them trained."
    )
    for name, reason in recipe.reasons.items():
        report.say(f"Chose {name} = {getattr(recipe, name)}: {reason}.")


def _validation(report: Report, held_out: list[Example], source: Epochs, recipe: Recipe) -> Validation:
    """The rows to measure on, few enough on the way that a large file does not hold up the training."""
    trained = recipe.evaluate_every * sum(len(e.ids) for e in source.examples) / source.steps_per_epoch
    validation = Validation(held_out, max_tokens=SHARE * trained, seed=recipe.seed)
    which = f"{len(validation.sample)} of " if len(validation.sample) < len(held_out) else ""
    report.say(
        f"Every {recipe.evaluate_every} steps the loss on {which}{len(held_out)} validation rows is measured"
        + (", after the last step on all of them." if which else ".")
    )
    return validation


def _train(
    context: Context,
    report: Report,
    base: OpenBase,
    lora: TrainedLora | None,
    source: Epochs,
    recipe: Recipe,
    validation: Validation | None,
    publish: Callable[[Step], None],
) -> bool:
    """Runs the loop to its end, from the last checkpoint if there is one. False: it was paused on the way."""
    speed, pause = Speed(base.decoder.device, base.decoder.dtype), Pause(context)
    for step in train(
        base.decoder,
        lora,
        source,
        recipe,
        validation=validation,
        checkpoints=Checkpoints(context.scratch / "checkpoints"),
        # a whole model each time would fill the disk
        publish_at=() if lora is None else steps_to_publish(source),
        publish=publish,
        is_checkpoint_wanted=pause.is_asked,
    ):
        report.step(step, source.steps_per_epoch)
        if step.is_saved:
            report.offer()
            _note_checkpoint(context, step.step)
            if pause.take(step.step, step.steps, report.flush):
                return False
        if speed.add(step):
            facts = speed.facts()
            report.say(sentence(facts), **facts)
    report.flush()
    return True


def _card(
    context: Context, spec: TuneSpec, parent: ModelCard, base: OpenBase, plain: dict[str, Any]
) -> ModelCard:
    """The model that the job makes, but for its weights and the time."""
    job = context.job
    name = ids.tuned_model(spec.base, job.project, spec.suffix, job.id)
    is_full = spec.method == "full"
    about = {"parents": [parent.name], "context": base.decoder.config.context, "recipe": plain}
    return ModelCard(
        name=name,
        project=job.project,
        kind="full" if is_full else "adapter",
        base=name if is_full else spec.base,
        base_digest=base.digest,
        job=job.id,
        created_at=0.0,
        about=about,
    )


def _write(folder: Path, spec: TuneSpec, card: ModelCard, base: OpenBase, lora: TrainedLora | None) -> None:
    """Writes the weights as they stand. Every attempt writes the same bytes, so nothing of the attempt is in them."""
    if lora is None:
        save_base(base.decoder, folder, like=base.folder)
        return
    notes = {
        "base": spec.base,
        "base_digest": base.digest,
        "job": card.job,
        "recipe": card.about["recipe"],
    }
    lora.adapter(notes).write(folder, base.decoder.config, base=spec.base)


def _note_checkpoint(context: Context, step: int) -> None:
    """Tells the queue how far the job is. A store that is away hears of the next checkpoint instead."""
    try:
        queue.note_checkpoint(context.db, context.job.id, context.fence, step)
    except StoreBusy as e:
        log.warning("%s: the checkpoint of step %d stays untold: %s", context.job.id, step, e)


def _publish(
    context: Context, card: ModelCard, plain: dict[str, Any], training: list[Example], report: Report
) -> None:
    """Makes the model known in the transaction that ends the job: once, whatever happens."""
    job = context.job
    table = report.metrics()
    results = _results(context, table)

    def publish(conn: sa.Connection) -> None:
        now = context.db.clock(conn)
        models.add(conn, card.model_copy(update={"created_at": now}))
        files.add(conn, results.model_copy(update={"created_at": now}))
        records.add_event(conn, job.id, f"New model: {card.name}", now, fence=None)

    result = {
        "model": card.name,
        "digest": card.digest,
        "trained_tokens": sum(len(e.ids) for e in training) * plain["epochs"],
        "result_files": [results.id],
        "train_loss": next(
            (row["train_loss"] for row in reversed(table) if row["train_loss"] is not None), None
        ),
        "hyperparameters": plain,
    }
    patiently(
        lambda: queue.finish(context.db, job.id, context.fence, "succeeded", result=result, publish=publish)
    )


def _results(context: Context, table: list[dict[str, Any]]) -> File:
    """The table of steps as a CSV file of the project, as OpenAI's result files are."""
    path = context.scratch / f"results-{context.fence}.csv"
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        writer.writerows([row.get(name) for name in COLUMNS.values()] for row in table)
    digest, size = context.artifacts.put_file(path)
    return File(
        id=ids.new("file"),
        project=context.job.project,
        filename=f"{context.job.id}-results.csv",
        purpose="fine-tune-results",
        bytes=size,
        digest=digest,
        created_at=0.0,
    )


def _plain(spec: TuneSpec, recipe: Recipe) -> dict[str, Any]:
    """The numbers that a job's owner sees as chosen."""
    names = ("method", "epochs", "batch_size", "learning_rate", "rank", "alpha", "seed")
    plain = {name: getattr(recipe, name) for name in (*names, "checkpoint_every", "evaluate_every")}
    asked = spec.learning_rate_multiplier
    return plain | {"learning_rate_multiplier": 1.0 if asked == "auto" else asked}
