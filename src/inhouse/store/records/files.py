"""Uploaded files: name, purpose and the digest of the content, which lies among the artifacts."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.schema import File
from inhouse.store.db import now
from inhouse.store.records.page import page as _page
from inhouse.store.tables import files

_columns = [files.c[name] for name in File.model_fields]


def add(conn: sa.Connection, file: File) -> None:
    """Store a file's row. Its content must already be among the artifacts."""
    conn.execute(files.insert().values(**file.model_dump()))


def get(conn: sa.Connection, project: str, id: str) -> File:
    """The project's file by this id."""
    within = sa.and_(files.c.project == project, files.c.id == id, _is_kept(conn))
    row = conn.execute(sa.select(*_columns).where(within)).first()
    if row is None:
        raise _missing(id)
    return File(**row._mapping)


def page(
    conn: sa.Connection,
    project: str,
    *,
    purpose: str | None = None,
    after: str | None = None,
    limit: int = 20,
    order: str = "desc",
) -> tuple[list[File], bool]:
    """A piece of the project's files, and whether more follow."""
    within = sa.and_(files.c.project == project, _is_kept(conn))
    if purpose is not None:
        within = sa.and_(within, files.c.purpose == purpose)
    rows, has_more = _page(conn, sa.select(*_columns), files, within, after=after, limit=limit, order=order)
    return [File(**row._mapping) for row in rows], has_more


def delete(conn: sa.Connection, project: str, id: str) -> None:
    """Forget the project's file. Its content stays: other files and jobs may share it (see `in_use`)."""
    within = sa.and_(files.c.project == project, files.c.id == id, _is_kept(conn))
    if conn.execute(files.delete().where(within)).rowcount == 0:
        raise _missing(id)


def sweep(conn: sa.Connection) -> int:
    """Forget the files whose time is over, which nobody sees any more; returns how many."""
    return conn.execute(files.delete().where(sa.not_(_is_kept(conn)))).rowcount


def in_use(conn: sa.Connection, digest: str) -> bool:
    """Whether any file of any project still has this content."""
    return conn.execute(sa.select(files.c.id).where(files.c.digest == digest).limit(1)).first() is not None


def _is_kept(conn: sa.Connection) -> sa.ColumnElement[bool]:
    return sa.or_(files.c.expires_at.is_(None), files.c.expires_at > now(conn))


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no file {id!r}.", param="id")
