"""Tokens used, a row a request. Written in bundles; a lost bundle loses numbers, never work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from inhouse.store.tables import usage


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one request used."""

    project: str
    key: str
    model: str
    request_id: str
    prompt_tokens: int
    completion_tokens: int
    at: float


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What a project used."""

    requests: int
    prompt_tokens: int
    completion_tokens: int


def add_many(conn: sa.Connection, rows: Sequence[UsageRow]) -> None:
    """Store a bundle of rows."""
    if rows:
        conn.execute(usage.insert(), [asdict(row) for row in rows])


def total(conn: sa.Connection, project: str, since: float) -> UsageTotal:
    """What the project used from `since` (Unix seconds) on."""
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(usage.c.prompt_tokens), 0),
        sa.func.coalesce(sa.func.sum(usage.c.completion_tokens), 0),
    ).where(usage.c.project == project, usage.c.at >= since)
    requests, prompt_tokens, completion_tokens = conn.execute(query).one()
    return UsageTotal(int(requests), int(prompt_tokens), int(completion_tokens))
