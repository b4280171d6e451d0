"""What else holds a forgotten fact's words: the uploads it came from, and replies kept for idempotency.

It knows rows; the artifacts' bytes, the write-ahead log and the pages of the database are its callers' to clear,
after the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.store.db import lock, upsert
from inhouse.store.ids import new as new_id
from inhouse.store.records import files as file_records
from inhouse.store.tables import clearings, files, idempotency, jobs, models

TABLES = ("facts", "fact_questions", "fact_changes", "fact_experts", "banks", "files", "idempotency")
"""Where deleted rows and old values may hold its words until the database is scrubbed."""
FORGOTTEN = NotFound(
    "What this request made was forgotten since. Send it again under a new key to make it anew."
)
"""The reply that a retried request gets from then on: the same fact must not come back by itself."""


_DATABASE = "database"
"""What is always to clear: the database's pages and log, under a name of its own for each forgetting."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What went, and what has to go once the transaction has ended."""

    files: tuple[str, ...] = ()
    """Ids of the files that were deleted."""
    digests: tuple[str, ...] = ()
    """Their contents, where no file of any project has it still: drop these artifacts."""


def purge_files(conn: sa.Connection, project: str, ids: Sequence[str], digests: Iterable[str] = ()) -> Purged:
    """Delete these uploads of the project, and every other upload of it with their content or one of `digests`.

    What is to be cleared afterwards is noted in the same transaction, so that no crash forgets to.
    """
    within = files.c.project == project
    named = conn.scalars(sa.select(files.c.digest).where(within, files.c.id.in_(ids)))
    contents = sorted({*named, *digests})
    same = sa.and_(within, files.c.digest.in_(contents))
    gone = sorted(conn.scalars(sa.select(files.c.id).where(same)))
    conn.execute(files.delete().where(same))
    purged = Purged(tuple(gone), tuple(d for d in contents if not file_records.in_use(conn, d)))
    due = [{"what": what} for what in (new_id(_DATABASE), *purged.digests)]
    conn.execute(upsert(conn, clearings).values(due).on_conflict_do_nothing())
    return purged


def trained_on(conn: sa.Connection, bank: str, files: Iterable[str]) -> set[str]:
    """The contents of those of these uploads that the bank's job read, known even when their rows are gone."""
    made = sa.and_(models.c.kind == "memory", models.c.about["bank"].as_string() == bank)
    specs = conn.scalars(sa.select(jobs.c.spec).join(models, models.c.job == jobs.c.id).where(made))
    wanted = set(files)
    return {str(spec["training"]) for spec in specs if spec.get("request", {}).get("training_file") in wanted}


def hold_artifacts(conn: sa.Connection) -> None:
    """Until this transaction ends nobody else takes up an upload's content, or drops one."""
    lock(conn, "artifacts")


def is_of_database(what: str) -> bool:
    """Whether what is due is the database's own files; otherwise it is an artifact's digest."""
    return what.startswith(_DATABASE)


def due(conn: sa.Connection) -> list[str]:
    """What is still to be cleared: digests of artifacts, and the database once for each forgetting."""
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
