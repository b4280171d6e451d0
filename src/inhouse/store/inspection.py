"""Whether a house's data is whole: the database, every content that a row needs, the chain of the audit log.

It changes nothing, and may run beside a server.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import sqlalchemy as sa

from inhouse.errors import BadCheckpoint, InvalidRequest, NotFound, Unavailable
from inhouse.store import portable
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database, snapshot
from inhouse.store.migrations import require_current
from inhouse.store.records import audit, contents


@dataclass(slots=True)
class Findings:
    """What was looked at, and what is wrong."""

    rows: int = 0
    artifacts: int = 0
    acts: int = 0
    """Of the audit log."""
    wrong: list[str] = field(default_factory=list)


def inspect(db: Database, artifacts: Artifacts) -> Findings:
    """Read every row and every artifact that rows need. What is wrong is named, never raised."""
    found = Findings()
    try:
        with db.read() as conn:
            snapshot(conn)
            require_current(conn)
            _look_at_database(conn, found)
            head, breaks = audit.verify(conn)
            needed = contents.needed(conn)
    except (InvalidRequest, Unavailable) as e:
        found.wrong.append(e.message)
        return found
    except sa.exc.DatabaseError as e:
        found.wrong.append(f"The database is damaged: {e.orig}.")
        return found
    found.acts = head.seq
    found.wrong += [f"audit log, act {b.seq}: {b.reason}" for b in breaks]
    _look_at_artifacts(db, artifacts, needed, found)
    return found


class _Nowhere(io.RawIOBase):
    def write(self, piece: object) -> int:
        return 0


def _look_at_database(conn: sa.Connection, found: Findings) -> None:
    if conn.dialect.name == "sqlite":
        said = conn.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        found.wrong += [f"database: {line}" for line in said if line != "ok"]
        for row in conn.exec_driver_sql("PRAGMA foreign_key_check"):
            found.wrong.append(
                f"database: row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there"
            )
    for table in portable.tables(conn):
        found.rows += portable.write(conn, table, _Nowhere())  # type: ignore[arg-type]  # a place to write to


def _look_at_artifacts(
    db: Database, artifacts: Artifacts, needed: list[contents.Content], found: Findings
) -> None:
    seen: set[str] = set()
    for content in needed:
        if content.digest in seen:
            continue
        seen.add(content.digest)
        try:
            (artifacts.verify_folder if content.is_folder else artifacts.verify)(content.digest)
        except (NotFound, BadCheckpoint) as e:
            with db.read() as conn:  # deleted since the rows were read, perhaps
                if content in contents.needed(conn):
                    found.wrong.append(f"{content.owner}: {e.message}")
    found.artifacts = len(seen)
