"""Projects: the walls between tenants. Every other record belongs to one."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.store import ids
from inhouse.store.db import upsert
from inhouse.store.tables import projects

DEFAULT = "default"
"""Name and id of the project that everything belongs to where nobody made others."""


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """One project."""

    id: str
    name: str
    created_at: float


def ensure(conn: sa.Connection, name: str, now: float) -> str:
    """The id of the project by this name, made now if there is none."""
    project_id = DEFAULT if name == DEFAULT else ids.new("proj")
    conn.execute(
        upsert(conn, projects).values(id=project_id, name=name, created_at=now).on_conflict_do_nothing()
    )
    return str(conn.execute(sa.select(projects.c.id).where(projects.c.name == name)).scalar_one())


def all(conn: sa.Connection) -> builtins.list[ProjectRow]:
    """Every project, oldest first."""
    query = sa.select(projects.c.id, projects.c.name, projects.c.created_at).order_by(projects.c.seq)
    return [ProjectRow(*row) for row in conn.execute(query)]
