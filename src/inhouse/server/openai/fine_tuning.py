"""Tuning jobs: created from files, listed, followed by their events, paused, resumed, cancelled; their checkpoints.

It knows OpenAI's wire and the store's jobs; it hands the files to the validator and starts no training.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import Conflict, InvalidRequest, ModelNotFound, NotFound, UnsupportedParameter
from inhouse.schema import Event, File, Job, ModelCard, OnConflict, TuneSpec, UnknownPolicy
from inhouse.server import audit, bases, body, gateway
from inhouse.server.auth import Caller, caller
from inhouse.server.idempotency import create_once
from inhouse.server.openai.listing import list_wire, piece
from inhouse.server.openai.sampling import Metadata
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import checkpoints, files, jobs
from inhouse.store.records.checkpoints import Checkpoint

router = APIRouter()

Auto = Literal["auto"]
KNOBS = {
    "n_epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate_multiplier": "learning_rate_multiplier",
    "x_method": "method",
    "x_rank": "rank",
    "x_alpha": "alpha",
    "x_learning_rate": "learning_rate",
    "x_checkpoint_every": "checkpoint_every",
    "x_evaluate_every": "evaluate_every",
}
"""A hyperparameter's name on the wire, and in a TuneSpec."""
MEMORY_KNOBS = {"x_experts": "experts", "x_unknown": "unknown", "x_on_conflict": "on_conflict"}
"""The same of a memory."""
SUFFIX = re.compile(r"[A-Za-z0-9_.\-]*")
CHECKPOINTS_A_PAGE = 10
FILTER = re.compile(r"metadata\[(.{1,64})\]")
"""How a query names a word of a job's metadata."""


class Hyperparameters(body.RequestBody):
    """OpenAI's three, and this server's own under x_."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] | None = None
    x_method: Literal["auto", "lora", "full"] | None = None
    x_rank: Auto | Annotated[int, Field(ge=1, le=512)] | None = None
    x_alpha: Auto | Annotated[float, Field(gt=0)] | None = None
    x_learning_rate: Auto | Annotated[float, Field(gt=0, le=1)] | None = None
    x_checkpoint_every: Auto | Annotated[int, Field(ge=1)] | None = None
    x_evaluate_every: Auto | Annotated[int, Field(ge=1)] | None = None


class LegacyHyperparameters(body.RequestBody):
    """The older place for OpenAI's three."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] | None = None


class Supervised(body.RequestBody):
    hyperparameters: Hyperparameters | None = None


class MemoryHyperparameters(body.RequestBody):
    """What a memory may be told; all of it this server's own."""

    x_experts: bool | None = None
    x_unknown: UnknownPolicy | None = None
    x_on_conflict: OnConflict | None = None


class OfMemory(body.RequestBody):
    hyperparameters: MemoryHyperparameters | None = None


class Method(body.RequestBody):
    """How to teach. auto: a memory of short questions with short answers, else supervised training."""

    type: Literal["supervised", "memory", "auto"]
    supervised: Supervised | None = None
    memory: OfMemory | None = None
    auto: OfMemory | None = None
    """What to tell a memory, should it become one."""
    dpo: None = None
    reinforcement: None = None


class JobRequest(body.RequestBody):
    """The body of a new tuning job."""

    only_these: ClassVar[dict[str, str]] = {"integrations": "an empty list"}

    model: Annotated[str, Field(min_length=1, max_length=4096)]
    training_file: Annotated[str, Field(min_length=1, max_length=128)]
    validation_file: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    method: Method | None = None
    hyperparameters: LegacyHyperparameters | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[None], Field(max_length=0)] | None = None

    @property
    def method_type(self) -> str:
        return self.method.type if self.method else "supervised"

    @property
    def memory_knobs(self) -> dict[str, Any]:
        """What a memory is told. Raises InvalidRequest for what would be ignored."""
        chosen = self.method_type
        for block in ("supervised", "memory", "auto"):
            if block != chosen and self.method and getattr(self.method, block):
                raise InvalidRequest(
                    f"method.{block} is of no use to the type {chosen}. Leave it out.",
                    param=f"method.{block}",
                )
        if chosen != "supervised" and self.hyperparameters:
            raise InvalidRequest(
                f"hyperparameters are of no use to the type {chosen}. Leave them out, or use the type supervised.",
                param="hyperparameters",
            )
        if chosen == "memory" and self.validation_file:
            raise UnsupportedParameter(
                "A memory is measured on its own facts, so a validation_file would be ignored. Leave it out.",
                param="validation_file",
            )
        of = self.method and (self.method.memory or self.method.auto)
        given = of.hyperparameters.model_dump(exclude_none=True) if of and of.hyperparameters else {}
        return {MEMORY_KNOBS[key]: value for key, value in given.items()}

    @property
    def knobs(self) -> dict[str, Any]:
        """The hyperparameters that were given, wherever they were. Raises InvalidRequest when given twice."""
        modern = self.method and self.method.supervised and self.method.supervised.hyperparameters
        if modern and self.hyperparameters:
            raise InvalidRequest(
                "hyperparameters and method.supervised.hyperparameters mean the same. Send one.",
                param="hyperparameters",
            )
        given = modern or self.hyperparameters
        return given.model_dump(exclude_none=True) if given else {}

    def spec(self, base: str, training: File, validation: File | None) -> TuneSpec:
        """What the worker is to do."""
        suffix = self.suffix or ""
        if not SUFFIX.fullmatch(suffix):
            raise InvalidRequest("suffix may hold letters, digits, '_', '.' and '-'.", param="suffix")
        request: dict[str, Any] = {"training_file": training.id, "suffix": suffix, "metadata": self.metadata}
        if validation is not None:
            request["validation_file"] = validation.id
        return TuneSpec(
            base=base,
            training=training.digest,
            training_name=training.filename,
            validation=validation.digest if validation else None,
            **({"validation_name": validation.filename} if validation else {}),
            seed=self.seed or 0,
            suffix=suffix,
            request=request,
            picks_method=self.method_type == "auto",
            **self._method(),
        )

    def _method(self) -> dict[str, Any]:
        of_memory = self.memory_knobs
        if self.method_type == "memory":
            return {"method": "memory", **of_memory}
        return of_memory | {KNOBS[key]: value for key, value in self.knobs.items()}


@router.post("/v1/fine_tuning/jobs", openapi_extra=body.documented(JobRequest), response_model=None)
async def create(request: Request) -> Response:
    """Makes a job and checks its files; the job then waits for a worker."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, JobRequest, gw.settings.max_body_bytes)
    await _check_access(request, who, asked)

    def add(conn: Connection) -> dict[str, Any]:
        now = gw.db.clock(conn)
        base = _base(conn, who, asked.model, now)
        training = _file(conn, who.project, asked.training_file, "training_file")
        validation = asked.validation_file and _file(
            conn, who.project, asked.validation_file, "validation_file"
        )
        job = Job(
            id=ids.new("ftjob"),
            project=who.project,
            kind="tune",
            state="validating_files",
            spec=asked.spec(base.name, training, validation or None).model_dump(),
            created_at=now,
        )
        jobs.add(conn, job)
        jobs.add_event(conn, job.id, f"Created fine-tuning job: {job.id}", now, fence=None)
        asked_for = {"model": base.name, "training_file": training.id, "method": asked.method_type}
        audit.note(conn, who, "job.created", job.id, asked_for)
        return wire(job)

    reply = await create_once(request, asked.model_dump_json().encode(), add)
    gw.validator.look()
    return reply


@router.get("/v1/fine_tuning/jobs", response_model=None)
async def list_all(request: Request) -> Response:
    """The project's jobs, newest first; with metadata[key]=value those that were given these words, with
    metadata=null those that were given none."""
    words = {name: found[1] for name in request.query_params if (found := FILTER.fullmatch(name))}
    asked = body.query(request, ("after", "limit", "metadata", *words))
    part, project = piece(asked), caller(request).project
    wanted = {word: asked[name] for name, word in words.items()} or None
    for name in words:
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidRequest(f"The query holds {name!r} more than once. Send it once.", param=name)
    if "metadata" in asked:
        if asked["metadata"] != "null" or wanted:
            raise InvalidRequest("Write metadata[key]=value, or metadata=null for none.", param="metadata")
        wanted = {}

    def ask(conn: Connection) -> dict[str, Any]:
        found, has_more = jobs.page(
            conn, project, kind="tune", after=part.after, limit=part.limit, metadata=wanted
        )
        return list_wire([_told(conn, job) for job in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


@router.get("/v1/fine_tuning/jobs/{id}", response_model=None)
async def retrieve(request: Request, id: str) -> Response:
    """One job."""
    project = caller(request).project
    return Json(await gateway.of(request).store.read(lambda conn: _told(conn, _tune_job(conn, project, id))))


@router.post("/v1/fine_tuning/jobs/{id}/cancel", response_model=None)
async def cancel(request: Request, id: str) -> Response:
    """Ends a job that has not ended. Nothing more of it is published; checkpoints that were stay."""
    gw, who = gateway.of(request), caller(request)

    def change(conn: Connection) -> dict[str, Any]:
        _tune_job(conn, who.project, id)
        now = gw.db.clock(conn)
        job = jobs.cancel(conn, who.project, id, now)
        jobs.add_event(conn, id, "The job was cancelled.", now, fence=None)
        audit.note(conn, who, "job.cancelled", id)
        return wire(job)

    return Json(await gw.store.write(change))


@router.post("/v1/fine_tuning/jobs/{id}/pause", response_model=None)
async def pause(request: Request, id: str) -> Response:
    """Lets a job run no further for now: a running one stops after its step, with a checkpoint.

    A job that is paused stays so: a client may send this again that lost the reply.
    """
    gw, who = gateway.of(request), caller(request)

    def change(conn: Connection) -> dict[str, Any]:
        before = _tune_job(conn, who.project, id)
        if before.state == "running" and TuneSpec.model_validate(before.spec).method == "memory":
            raise Conflict(
                f"{id} makes a memory, which is done in one go: it has no checkpoint to go on from. Let it end, or "
                "cancel it."
            )
        now = gw.db.clock(conn)
        job = jobs.pause(conn, who.project, id, now)
        if before.paused_at is None:
            said = (
                "Pausing after the step that runs." if job.state == "running" else "Paused before it began."
            )
            jobs.add_event(conn, id, said, now, fence=None)
            audit.note(conn, who, "job.paused", id)
        return _told(conn, job)

    return Json(await gw.store.write(change))


@router.post("/v1/fine_tuning/jobs/{id}/resume", response_model=None)
async def resume(request: Request, id: str) -> Response:
    """Lets a paused job go on, from its last checkpoint. One that is not paused stays as it is."""
    gw, who = gateway.of(request), caller(request)

    def change(conn: Connection) -> dict[str, Any]:
        before = _tune_job(conn, who.project, id)
        job = jobs.resume(conn, who.project, id)
        if before.paused_at is not None:
            jobs.add_event(conn, id, "Resumed.", gw.db.clock(conn), fence=None)
            audit.note(conn, who, "job.resumed", id)
        return _told(conn, job)

    return Json(await gw.store.write(change))


@router.get("/v1/fine_tuning/jobs/{id}/checkpoints", response_model=None)
async def list_checkpoints(request: Request, id: str) -> Response:
    """A job's models on the way, newest first; each may be asked by its name."""
    part = piece(body.query(request, ("after", "limit")), default_limit=CHECKPOINTS_A_PAGE)
    project = caller(request).project

    def ask(conn: Connection) -> dict[str, Any]:
        _tune_job(conn, project, id)
        found, has_more = checkpoints.page(conn, project, id, after=part.after, limit=part.limit)
        return list_wire([checkpoint_wire(one) for one in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


@router.get("/v1/fine_tuning/jobs/{id}/events", response_model=None)
async def events(request: Request, id: str) -> Response:
    """A job's log, newest first."""
    part, project = piece(body.query(request, ("after", "limit"))), caller(request).project

    def ask(conn: Connection) -> dict[str, Any]:
        _tune_job(conn, project, id)
        found, has_more = jobs.events(conn, project, id, after=part.after, limit=part.limit)
        return list_wire([event_wire(event) for event in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


def _told(conn: Connection, job: Job) -> dict[str, Any]:
    """The same as `wire`, and of a running job when it is likely to end."""
    told = wire(job)
    newest = jobs.newest_metrics(conn, job.id) if job.state == "running" else None
    if newest is not None and "seconds_left" in newest.data and job.paused_at is None:
        told["estimated_finish"] = int(newest.created_at + newest.data["seconds_left"])
    return told


def wire(job: Job) -> dict[str, Any]:
    """A job as OpenAI's clients read it. What "auto" became is the worker's to report in the job's result."""
    spec = TuneSpec.model_validate(job.spec)
    chosen: dict[str, Any] = job.result.get("hyperparameters", {})
    knobs = {key: chosen.get(field, getattr(spec, field)) for key, field in KNOBS.items()}
    is_trained = spec.method != "memory" and not spec.picks_method
    finished = job.finished_at
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": None if finished is None else int(finished),
        "status": job.state,
        "error": job.error.model_dump() if job.error else None,
        "model": spec.base,
        "fine_tuned_model": job.result.get("model"),
        "organization_id": "inhouse",
        "training_file": spec.request.get("training_file", spec.training),
        "validation_file": spec.request.get("validation_file"),
        "result_files": job.result.get("result_files", []),
        "trained_tokens": job.result.get("trained_tokens"),
        "hyperparameters": {k: v for k, v in knobs.items() if is_trained and not k.startswith("x_")},
        "method": _method_wire(spec, knobs),
        "seed": spec.seed,
        "estimated_finish": None,
        "integrations": [],
        "metadata": spec.request.get("metadata"),
        "user_provided_suffix": spec.suffix or None,
        "x_state": _x_state(job),
    }


def _x_state(job: Job) -> str | None:
    """OpenAI's states have no word for a paused job, which is queued there as here."""
    if job.paused_at is not None:
        return "pausing" if job.state == "running" else "paused"
    return job.x_state


def _method_wire(spec: TuneSpec, knobs: dict[str, Any]) -> dict[str, Any]:
    """The method as it was chosen; auto only until the rows are checked."""
    of_memory = {key: getattr(spec, field) for key, field in MEMORY_KNOBS.items()}
    if spec.method == "memory":
        return {"type": "memory", "memory": {"hyperparameters": of_memory}}
    if spec.picks_method:
        return {"type": "auto", "auto": {"hyperparameters": of_memory}}
    return {"type": "supervised", "supervised": {"hyperparameters": knobs}}


def event_wire(event: Event) -> dict[str, Any]:
    """A line of a job's log as OpenAI's clients read it."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data,
    }


def checkpoint_wire(found: Checkpoint) -> dict[str, Any]:
    """A model on the way as OpenAI's clients read it."""
    return {
        "id": found.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(found.created_at),
        "fine_tuned_model_checkpoint": found.model,
        "fine_tuning_job_id": found.job,
        "metrics": found.metrics,
        "step_number": found.step,
    }


def _base(conn: Connection, who: Caller, name: str, now: float) -> ModelCard:
    """The model to start from: a base or a fully tuned model; for an admin, a folder or hub id as well."""
    try:
        card = bases.find(conn, who.project, name)
    except ModelNotFound:
        if not who.is_admin:
            raise
        return bases.register(conn, name, now)
    if card.kind in ("adapter", "memory"):
        what = "an adapter" if card.kind == "adapter" else "a memory"
        raise InvalidRequest(
            f"{name} is {what}; a job starts from a base or a fully tuned model. Use {card.base}.",
            param="model",
        )
    return card


def _file(conn: Connection, project: str, id: str, param: str) -> File:
    try:
        file = files.get(conn, project, id)
    except NotFound:
        raise NotFound(f"There is no file {id!r}. Upload it first.", param=param) from None
    if file.purpose != "fine-tune":
        raise InvalidRequest(
            f"{id} was uploaded for {file.purpose}. Upload it with the purpose fine-tune.", param=param
        )
    return file


async def _check_access(request: Request, who: Caller, asked: JobRequest) -> None:
    """A memory keeps its rows' access lists; weights cannot, so only admins train on such rows."""
    if asked.method_type == "memory":
        return
    gw = gateway.of(request)
    for param in ("training_file", "validation_file"):
        id = getattr(asked, param)
        if id is not None:
            file = await gw.store.read(partial(_file, project=who.project, id=id, param=param))
            cure = 'Make a memory of it (method {"type": "memory"}), which keeps them apart; or ask an admin.'
            await gw.restricted.require(who, file, cure, param)


def _tune_job(conn: Connection, project: str, id: str) -> Job:
    job = jobs.get(conn, project, id)
    if job.kind != "tune":
        raise NotFound(f"There is no job {id!r}. `inhouse jobs` lists yours.", param="id")
    return job
