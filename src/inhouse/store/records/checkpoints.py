"""Checkpoints of a job that may be asked as models: which step, how good, under which name.

Each has a row among the models under the same name, made and deleted with it. It knows no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from inhouse.schema import ModelCard
from inhouse.store import ids
from inhouse.store.records import models
from inhouse.store.records.page import page as _page
from inhouse.store.tables import checkpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A job's model as it was after a step."""

    id: str
    job: str
    project: str
    model: str
    """The name it is asked by."""
    step: int
    metrics: dict[str, Any]
    """What was measured at this step, in OpenAI's words."""
    created_at: float


_columns = [checkpoints.c[field.name] for field in fields(Checkpoint)]


def put(conn: sa.Connection, card: ModelCard, step: int, metrics: dict[str, Any]) -> None:
    """Make a checkpoint known, and the model it is. A step that is run again replaces what it gave before."""
    assert card.project is not None and card.job is not None, "a checkpoint is of a project's job"
    same = sa.and_(checkpoints.c.job == card.job, checkpoints.c.step == step)
    if conn.execute(sa.select(checkpoints.c.id).where(same)).first() is not None:
        models.delete(conn, card.project, card.name)
    models.add(conn, card)
    conn.execute(
        checkpoints.insert().values(
            id=ids.new("ftckpt"),
            job=card.job,
            project=card.project,
            model=card.name,
            step=step,
            metrics=metrics,
            created_at=card.created_at,
        )
    )


def page(
    conn: sa.Connection, project: str, job: str, *, after: str | None = None, limit: int = 10
) -> tuple[list[Checkpoint], bool]:
    """A piece of a job's checkpoints, newest first, and whether more follow."""
    within = sa.and_(checkpoints.c.project == project, checkpoints.c.job == job)
    query = sa.select(*_columns)
    rows, has_more = _page(conn, query, checkpoints, within, after=after, limit=limit, order="desc")
    return [Checkpoint(**row._mapping) for row in rows], has_more
