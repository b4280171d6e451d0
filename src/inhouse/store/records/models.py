"""Models that can be asked: bases, which every project may use, and each project's own tuned ones."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from inhouse.errors import ModelNotFound
from inhouse.schema import ModelCard
from inhouse.store import ids
from inhouse.store.db import upsert
from inhouse.store.tables import NO_PROJECT, checkpoints, models

_columns = [models.c[name] for name in ModelCard.model_fields]


def add(conn: sa.Connection, card: ModelCard) -> None:
    """Store a model. A name that the project already uses is a Conflict."""
    conn.execute(models.insert().values(**_values(card)))


def put_base(conn: sa.Connection, card: ModelCard) -> None:
    """Store a base, or replace what is known of it."""
    assert card.project is None and card.kind == "base", "a base belongs to every project"
    values = _values(card)
    changes = {name: value for name, value in values.items() if name not in ("project", "name", "created_at")}
    conn.execute(
        upsert(conn, models)
        .values(**values)
        .on_conflict_do_update(index_elements=["project", "name"], set_=changes)
    )


def note(conn: sa.Connection, base: str, facts: Mapping[str, Any]) -> None:
    """Add to what is known about a base; what was noted before stays as it was."""
    is_it = sa.and_(models.c.project == NO_PROJECT, models.c.name == base)
    about = conn.scalar(sa.select(models.c.about).where(is_it))
    if about is not None:
        conn.execute(models.update().where(is_it).values(about={**facts, **about}))


def get(conn: sa.Connection, project: str, name: str) -> ModelCard:
    """The project's model by this name, or the base by it."""
    query = sa.select(*_columns).where(_visible(project), models.c.name == name)
    row = conn.execute(query.order_by(models.c.project.desc()).limit(1)).first()
    if row is None:
        raise _missing(name)
    return _card(row)


def all(conn: sa.Connection, project: str) -> builtins.list[ModelCard]:
    """Every model that the project may ask, oldest first."""
    query = sa.select(*_columns).where(_visible(project)).order_by(models.c.seq)
    return [_card(row) for row in conn.execute(query)]


def versions(conn: sa.Connection, project: str, name: str) -> builtins.list[ModelCard]:
    """The project's adapters that go by this name and one part more, the newest first. Those that were tuned without
    a suffix are no versions of each other, and checkpoints none of their model."""
    if name.endswith(":"):
        return []
    begins = models.c.name.startswith(f"{name}:", autoescape=True)
    query = sa.select(*_columns).where(models.c.project == project, models.c.kind == "adapter", begins)
    cards = [_card(row) for row in conn.execute(query.order_by(models.c.seq.desc()))]
    return [c for c in cards if c.name.rpartition(":")[0] == name and not ids.is_checkpoint(c.name)]


def delete(conn: sa.Connection, project: str, name: str) -> None:
    """Forget the project's own model, or checkpoint of one. Bases cannot be deleted this way."""
    conn.execute(checkpoints.delete().where(checkpoints.c.project == project, checkpoints.c.model == name))
    if conn.execute(models.delete().where(models.c.project == project, models.c.name == name)).rowcount == 0:
        raise _missing(name)


def by_adapter(conn: sa.Connection, digest: str) -> builtins.list[ModelCard]:
    """Every model of any project that runs on this artifact. For the house's own use, never a tenant's."""
    query = sa.select(*_columns).where(models.c.digest == digest).order_by(models.c.seq)
    return [_card(row) for row in conn.execute(query)]


def servable(conn: sa.Connection, name: str) -> ModelCard:
    """The base or fully tuned model, of whichever project, that an engine is to hold.

    For the house's own use, never a tenant's: a tuned model's name says its project and is given once.
    """
    holds = sa.and_(models.c.name == name, models.c.kind.in_(("base", "full")))
    row = conn.execute(sa.select(*_columns).where(holds).order_by(models.c.project).limit(1)).first()
    if row is None:
        raise _missing(name)
    return _card(row)


def _visible(project: str) -> sa.ColumnElement[bool]:
    return models.c.project.in_((project, NO_PROJECT))


def _values(card: ModelCard) -> dict[str, Any]:
    return {**card.model_dump(), "project": card.project or NO_PROJECT}


def _card(row: sa.Row[Any]) -> ModelCard:
    values = dict(row._mapping)
    return ModelCard(**{**values, "project": values["project"] or None})


def _missing(name: str) -> ModelNotFound:
    return ModelNotFound(
        f"There is no model {name!r}. `inhouse models` and GET /v1/models list those you can use.",
        param="model",
    )
