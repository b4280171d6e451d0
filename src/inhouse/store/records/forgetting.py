"""What else holds a forgotten fact's words: the uploads it came from, and replies kept for idempotency.

It knows rows; the artifacts' bytes, the write-ahead log and the pages of the database are its callers' to clear,
after the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.store.db import upsert
from inhouse.store.records import files as file_records
from inhouse.store.tables import clearings, files, idempotency

TABLES = ("facts", "fact_questions", "fact_changes", "fact_experts", "banks", "files", "idempotency")
"""Where deleted rows and old values may hold its words until the database is scrubbed."""
FORGOTTEN = NotFound(
    "What this request made was forgotten since. Send it again under a new key to make it anew."
)
"""The reply that a retried request gets from then on: the same fact must not come back by itself."""


DATABASE = "database"
"""What is always to clear: the database's pages and log."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What went, and what has to go once the transaction has ended."""

    files: tuple[str, ...] = ()
    """Ids of the files that were deleted."""
    digests: tuple[str, ...] = ()
    """Their contents, where no file of any project has it still: drop these artifacts."""


def purge_files(conn: sa.Connection, project: str, ids: Sequence[str]) -> Purged:
    """Delete these uploads of the project, and every other upload of it with the same content.

    What is to be cleared afterwards is noted in the same transaction, so that no crash forgets to.
    """
    within = files.c.project == project
    digests = sorted(set(conn.scalars(sa.select(files.c.digest).where(within, files.c.id.in_(ids)))))
    same = sa.and_(within, files.c.digest.in_(digests))
    gone = sorted(conn.scalars(sa.select(files.c.id).where(same)))
    conn.execute(files.delete().where(same))
    purged = Purged(tuple(gone), tuple(d for d in digests if not file_records.in_use(conn, d)))
    due = [{"what": what} for what in (DATABASE, *purged.digests)]
    conn.execute(upsert(conn, clearings).values(due).on_conflict_do_nothing())
    return purged


def due(conn: sa.Connection) -> list[str]:
    """What is still to be cleared: digests of artifacts, and DATABASE."""
    return list(conn.scalars(sa.select(clearings.c.what)))


def cleared(conn: sa.Connection, what: Sequence[str]) -> None:
    """Note that this was cleared."""
    conn.execute(clearings.delete().where(clearings.c.what.in_(what)))


def scrub_replies(conn: sa.Connection, project: str, mentioned: str) -> int:
    """Put FORGOTTEN in the place of every kept reply that mentions this id; returns how many."""
    needle = sa.literal(mentioned.encode(), sa.LargeBinary)
    if conn.dialect.name == "postgresql":
        place = sa.func.position(needle.op("IN")(idempotency.c.body))
    else:
        place = sa.func.instr(idempotency.c.body, needle)
    reply = {"status": FORGOTTEN.status, "body": json.dumps(FORGOTTEN.to_wire()).encode()}
    return conn.execute(
        idempotency.update().where(idempotency.c.project == project, place > 0).values(**reply)
    ).rowcount
