"""A memory job: rows to facts, the base's router, an examination, and a bank that is published once and whole.

It trains no weights of the base. Experts, where they are asked for, are trained beside it.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inhouse import rows
from inhouse.data.examples import Example
from inhouse.errors import BadRows, RowProblem
from inhouse.jobs import queue
from inhouse.memory.index import KeyIndex
from inhouse.memory.learn import Progress
from inhouse.memory.router import Router
from inhouse.memory.router_store import open_router
from inhouse.rows.facts import FactRows, from_rows
from inhouse.schema import Bank, Fact, File, Message, ModelCard, TuneSpec
from inhouse.store import ids
from inhouse.store.records import banks, facts, files, models
from inhouse.store.records import jobs as records
from inhouse.store.records.fact_change import Status
from inhouse.tune.expert_file import to_bytes
from inhouse.tune.experts import ExpertResult, ExpertSettings, ExpertTask, train_experts
from inhouse.worker.base import OpenBase, open_base
from inhouse.worker.context import Context
from inhouse.worker.examine import checked, examine, own_wordings, timeless
from inhouse.worker.patience import patiently
from inhouse.worker.report import Report
from inhouse.worker.room import storage_full
from inhouse.worker.serve import ROUTERS


@dataclass(slots=True)
class _Work:
    """What a job has so far."""

    context: Context
    spec: TuneSpec
    report: Report
    card: ModelCard
    base: OpenBase
    given: FactRows
    seconds: dict[str, float]


def tune_memory(context: Context, spec: TuneSpec, report: Report) -> None:
    """The whole job."""
    began = time.process_time()

    def look() -> ModelCard:
        with context.db.read() as conn:
            return models.get(conn, context.job.project, spec.base)

    card = patiently(look)
    base = open_base(card, context.artifacts, context.settings, db=context.db)
    given = _facts(context, spec, base)
    report.say(
        f"{len(given.facts)} facts"
        + (f", {given.duplicates} rows said one of them again" if given.duplicates else "")
        + f", {sum(1 + len(f.wordings) for f in given.facts)} wordings."
    )
    work = _Work(context, spec, report, card, base, given, {"open": time.process_time() - began})
    router = _router(work)
    index, found = _index(work, router)
    experts = _experts(work, found) if spec.experts else {}
    began = time.process_time()
    if (count := len(checked(index))) < len(found):
        report.say(
            f"Asking {count} of {len(found)} facts in their own wordings: a sample, for there are many."
        )
    doubtful = own_wordings(
        index, router, told=lambda done, of: report.learnt(done, of, loss=None, recall=None)
    )
    for fact_id, result in experts.items():
        if not result.is_exact:
            doubtful.setdefault(fact_id, f"No expert for it: {result.reason}")
    numbers = examine(index, router)
    work.seconds["examine"] = time.process_time() - began
    _say_numbers(report, numbers, doubtful)
    with storage_full():
        _publish(work, router, index, found, experts, doubtful, numbers)


def _facts(context: Context, spec: TuneSpec, base: OpenBase) -> FactRows:
    """The file's facts, checked once more here: this is what is published. Raises BadRows."""
    path, name = context.artifacts.path(spec.training), spec.training_name
    read = rows.read(path, name=name, max_line_bytes=context.settings.max_line_bytes)
    given = from_rows(read, name=name, on_conflict=spec.on_conflict)
    problems = list(given.problems)
    limit = base.decoder.config.context // 2
    for fact, line in zip(given.facts, given.lines, strict=True):
        count = len(base.tokenizer.encode(fact.answer, special=False))
        if count > limit:
            problems.append(
                RowProblem(
                    line,
                    "answer",
                    f"it has {count} tokens; this base's context holds {2 * limit}, and a fact may take half of it.",
                    "Shorten it, or keep it as a document.",
                )
            )
    if problems:
        raise BadRows(name, problems)
    return given


def _router(work: _Work) -> Router:
    """The base's router, made now if it has none, with its progress as the job's."""
    began = time.process_time()
    routers = work.context.settings.data_dir / ROUTERS
    is_told = False

    def told(progress: Progress) -> None:
        nonlocal is_told
        if not is_told:
            work.report.say(f"{work.base.name} has no router yet. Making it, once for this base.")
            is_told = True
        if progress.loss is not None and progress.step % 10 == 0:
            work.report.learnt(progress.step, progress.total_steps, progress.loss, progress.recall)

    base = work.base
    router = open_router(
        base.decoder, base.tokenizer, base.digest, routers, base_folder=base.folder, progress=told
    )
    work.seconds["router"] = time.process_time() - began
    return router


def _index(work: _Work, router: Router) -> tuple[KeyIndex, list[Fact]]:
    """The facts under the ids that they will have, indexed."""
    began = time.process_time()
    bank = ids.new("bank")
    found = [
        Fact(**fact.model_dump(), id=ids.new("fact"), bank=bank, revision=1) for fact in work.given.facts
    ]
    index = router.index()
    index.put(timeless(found))
    work.seconds["index"] = time.process_time() - began
    return index, found


def _experts(work: _Work, found: list[Fact]) -> dict[str, ExpertResult]:
    """An expert for each fact."""
    began = time.process_time()
    work.report.say(f"Training {len(found)} experts.")
    tasks = [
        ExpertTask(
            fact.id, tuple(_example(work.base, text, fact.answer) for text in (fact.question, *fact.wordings))
        )
        for fact in found
    ]
    results: dict[str, ExpertResult] = {}
    for progress in train_experts(work.base.decoder, tasks, ExpertSettings(seed=work.spec.seed)):
        results = progress.results
        if progress.steps % 10 == 0:
            share = progress.done / max(1, progress.total)
            work.report.learnt(progress.done + progress.failed, progress.total, progress.mean_loss, share)
    work.seconds["experts"] = time.process_time() - began
    return results


def _example(base: OpenBase, question: str, answer: str) -> Example:
    asked, told = Message(role="user", content=question), Message(role="assistant", content=answer)
    tokens, trained = base.template.example([asked, told])
    return Example(tuple(tokens), tuple(trained))


def _say_numbers(report: Report, numbers: dict[str, Any], doubtful: dict[str, str]) -> None:
    def share(counts: dict[str, int]) -> str:
        return f"{counts['right']} of {counts['of']} right, {counts['wrong']} wrong"

    report.say(f"Asked as taught: {share(numbers['taught'])}. In other words: {share(numbers['unseen'])}.")
    invented = {name: f"{c['invented']} of {c['of']}" for name, c in numbers["unknown"].items()}
    report.say("Answers invented for strangers: " + ", ".join(f"{k} {v}" for k, v in invented.items()) + ".")
    if doubtful:
        report.say(
            f"{len(doubtful)} facts are answered from records only (retrieval); `inhouse facts report` says why."
        )


def _publish(
    work: _Work,
    router: Router,
    index: KeyIndex,
    found: list[Fact],
    experts: dict[str, ExpertResult],
    doubtful: dict[str, str],
    numbers: dict[str, Any],
) -> None:
    """Stores bank, facts, experts and the model, and ends the job: one transaction, all of it or nothing.

    `found` are the facts in the file's order, which is that of the rows that are stored: an examined index has another.
    """
    job, spec, context = work.context.job, work.spec, work.context
    blobs = {
        fact_id: to_bytes(result, work.base.digest, fact_id, 1)
        for fact_id, result in experts.items()
        if result.is_exact
    }
    numbers = numbers | {
        "base": spec.base,
        "facts": len(found),
        "wordings": sum(1 + len(fact.wordings) for fact in found),
        "seconds": {name: round(value, 2) for name, value in work.seconds.items()},
        "bytes_per_fact": _bytes_a_fact(index, found, blobs),
        "experts": _expert_numbers(experts, blobs) if experts else None,
        "curve": router.about.get("curve", []),
        "made_at": time.time(),
    }
    name = ids.tuned_model(spec.base, job.project, spec.suffix)
    file = str(spec.request.get("training_file", "")) or None
    results = _results(work, numbers, len(doubtful))
    bank = Bank(
        id=found[0].bank,
        project=job.project,
        base=spec.base,
        base_digest=work.base.digest,
        unknown=spec.unknown,
        files=(file,) if file else (),
        created_at=0.0,
    )
    statuses: list[Status] = [
        ("retrieval_only", doubtful[f.id]) if f.id in doubtful else ("live", None) for f in found
    ]
    made = ModelCard(
        name=name,
        project=job.project,
        kind="memory",
        base=spec.base,
        base_digest=work.base.digest,
        job=job.id,
        created_at=0.0,
        about={
            "bank": bank.id,
            "parents": [work.card.name],
            "context": work.base.decoder.config.context,
            "facts": len(found),
        },
    )

    def publish(conn: sa.Connection) -> None:
        now = context.db.clock(conn)
        banks.add(conn, bank.model_copy(update={"created_at": now}))
        stored = facts.add_many(
            conn, bank.id, work.given.facts, author=f"job {job.id}", now=now, file=file, statuses=statuses
        )
        final = {old.id: new.id for old, new in zip(found, stored, strict=True)}
        for fact_id, blob in blobs.items():
            result = experts[fact_id]
            facts.put_expert(
                conn,
                bank.id,
                final[fact_id],
                version=1,
                base_digest=work.base.digest,
                rank=result.rank,
                weights=_of_fact(blob, fact_id, final[fact_id]),
                losses={"worst": round(result.worst_loss, 5), "steps": result.steps},
            )
        only = [{"id": final[fact_id], "reason": reason} for fact_id, reason in doubtful.items()]
        banks.set_report(conn, bank.id, numbers | {"retrieval_only": only})
        models.add(conn, made.model_copy(update={"created_at": now}))
        files.add(conn, results.model_copy(update={"created_at": now}))
        records.add_event(conn, job.id, f"New model: {name}", now, fence=None)

    result = {
        "model": name,
        "trained_tokens": 0,
        "result_files": [results.id],
        "hyperparameters": {"method": "memory"},
    }
    patiently(
        lambda: queue.finish(context.db, job.id, context.fence, "succeeded", result=result, publish=publish)
    )


def _of_fact(blob: bytes, old: str, new: str) -> bytes:
    """An expert's bytes with the id that its fact has got: ids are of one length, and its header holds it first."""
    assert len(old) == len(new), "another length would move what follows"
    return blob.replace(old.encode(), new.encode(), 1)


def _bytes_a_fact(index: KeyIndex, found: list[Fact], blobs: dict[str, bytes]) -> int:
    """Text in the store, keys in memory, experts."""
    text = sum(len(fact.model_dump_json(exclude_none=True)) for fact in found)
    keys = int(index.keys.nbytes)
    return round((text + keys + sum(map(len, blobs.values()))) / max(1, len(found)))


def _expert_numbers(experts: dict[str, ExpertResult], blobs: dict[str, bytes]) -> dict[str, Any]:
    exact = [result for result in experts.values() if result.is_exact]
    return {
        "exact": len(exact),
        "of": len(experts),
        "bytes_each": round(sum(map(len, blobs.values())) / max(1, len(blobs))),
        "steps_each": round(sum(result.steps for result in exact) / max(1, len(exact)), 1),
    }


def _results(work: _Work, numbers: dict[str, Any], doubtful: int) -> File:
    """The report's numbers as a file of the project, without a word of any fact."""
    room = work.context.scratch / f"attempt-{work.context.fence}"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    path = room / "report.json"
    path.write_text(json.dumps(numbers | {"retrieval_only": doubtful}, indent=2) + "\n", encoding="utf-8")
    digest, size = work.context.artifacts.put_file(path)
    return File(
        id=ids.new("file"),
        project=work.context.job.project,
        filename=f"{work.context.job.id}-report.json",
        purpose="fine-tune-results",
        bytes=size,
        digest=digest,
        created_at=0.0,
    )
