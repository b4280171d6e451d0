"""What replies look like, for the API's description of itself. Handlers write them by hand; tests hold them to this.

Keys may be added by a release without notice, so no shape is closed. Times are Unix seconds.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from inhouse.schema import Check, Fact, FactChange

Json = dict[str, Any]


class Fault(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    """Every error: what, where, and what to do about it."""

    error: Fault


class Deleted(TypedDict):
    id: str
    object: str
    deleted: Literal[True]


class List(TypedDict):
    """A piece of a list; `after` with its last id gives the next."""

    object: Literal["list"]
    data: list[Json]
    has_more: bool
    first_id: str | None
    last_id: str | None


def list_of(name: str, item: Any) -> Any:
    """A list of these."""
    make: Any = TypedDict
    return make(name, {**List.__annotations__, "data": list[item]})


# ── open to everyone ──────────────────────────────────────────────────────────────────────────────────────


class Health(TypedDict):
    status: Literal["ok"]


class ReadyCheck(TypedDict):
    """`why` and `cure` are for admins."""

    name: str
    ok: bool
    why: NotRequired[str]
    cure: NotRequired[str]


class Ready(TypedDict):
    status: Literal["ready", "degraded", "not_ready", "draining"]
    replicas: dict[str, int] | None
    checks: list[ReadyCheck]


class Version(TypedDict):
    version: str


# ── models and answers ────────────────────────────────────────────────────────────────────────────────────


class Model(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    x_kind: Literal["base", "adapter", "full", "memory"]
    x_base: str
    x_default: bool
    x_digest: str | None
    x_pinned: list[str]
    x_about: Json
    x_source: NotRequired[str | None]


class ModelWithState(Model):
    x_state: Literal["ready", "loading", "resting"]
    x_places: Json


class Usage(TypedDict):
    prompt_tokens: int
    completion_tokens: NotRequired[int]
    total_tokens: int


class ChatChoice(TypedDict):
    index: int
    message: Json
    logprobs: Json | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatCompletion(TypedDict):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatChunk(TypedDict):
    """One event of a stream, which ends with [DONE] or with an error."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[Json]
    usage: NotRequired[Usage | None]


class CompletionChoice(TypedDict):
    text: str
    index: int
    logprobs: Json | None
    finish_reason: Literal["stop", "length"] | None


class Completion(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


class Embedding(TypedDict):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class RowEvent(TypedDict):
    """One row's end: its reply, or why it was refused."""

    row: int
    reply: NotRequired[ChatCompletion]
    refused: NotRequired[Fault]
    status: NotRequired[int]
    retry_after_s: NotRequired[float | None]


class Response(TypedDict):
    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    error: Json | None
    model: str
    output: list[Json]
    store: bool
    usage: NotRequired[Json | None]


class ResponseEvent(TypedDict):
    type: str
    sequence_number: int


# ── files, jobs, batches ──────────────────────────────────────────────────────────────────────────────────


class File(TypedDict):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    expires_at: NotRequired[int]


class Job(TypedDict):
    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    status: str
    error: Json | None
    model: str
    fine_tuned_model: str | None
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: Json
    method: Json
    seed: int
    metadata: dict[str, str] | None
    x_state: str | None


class JobEvent(TypedDict):
    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    type: Literal["message", "metrics"]
    message: str
    data: Json


class Checkpoint(TypedDict):
    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: Json
    step_number: int


class Batch(TypedDict):
    id: str
    object: Literal["batch"]
    endpoint: str
    input_file_id: str
    completion_window: Literal["24h"]
    status: str
    created_at: int
    request_counts: dict[str, int]
    output_file_id: NotRequired[str]
    error_file_id: NotRequired[str]
    errors: NotRequired[Json]


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────


class FactWire(Fact):
    object: Literal["fact"]
    x_outcome: str | None = None


class FactChangeWire(FactChange):
    object: Literal["fact.change"]


class FactReport(TypedDict):
    object: Literal["facts.report"]
    model: str
    x_revision: int


class Explanation(TypedDict):
    object: Literal["fact.explanation"]
    model: str


# ── webhooks ──────────────────────────────────────────────────────────────────────────────────────────────


class Webhook(TypedDict):
    """`signing_secret` is told once, in the reply that makes it."""

    id: str
    object: Literal["webhook_endpoint"]
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    created_at: int
    updated_at: int
    signing_secret: NotRequired[str]
    x_project: NotRequired[str]


class EventTypes(TypedDict):
    object: Literal["list"]
    data: list[str]


class WebhookTest(TypedDict):
    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: bool


class Delivery(TypedDict):
    id: str
    object: Literal["x.webhook.delivery"]
    webhook: str
    type: str
    state: Literal["delivered", "waiting", "given_up"]
    tries: int
    last_answer: str | None
    created_at: float
    due_at: float | None
    delivered_at: float | None


# ── this server's own ─────────────────────────────────────────────────────────────────────────────────────


class Key(TypedDict):
    id: str
    object: Literal["x.key"]
    name: str
    role: Literal["admin", "member"]
    project: str
    created_at: int
    expires_at: float | None
    revoked_at: float | None
    groups: list[str]
    account: str
    scopes: list[str]
    shown: str
    last_used_at: float | None
    limits: Json
    key: NotRequired[str]
    """The secret, in the reply that makes it and nowhere else."""


class Verification(TypedDict):
    object: Literal["x.verification"]
    model: str
    x_adapter: str
    passed: bool
    checks: list[Check]


class Pin(TypedDict):
    id: str
    object: Literal["x.pin"]
    project: str
    model: str
    base: str
    rows: int | None
    rows_pinned: NotRequired[int]
    rows_most: NotRequired[int]


class AuditVerification(TypedDict):
    object: Literal["x.audit.verification"]
    intact: bool
    acts: int
    head: str
    breaks: list[Json]


# ── the organization ──────────────────────────────────────────────────────────────────────────────────────


class Project(TypedDict):
    id: str
    object: Literal["organization.project"]
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]
    x_limits: Json


class Account(TypedDict):
    id: str
    object: Literal["organization.project.service_account"]
    name: str
    role: Literal["owner", "member"]
    created_at: int
    api_key: NotRequired[Json | None]


class AccountKey(TypedDict):
    """A new key; `value` is its secret, told once."""

    id: str
    object: Literal["organization.project.service_account.api_key"]
    name: str
    value: str
    created_at: int
    x_scopes: list[str]
    x_expires_at: float | None


class ProjectKey(TypedDict):
    id: str
    object: Literal["organization.project.api_key"]
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    owner: Json
    owner_project_access: Literal["active", "inactive"]
    x_scopes: list[str]


class RateLimit(TypedDict):
    id: str
    object: Literal["project.rate_limit"]
    model: Literal["*"]
    max_requests_per_1_minute: int
    max_tokens_per_1_minute: int
    x_max_concurrent_requests: int
    x_max_tokens_per_1_month: int | None
    x_of: Literal["project", "key"]


class UsagePage(TypedDict):
    object: Literal["page"]
    data: list[Json]
    has_more: bool
    next_page: str | None


class AuditLog(TypedDict):
    id: str
    object: Literal["organization.audit_log"]
    type: str
    effective_at: int
    actor: Json | None
    x_seq: int
    x_actor: str
    x_target: str
    x_details: Json
    x_previous: str
    x_hash: str
