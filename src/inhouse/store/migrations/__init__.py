"""Alembic's revisions bring a database to this release's schema, all in one transaction of ours.

A revision is a file in `versions/`, frozen once released: it says its own SQL and never looks at `tables`, which
change. This package knows nothing of what the rows mean, except that whoever runs a job loses it when the schema
changes. Alembic is imported only when there is something to change.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from inhouse.errors import InvalidRequest, StorageFull
from inhouse.store.db import Database, lock

VERSIONS = Path(__file__).parent / "versions"
_EARLIER = "schema_version"
"""The table with a number in which databases older than Alembic say their schema."""


def newest(folders: Sequence[Path] = (VERSIONS,)) -> str:
    """The revision that these folders lead to: the highest number that a file's name begins with."""
    return max(file.name.partition("_")[0] for folder in folders for file in folder.glob("[0-9]*.py"))


NEWEST = newest()
"""This release's revision, such as "0004"."""


def migrate(
    db: Database,
    backup_dir: Path | None = None,
    *,
    to: str | None = None,
    folders: Sequence[Path] = (VERSIONS,),
) -> str:
    """Bring the schema up to date, or to the revision `to`, and return the revision it has then. Safe to call from
    several processes at once.

    An SQLite file that holds a schema is first copied to `backup_dir` (default: beside it). A database from a
    newer release is refused and left alone; a migration that is cut half-way leaves the old schema whole.
    """
    goal = newest(folders) if to is None else to
    with db.write() as conn:
        lock(conn, "migrate")
        found = revision_of(conn)
        _refuse_newer(found, newest(folders))
        is_earlier = sa.inspect(conn).has_table(_EARLIER)
        if found is not None and found >= goal and not is_earlier:
            return found
        if found is not None and db.file is not None:
            _back_up(db.file, backup_dir or db.file.parent, found)
        upgrade(conn, goal, folders, earlier=found if is_earlier else None)
        if found is not None:
            take_running_work_back(conn)
    return max(goal, found or goal)


def revision_of(conn: sa.Connection) -> str | None:
    """The revision of a database's schema; None: it has none of ours."""
    tables = sa.inspect(conn)
    if tables.has_table("alembic_version"):
        found = conn.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return None if found is None else str(found)
    if tables.has_table(_EARLIER):
        number = conn.scalar(sa.text("SELECT version FROM schema_version"))
        return f"{number:04d}"
    return None


def require_current(conn: sa.Connection) -> None:
    """Raises InvalidRequest unless the database has the schema that this release's code was written for."""
    found = revision_of(conn)
    _refuse_newer(found, NEWEST)
    if found != NEWEST:
        raise InvalidRequest(
            f"The database has schema {found or 'none'}, this release needs {NEWEST}. "
            "Start this release's server once: it brings the schema up to date.",
            code="older_schema",
        )


def upgrade(
    conn: sa.Connection, to: str, folders: Sequence[Path] = (VERSIONS,), *, earlier: str | None = None
) -> None:
    """Run Alembic's revisions up to `to` in this transaction. `earlier`: the revision that a database from before
    Alembic stands at, which is written down first."""
    # It would tell of its plugins, and of transactions that it does not make here: ours is around all of it.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(folders[0]), version_locations=[str(folder) for folder in folders])
    context = MigrationContext.configure(
        conn, opts={"fn": lambda heads, context: scripts._upgrade_revs(to, heads)}
    )
    if earlier is not None:
        context.stamp(scripts, earlier)
        conn.exec_driver_sql(f"DROP TABLE {_EARLIER}")
    context.run_migrations(conn=conn)


def take_running_work_back(conn: sa.Connection) -> None:
    """Move the fence of each running job and batch on: whoever ran it before then writes nothing any more, and it
    waits for a worker, or a server, that knows this database as it is now."""
    conn.exec_driver_sql(
        "UPDATE jobs SET state = 'queued', fence = fence + 1, lease_until = NULL, worker = NULL, x_state = NULL, "
        "attempts = CASE WHEN attempts > 0 THEN attempts - 1 ELSE 0 END WHERE state = 'running'"
    )
    if sa.inspect(conn).has_table("batches"):
        conn.exec_driver_sql(
            "UPDATE batches SET fence = fence + 1, lease_until = NULL WHERE lease_until IS NOT NULL"
        )
    conn.exec_driver_sql("DELETE FROM idempotency WHERE status IS NULL")


def _refuse_newer(found: str | None, known: str) -> None:
    if found is not None and not (found.isdecimal() and found <= known):
        raise InvalidRequest(
            f"The database has schema {found}, this release knows up to {known}: a newer one "
            "wrote it. Run that release, or restore the backup made before the schema was changed.",
            code="newer_schema",
        )


def _back_up(file: Path, folder: Path, revision: str) -> None:
    """Copy the database as it was before the change; the caller's write lock keeps everyone else out."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    backup = folder / f"{file.name}.schema-{revision}.{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.backup"
    partial = backup.with_suffix(".partial")
    try:
        partial.touch(mode=0o600)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(backup)
    except sqlite3.OperationalError as e:
        raise StorageFull(
            f"The backup before the schema change could not be written to {folder}: {e}."
        ) from e
    finally:
        partial.unlink(missing_ok=True)
