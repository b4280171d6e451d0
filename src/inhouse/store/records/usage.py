"""Tokens used, a row a request. Written in bundles, each row once however often its bundle is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import sqlalchemy as sa

from inhouse.store import ids
from inhouse.store.db import floor, upsert
from inhouse.store.tables import keys, usage

Kind = Literal["completions", "embeddings"]
By = Literal["project", "key", "model"]


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
    kind: Kind = "completions"
    cached_tokens: int = 0
    """Of the prompt's tokens: those that were read before and kept."""
    id: str = field(default_factory=partial(ids.new, "usage"))


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What a project used."""

    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """What was used in one stretch of time by one of what was asked for; None: all of them together."""

    start: float
    """Unix seconds, a multiple of the stretch's length."""
    project: str | None
    key: str | None
    model: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose usage is asked for; what is empty leaves all of it in."""

    projects: Sequence[str] = ()
    keys: Sequence[str] = ()
    models: Sequence[str] = ()
    kind: Kind | None = None


def add_many(conn: sa.Connection, rows: Sequence[UsageRow]) -> None:
    """Store a bundle of rows. One that is there already, because the bundle is tried again, is not counted twice."""
    if rows:
        once = upsert(conn, usage).on_conflict_do_nothing(index_elements=["id"])
        conn.execute(once, [asdict(row) for row in rows])


def total(conn: sa.Connection, project: str, since: float, *, key: str | None = None) -> UsageTotal:
    """What the project, or one of its keys, used from `since` (Unix seconds) on."""
    within = [usage.c.project == project, usage.c.at >= since]
    if key is not None:
        within.append(usage.c.key == key)
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(usage.c.prompt_tokens), 0),
        sa.func.coalesce(sa.func.sum(usage.c.completion_tokens), 0),
    ).where(*within)
    requests, prompt_tokens, completion_tokens = conn.execute(query).one()
    return UsageTotal(int(requests), int(prompt_tokens), int(completion_tokens))


def grouped(
    conn: sa.Connection, wanted: Wanted, *, since: float, until: float, width_s: int, by: Sequence[By] = ()
) -> list[UsageGroup]:
    """What was used from `since` up to `until`, summed in stretches of `width_s`, oldest first."""
    columns = {"project": usage.c.project, "key": usage.c.key, "model": usage.c.model}
    bucket = floor(conn, usage.c.at / float(width_s)).label("bucket")
    groups = [columns[name].label(name) for name in by]
    within = [usage.c.at >= since, usage.c.at < until]
    among = {"project": wanted.projects, "key": wanted.keys, "model": wanted.models}
    within += [columns[name].in_(values) for name, values in among.items() if values]
    if wanted.kind is not None:
        within.append(usage.c.kind == wanted.kind)
    sums = [
        sa.func.count().label("requests"),
        *(
            sa.func.sum(usage.c[name]).label(name)
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
        ),
    ]
    query = sa.select(bucket, *groups, *sums).where(*within)
    query = query.group_by(bucket, *groups).order_by(bucket, *groups)
    return [_group(row, width_s) for row in conn.execute(query)]


def key_names(conn: sa.Connection) -> dict[str, str]:
    """Every key's id and name, for people who read usage."""
    return {row.id: row.name for row in conn.execute(sa.select(keys.c.id, keys.c.name))}


def _group(row: sa.Row[Any], width_s: int) -> UsageGroup:
    said = row._mapping
    return UsageGroup(
        start=float(int(said["bucket"]) * width_s),
        project=said.get("project"),
        key=said.get("key"),
        model=said.get("model"),
        **{
            name: int(said[name])
            for name in ("requests", "prompt_tokens", "completion_tokens", "cached_tokens")
        },
    )
