"""What else holds a forgotten fact's words: uploads it came from, replies kept for idempotency, stored responses.

What batches answered is `batch_answers`'s. It knows rows; the artifacts' bytes, the write-ahead log and the pages of
the database are its callers' to clear, after the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.rows.facts import normal_question
from inhouse.store.db import lock, upsert
from inhouse.store.ids import new as new_id
from inhouse.store.records import files as file_records
from inhouse.store.tables import (
    banks,
    clearings,
    fact_changes,
    files,
    idempotency,
    jobs,
    models,
    response_items,
    responses,
)

TABLES = (
    "facts",
    "fact_questions",
    "fact_changes",
    "fact_experts",
    "banks",
    "files",
    "idempotency",
    "responses",
    "batch_results",
)
"""Where deleted rows and old values may hold its words until the database is scrubbed."""
FORGOTTEN = NotFound(
    "What this request made was forgotten since. Send it again under a new key to make it anew."
)
"""The reply that a retried request gets from then on: the same fact must not come back by itself."""

_DATABASE = "database"
"""What is always to clear: the database's pages and log, under a name of its own for each forgetting."""
TELLING_CHARACTERS = 12
"""A shorter text ("yes", "42") stands in much that has nothing to do with a fact: in a stored response it counts only
where that answered from the fact's own bank."""
AT_ONCE = 100
"""Texts looked for, or ids followed, in one query."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What went, and what has to go once the transaction has ended."""

    files: tuple[str, ...] = ()
    """Ids of the files that were deleted."""
    digests: tuple[str, ...] = ()
    """Their contents, where no file of any project has it still: drop these artifacts."""
    responses: int = 0
    """How many stored responses were deleted."""


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


def clear_unless_used(conn: sa.Connection, digest: str) -> None:
    """Note that this artifact is to go, unless `cleared` says otherwise or a file has it by then."""
    conn.execute(upsert(conn, clearings).values(what=digest).on_conflict_do_nothing())


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


# ── stored responses ──────────────────────────────────────────────────────────────────────────────────────


def folded_texts(value: Any) -> str:
    """All that a JSON value says, in the form in which `purge_saying` looks for it."""
    return "".join(f" {normal_question(text)} \n" for text in _texts(value))


def needles(texts: Iterable[str]) -> list[str]:
    """These texts as they are looked for in folded ones."""
    return sorted({folded for text in texts if (folded := normal_question(text))})


def is_telling(needle: str) -> bool:
    """Whether a folded text means the fact wherever it stands; a shorter one does only where its bank answered."""
    return len(needle) >= TELLING_CHARACTERS


def as_looked_for(needle: str) -> str:
    """A short text in letters with spaces between its words is looked for as words of their own."""
    return needle if is_telling(needle) or not needle.isascii() else f" {needle} "


def hold_responses(conn: sa.Connection, project: str) -> None:
    """Until this transaction ends nobody else stores a response of this project, begins a batch, or forgets a fact."""
    lock(conn, f"responses of {project}")


def purge_saying(conn: sa.Connection, project: str, bank: str, id: str, texts: Iterable[str]) -> int:
    """Delete every response that names this fact or says one of its texts, with all that go on from one of them.

    Returns how many. Texts are compared without case, spacing and punctuation.
    """
    hold_responses(conn, project)
    wanted = needles((id, *texts))
    found = set[str]()
    for start in range(0, len(wanted), AT_ONCE):
        says = sa.or_(*(_says(conn, needle, bank) for needle in wanted[start : start + AT_ONCE]))
        found |= set(conn.scalars(sa.select(responses.c.id).where(responses.c.project == project, says)))
    return _purge_responses(conn, project, found)


def purge_answered_from(conn: sa.Connection, project: str, bank: str) -> int:
    """Delete every response that answered from this bank, with all that go on from one of them; returns how many."""
    hold_responses(conn, project)
    within = sa.and_(responses.c.project == project, responses.c.bank == bank)
    return _purge_responses(conn, project, conn.scalars(sa.select(responses.c.id).where(within)))


def revisions(conn: sa.Connection, project: str) -> dict[str, int]:
    """The revision of each bank of the project, to ask later what was forgotten since."""
    found = conn.execute(sa.select(banks.c.id, banks.c.revision).where(banks.c.project == project))
    return {id: int(revision) for id, revision in found}


def has_forgotten(conn: sa.Connection, project: str, since: Mapping[str, int]) -> bool:
    """Whether a fact or a bank of the project was forgotten since its banks had these revisions."""
    now = revisions(conn, project)
    if not since.keys() <= now.keys():
        return True
    newer = [
        sa.and_(fact_changes.c.bank == bank, fact_changes.c.revision > revision)
        for bank, revision in since.items()
        if now[bank] > revision
    ]
    forgot = sa.select(fact_changes.c.id).where(fact_changes.c.action == "forget")
    return any(conn.execute(forgot.where(change).limit(1)).first() for change in newer)


def _purge_responses(conn: sa.Connection, project: str, ids: Iterable[str]) -> int:
    """Delete these and all that go on from them: what was said once may be said again further on."""
    gone, fresh = set[str](), sorted(ids)
    while fresh:
        gone.update(fresh)
        after = set[str]()
        for start in range(0, len(fresh), AT_ONCE):
            part = fresh[start : start + AT_ONCE]
            after |= set(conn.scalars(sa.select(responses.c.id).where(responses.c.previous.in_(part))))
            after |= set(conn.scalars(_asked_again(project, part)))
        fresh = sorted(after - gone)
    for id in sorted(gone):
        conn.execute(responses.delete().where(responses.c.id == id))
        scrub_replies(conn, project, id)
    return len(gone)


def _asked_again(project: str, ids: Sequence[str]) -> sa.Select[tuple[str]]:
    """The responses that were asked what one of these had answered, by its items' ids."""
    answer, asked = response_items.alias(), response_items.alias()
    query = sa.select(asked.c.response).join(responses, responses.c.id == asked.c.response)
    query = query.join(answer, sa.and_(answer.c.item == asked.c.item, answer.c.is_output))
    return query.where(responses.c.project == project, answer.c.response.in_(ids), ~asked.c.is_output)


def _says(conn: sa.Connection, needle: str, bank: str) -> sa.ColumnElement[bool]:
    """Whether a response says this folded text, and the text is telling enough to mean the fact."""
    find = sa.func.strpos if conn.dialect.name == "postgresql" else sa.func.instr
    has = find(responses.c.said, as_looked_for(needle)) > 0
    return has if is_telling(needle) else sa.and_(responses.c.bank == bank, has)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value; of a text that is JSON itself, such as a call's arguments, its own texts too."""
    if isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):
            try:
                yield from _texts(json.loads(value))
            except (ValueError, RecursionError):
                return
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)
