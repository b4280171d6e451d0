"""Projects: the walls between tenants. Every other record belongs to one."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa

from inhouse.errors import Conflict, NotFound
from inhouse.store import ids
from inhouse.store.db import now as database_now
from inhouse.store.db import upsert
from inhouse.store.records.limits import RateLimits
from inhouse.store.records.page import page as _page
from inhouse.store.tables import projects

DEFAULT = "default"
"""Name and id of the project that everything belongs to where nobody made others."""


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """One project."""

    id: str
    name: str
    created_at: float
    archived_at: float | None = None
    """Since when its keys are of no use; what it holds stays."""
    limits: RateLimits = field(default_factory=RateLimits)


_columns = [projects.c[field.name] for field in fields(ProjectRow)]


def ensure(conn: sa.Connection, name: str, now: float) -> str:
    """The id of the project by this name, made now if there is none."""
    project_id = DEFAULT if name == DEFAULT else ids.new("proj")
    values = {"id": project_id, "name": name, "created_at": now, "limits": {}}
    conn.execute(upsert(conn, projects).values(**values).on_conflict_do_nothing())
    return str(conn.execute(sa.select(projects.c.id).where(projects.c.name == name)).scalar_one())


def add(conn: sa.Connection, name: str, now: float) -> ProjectRow:
    """A new project. Raises Conflict when one has this name."""
    known = by_name(conn, name)
    if known is not None:
        which = "an archived project" if known.archived_at else "a project"
        raise Conflict(f"There is {which} {name!r} already. Choose another name.", param="name")
    return get(conn, ensure(conn, name, now))


def get(conn: sa.Connection, id: str) -> ProjectRow:
    """The project by this id. Raises NotFound."""
    row = conn.execute(sa.select(*_columns).where(projects.c.id == id)).first()
    if row is None:
        raise _missing(id)
    return _project(row)


def by_name(conn: sa.Connection, name: str) -> ProjectRow | None:
    row = conn.execute(sa.select(*_columns).where(projects.c.name == name)).first()
    return None if row is None else _project(row)


def all(conn: sa.Connection) -> builtins.list[ProjectRow]:
    """Every project, oldest first."""
    return [_project(row) for row in conn.execute(sa.select(*_columns).order_by(projects.c.seq))]


def page(
    conn: sa.Connection, *, archived: bool, after: str | None, limit: int
) -> tuple[builtins.list[ProjectRow], bool]:
    """A piece of the projects, oldest first, and whether more follow."""
    within = sa.true() if archived else projects.c.archived_at.is_(None)
    query = sa.select(*_columns)
    rows, has_more = _page(conn, query, projects, within, after=after, limit=limit, order="asc")
    return [_project(row) for row in rows], has_more


def rename(conn: sa.Connection, id: str, name: str) -> ProjectRow:
    """Call it something else; its id, which everything refers to, stays. Raises NotFound and Conflict."""
    other = by_name(conn, name)
    if other is not None and other.id != id:
        raise Conflict(f"There is a project {name!r} already. Choose another name.", param="name")
    _change(conn, id, name=name)
    return get(conn, id)


def set_limits(conn: sa.Connection, id: str, changes: Mapping[str, int | None]) -> ProjectRow:
    """Choose some of its limits anew."""
    _change(conn, id, limits=get(conn, id).limits.changed(changes).to_json())
    return get(conn, id)


def archive(conn: sa.Connection, id: str) -> ProjectRow:
    """Make its keys useless for good; what it holds stays. Twice is as good as once."""
    if id == DEFAULT:
        raise Conflict("The default project cannot be archived: it holds the server's own key.")
    _change(conn, id, archived_at=sa.func.coalesce(projects.c.archived_at, database_now(conn)))
    return get(conn, id)


def _change(conn: sa.Connection, id: str, **values: Any) -> None:
    if conn.execute(projects.update().where(projects.c.id == id).values(**values)).rowcount == 0:
        raise _missing(id)


def _project(row: sa.Row[Any]) -> ProjectRow:
    return ProjectRow(**{**row._mapping, "limits": RateLimits.of(row.limits)})


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no project {id!r}. `inhouse projects list` lists them.", param="project_id")
