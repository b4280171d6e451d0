"""Jobs and what they make: specs, events, files, models, replicas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from inhouse.schema.facts import OnConflict, UnknownPolicy
from inhouse.schema.wire import Wire

TERMINAL_STATES = ("succeeded", "failed", "cancelled")
FILE_PURPOSES = ("fine-tune", "fine-tune-results", "batch", "batch_output", "user_data", "evals")
Auto = Literal["auto"]
JobState = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
JobKind = Literal["tune", "serve"]


class TuneSpec(Wire):
    """What a tuning job does. "auto" is resolved by the worker, which reports what it chose and why."""

    base: str
    """The base's registered name."""
    training: str
    """Artifact digest of the training rows (JSONL)."""
    training_name: str = "training file"
    """What to call the file in errors."""
    validation: str | None = None
    validation_name: str = "validation file"
    method: Literal["lora", "full", "memory"] | Auto = "auto"
    picks_method: bool = False
    """Whether "auto" may become memory: settled when the rows are checked."""
    experts: bool = False
    """Memory: also train an expert for each fact."""
    unknown: UnknownPolicy = "refuse"
    """Memory: what a question of the bank's kind gets that has no fact."""
    on_conflict: OnConflict | None = None
    """Memory: what two rows with one question and different answers mean; None: they are an error."""
    epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    """Examples a step."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = "auto"
    """OpenAI's knob: times the rate that "auto" would choose."""
    rank: Annotated[int, Field(ge=1, le=512)] | Auto = "auto"
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    suffix: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.\-]*$")] = ""
    checkpoint_every: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Steps between checkpoints."""
    evaluate_every: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Steps between looks at the validation rows."""
    request: dict[str, Any] = Field(default_factory=dict)
    """What the caller asked, in the API's words (file ids, metadata): shown back, never acted on."""


class ServeSpec(Wire):
    """What a serving job does: hold one base resident and answer requests for it and its adapters."""

    base: str


class JobFault(Wire):
    """Why a job failed, as OpenAI's `error` object of a job."""

    code: str
    message: str
    param: str | None = None


class Job(Wire):
    """A job as the store knows it. Times are Unix seconds (UTC)."""

    id: str
    project: str
    kind: JobKind
    state: JobState
    spec: dict[str, Any]
    fence: int = 0
    attempts: int = 0
    worker: str | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    result: dict[str, Any] = Field(default_factory=dict)
    error: JobFault | None = None
    x_state: str | None = None
    """A finer word than `state`: loading, ready, paused: disk_full, ..."""
    paused_at: float | None = None
    """Since when it is not to run: asked for by its owner, until resumed."""


class Event(Wire):
    """One line of a job's log. `type` metrics carries numbers in `data`, as OpenAI's job events do."""

    id: str
    job: str
    created_at: float
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics"] = "message"
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class File(Wire):
    """An uploaded file: its content lives among the artifacts, under `digest`."""

    id: str
    project: str
    filename: str
    purpose: str
    bytes: int
    digest: str
    created_at: float
    expires_at: float | None = None
    """When it is forgotten by itself; None: never."""


class ModelCard(Wire):
    """A model that can be asked: a base, a base with an adapter, or a fully tuned base."""

    name: str
    project: str | None
    """None: every project may use it (bases)."""
    kind: Literal["base", "adapter", "full", "memory"]
    base: str
    """The name of the base it runs on; its own name for a base."""
    source: str | None = None
    """Where a base's weights are: "embedded", a folder, or a hub id."""
    digest: str | None = None
    """The artifact of an adapter or of a fully tuned base."""
    base_digest: str | None = None
    """Digest of the base an adapter was trained on; another base is refused."""
    job: str | None = None
    created_at: float
    about: dict[str, Any] = Field(default_factory=dict)
    """What is worth knowing: context length, parents, hyperparameters; the bank behind a memory model."""


class Replica(Wire):
    """A running engine: which base it holds and where it listens."""

    job: str
    fence: int
    base: str
    address: str
    """`unix:/path/to/socket`"""
    fingerprint: str
    """What its replies carry: another one's may differ where this does."""
    context: int
    ready: bool
