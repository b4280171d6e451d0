"""The tables as SQLAlchemy sees them today.

It makes none of them: `migrations` does, and a test compares the two. Times are Unix seconds. `seq` is the
order of arrival, which lists and the queue go by, because clocks may jump and ids are random.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

NO_PROJECT = ""
"""In a `project` column: nobody's, such as a base that every project may use."""


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _text(name: str, *, unique: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, unique=unique, primary_key=primary_key)


def _maybe_text(name: str) -> sa.Column[str | None]:
    return sa.Column(name, sa.Text)


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _maybe_time(name: str) -> sa.Column[float | None]:
    return sa.Column(name, sa.Double)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=False)


schema_revision = sa.Table(
    "alembic_version", metadata, sa.Column("version_num", sa.String(32), primary_key=True)
)
"""Alembic's own: which revision of `migrations` the tables are of."""

projects = sa.Table(
    "projects",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("name", unique=True),
    _time("created_at"),
    _maybe_time("archived_at"),
    _json("limits"),
)

service_accounts = sa.Table(
    "service_accounts",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("name"),
    _text("role"),
    _time("created_at"),
    _maybe_time("deleted_at"),
    sa.Index("service_accounts_by_project", "project", "seq"),
)

keys = sa.Table(
    "keys",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("name"),
    _text("secret_hash", unique=True),
    _text("role"),
    _time("created_at"),
    _maybe_time("expires_at"),
    _maybe_time("revoked_at"),
    _json("groups"),
    _text("account"),
    _json("scopes"),
    _text("shown"),
    _maybe_time("last_used_at"),
    _json("limits"),
    sa.Index("keys_by_project", "project", "seq"),
    sa.Index("keys_by_account", "account"),
)

files = sa.Table(
    "files",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("filename"),
    _text("purpose"),
    _count("bytes"),
    _text("digest"),
    _time("created_at"),
    _maybe_time("expires_at"),
    sa.Index("files_by_project", "project", "seq"),
    sa.Index("files_by_digest", "digest"),
    sa.Index("files_by_expiry", "expires_at"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("kind"),
    _text("state"),
    _json("spec"),
    _count("fence"),
    _count("attempts"),
    _maybe_text("worker"),
    _maybe_time("lease_until"),
    sa.Column("checkpoint_step", sa.BigInteger, nullable=False),
    _time("created_at"),
    _maybe_time("started_at"),
    _maybe_time("finished_at"),
    _json("result"),
    sa.Column("error", sa.JSON(none_as_null=True)),
    _maybe_text("x_state"),
    _maybe_time("paused_at"),
    sa.Index("jobs_by_state", "state", "kind", "seq"),
    sa.Index("jobs_by_project", "project", "kind", "seq"),
)

events = sa.Table(
    "events",
    metadata,
    _seq(),
    _text("id", unique=True),
    sa.Column("job", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    _time("created_at"),
    _text("level"),
    _text("type"),
    _text("message"),
    _json("data"),
    sa.Index("events_by_job", "job", "seq"),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    _seq(),
    _text("id", unique=True),
    sa.Column("job", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    _text("project"),
    _text("model"),
    _count("step"),
    _json("metrics"),
    _time("created_at"),
    sa.Index("checkpoints_by_step", "job", "step", unique=True),
    sa.Index("checkpoints_by_model", "project", "model"),
)
"""States of a model on the way that may be asked; each has a row in `models` under the same name."""

models = sa.Table(
    "models",
    metadata,
    _seq(),
    _text("project"),
    _text("name"),
    _text("kind"),
    _text("base"),
    _maybe_text("source"),
    _maybe_text("digest"),
    _maybe_text("base_digest"),
    _maybe_text("job"),
    _time("created_at"),
    _json("about"),
    sa.Index("models_by_name", "project", "name", unique=True),
    sa.Index("models_by_digest", "digest"),
)

pins = sa.Table(
    "pins",
    metadata,
    _seq(),
    _text("project"),
    _text("name"),
    _time("created_at"),
    sa.Index("pins_by_name", "project", "name", unique=True),
)

batches = sa.Table(
    "batches",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("key"),
    _text("endpoint"),
    _text("input_file"),
    _text("digest"),
    _json("metadata"),
    _text("status"),
    _count("fence"),
    _maybe_time("lease_until"),
    _count("total"),
    _count("completed"),
    _count("failed"),
    _json("errors"),
    _maybe_text("output_file"),
    _maybe_text("error_file"),
    _time("created_at"),
    _time("expires_at"),
    _maybe_time("in_progress_at"),
    _maybe_time("finalizing_at"),
    _maybe_time("completed_at"),
    _maybe_time("failed_at"),
    _maybe_time("expired_at"),
    _maybe_time("cancelling_at"),
    _maybe_time("cancelled_at"),
    sa.Index("batches_by_project", "project", "seq"),
    sa.Index("batches_by_status", "status", "seq"),
)

batch_results = sa.Table(
    "batch_results",
    metadata,
    sa.Column("batch", sa.Text, sa.ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("is_error", sa.Boolean, nullable=False),
    sa.Column("text", sa.LargeBinary, nullable=False),
)
"""What a batch's lines were answered, as it will stand in a file, from when it is known until the file is there."""

replicas = sa.Table(
    "replicas",
    metadata,
    sa.Column("job", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    _count("fence"),
    _text("base"),
    _text("address"),
    _text("fingerprint"),
    _count("context"),
    sa.Column("ready", sa.Boolean, nullable=False),
    _time("updated_at"),
)

workers = sa.Table(
    "workers",
    metadata,
    _text("id", primary_key=True),
    _time("started_at"),
    _time("seen_at"),
    _count("leases_lost"),
    _count("processes_died"),
    _text("fenced"),
)

usage = sa.Table(
    "usage",
    metadata,
    _seq(),
    _text("project"),
    _text("key"),
    _text("model"),
    _text("request_id"),
    _count("prompt_tokens"),
    _count("completion_tokens"),
    _time("at"),
    _maybe_text("id"),
    _text("kind"),
    _count("cached_tokens"),
    sa.Index("usage_by_project", "project", "at"),
    sa.Index("usage_by_time", "at"),
    sa.Index("usage_by_id", "id", unique=True),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("id", unique=True),
    _time("at"),
    _text("actor"),
    _text("project"),
    _text("type"),
    _text("target"),
    _text("details"),
    _text("previous"),
    _text("hash"),
    sa.Index("audit_by_project", "project", "seq"),
)
"""Administrative acts, numbered without a gap, each with the hash of the one before it. Triggers refuse changes."""

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("one", sa.BigInteger, primary_key=True, autoincrement=False),
    _count("seq"),
    _text("hash"),
)
"""One row: which act is the newest. Without it nobody would miss a tail that was cut off."""

idempotency = sa.Table(
    "idempotency",
    metadata,
    _text("project", primary_key=True),
    _text("key", primary_key=True),
    _text("body_hash"),
    _time("created_at"),
    sa.Column("status", sa.BigInteger),
    sa.Column("body", sa.LargeBinary),
    _maybe_text("holder"),
    _maybe_time("lease_until"),
    sa.Index("idempotency_by_age", "created_at"),
)

responses = sa.Table(
    "responses",
    metadata,
    _seq(),
    _text("id", unique=True),
    sa.Column("project", sa.Text, sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    _maybe_text("previous"),
    _maybe_text("bank"),
    _json("access"),
    _json("items"),
    _json("reply"),
    _text("said"),
    _time("created_at"),
    sa.Index("responses_by_project", "project", "seq"),
    sa.Index("responses_by_previous", "previous"),
)

response_items = sa.Table(
    "response_items",
    metadata,
    _text("item", primary_key=True),
    sa.Column("response", sa.Text, sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("is_output", sa.Boolean, nullable=False),
    sa.Index("response_items_by_response", "response"),
)
"""Which items a response was asked and answered: an answer that another one is asked again has the same id there."""

banks = sa.Table(
    "banks",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("base"),
    _text("base_digest"),
    _count("revision"),
    _text("unknown"),
    _json("report"),
    _json("files"),
    _time("created_at"),
    sa.Index("banks_by_project", "project", "seq"),
)

facts = sa.Table(
    "facts",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("bank"),
    _count("revision"),
    _count("version"),
    _text("question"),
    _json("wordings"),
    _maybe_text("subject"),
    _json("aliases"),
    _text("answer"),
    _maybe_text("kind"),
    _maybe_text("source"),
    _maybe_text("span"),
    _json("access"),
    _maybe_time("valid_from"),
    _maybe_time("valid_until"),
    _text("status"),
    _maybe_text("reason"),
    _maybe_text("file"),
    _text("author"),
    _time("created_at"),
    _time("updated_at"),
    sa.Index("facts_by_bank", "bank", "seq"),
    sa.Index("facts_by_revision", "bank", "revision"),
)

fact_questions = sa.Table(
    "fact_questions",
    metadata,
    sa.Column("fact", sa.Text, sa.ForeignKey("facts.id", ondelete="CASCADE"), primary_key=True),
    _text("hash", primary_key=True),
    _text("bank"),
    sa.Column("is_wording", sa.Boolean, nullable=False),
    sa.Index("fact_questions_by_hash", "bank", "hash"),
)
"""What a fact is asked by, normalised and hashed: a text is too long for an index, and a conflict must be quick."""

fact_changes = sa.Table(
    "fact_changes",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("bank"),
    _text("fact"),
    _count("version"),
    _count("revision"),
    _text("action"),
    _text("author"),
    _time("at"),
    _json("access"),
    sa.Column("fact_then", sa.JSON(none_as_null=True)),
    sa.Index("fact_changes_by_bank", "bank", "seq"),
    sa.Index("fact_changes_by_fact", "fact", "seq"),
)

fact_experts = sa.Table(
    "fact_experts",
    metadata,
    sa.Column("fact", sa.Text, sa.ForeignKey("facts.id", ondelete="CASCADE"), primary_key=True),
    _text("bank"),
    _count("version"),
    _text("base_digest"),
    _count("rank"),
    sa.Column("weights", sa.LargeBinary, nullable=False),
    _json("losses"),
    sa.Index("fact_experts_by_bank", "bank"),
)

clearings = sa.Table("clearings", metadata, _text("what", primary_key=True))
"""What a forgetting has still to clear after its transaction: artifacts by digest, and the database's own files."""

webhooks = sa.Table(
    "webhooks",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("project"),
    _text("name"),
    _text("url"),
    _json("events"),
    _text("secret"),
    _maybe_text("old_secret"),
    _maybe_time("old_until"),
    _time("created_at"),
    _time("updated_at"),
    sa.Index("webhooks_by_project", "project", "seq"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    _seq(),
    _text("id", unique=True),
    sa.Column("webhook", sa.Text, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    _text("type"),
    _text("payload"),
    _time("created_at"),
    _maybe_time("due_at"),
    _count("tries"),
    _count("fence"),
    _maybe_time("lease_until"),
    _maybe_time("delivered_at"),
    _text("said"),
    sa.Index("deliveries_by_time", "due_at"),
    sa.Index("deliveries_by_webhook", "webhook", "seq"),
)
"""The outbox: what is to be sent, written in the transaction of what it tells. `due_at` is empty once it is over."""
