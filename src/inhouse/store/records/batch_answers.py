"""What batches answered, looked through for a forgotten fact: answers kept of unfinished batches, and files of answers.

It knows the lines that `jobs.batches` keeps and what tells a fact; the files' rows are its callers' to delete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.store.artifacts import Artifacts
from inhouse.store.records import forgetting
from inhouse.store.tables import batch_results, batches, files, models

_HAVE_ANSWERS = ("in_progress", "finalizing", "cancelling")
_READ_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Sought:
    """What makes an answer one of those to forget."""

    models: tuple[str, ...]
    """Names of the memory, by which an answer says that it asked it."""
    needles: tuple[str, ...] | None = None
    """Folded texts of a fact (`forgetting.needles`); None: whatever the memory answered is to go."""

    def is_in(self, line: bytes) -> bool:
        """Whether this line of a file of answers is one of them. One that is damaged may be any, so it is."""
        try:
            answer = json.loads(line)
            body = (answer["response"] or {}).get("body") or {}
            is_memory_s = (body.get("x_memory") or {}).get("model") in self.models
        except (ValueError, KeyError, TypeError, AttributeError):
            return True
        if self.needles is None:
            return is_memory_s
        said = forgetting.folded_texts(answer)
        return any(
            forgetting.as_looked_for(needle) in said
            for needle in self.needles
            if is_memory_s or forgetting.is_telling(needle)
        )


class Outputs:
    """Files of answers by their contents, each looked through once for the same words.

    So most can be looked through before a transaction, and only what is new within it.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._known: dict[tuple[Sought, str], bool] = {}

    def look(self, sought: Sought, digests: Iterable[str]) -> None:
        for digest in digests:
            self.have(sought, digest)

    def have(self, sought: Sought, digest: str) -> bool:
        """Whether a line of this content is sought. One that is gone has none."""
        if (sought, digest) not in self._known:
            try:
                with self._artifacts.open(digest) as lines:
                    self._known[sought, digest] = any(sought.is_in(line) for line in lines)
            except NotFound:
                self._known[sought, digest] = False
        return self._known[sought, digest]


def sought(conn: sa.Connection, bank: str, texts: Iterable[str] | None = None) -> Sought:
    """What tells a fact of this bank by its id and texts, or without texts whatever the bank answered."""
    of_bank = sa.and_(models.c.kind == "memory", models.c.about["bank"].as_string() == bank)
    names = tuple(sorted(conn.scalars(sa.select(models.c.name).where(of_bank))))
    return Sought(names, None if texts is None else tuple(forgetting.needles(texts)))


def contents(conn: sa.Connection, project: str) -> dict[str, str]:
    """The project's files of answers: id → digest."""
    within = sa.and_(files.c.project == project, files.c.purpose == "batch_output")
    return {row.id: row.digest for row in conn.execute(sa.select(files.c.id, files.c.digest).where(within))}


def purge(conn: sa.Connection, project: str, sought: Sought, outputs: Outputs | None) -> list[str]:
    """Delete the kept answers that are sought; returns the ids of the files that hold one, for `purge_files`.

    Running batches are taken out of their runners' hands, with answers under way that may hold what is forgotten: who
    claims them next has those lines answered anew. Without `outputs` no file is looked into.
    """
    forgetting.hold_responses(conn, project)  # no batch begins until the transaction ends
    is_final = batches.c.status == "finalizing"
    going = conn.scalars(
        batches.update()
        .where(batches.c.project == project, batches.c.status.in_(_HAVE_ANSWERS))
        .values(
            fence=batches.c.fence + 1,
            lease_until=None,
            status=sa.case((is_final, "in_progress"), else_=batches.c.status),
            finalizing_at=sa.case((is_final, None), else_=batches.c.finalizing_at),
        )
        .returning(batches.c.id)
    ).all()
    for id in going:
        _purge_kept(conn, id, sought)
    if outputs is None:
        return []
    return [id for id, digest in contents(conn, project).items() if outputs.have(sought, digest)]


def _purge_kept(conn: sa.Connection, batch: str, sought: Sought) -> None:
    query = sa.select(batch_results).where(batch_results.c.batch == batch)
    rows = conn.execute(query.execution_options(yield_per=_READ_AT_ONCE))
    gone = [(row.line, row.is_error) for row in rows if sought.is_in(row.text)]
    for line, _ in gone:
        conn.execute(
            batch_results.delete().where(batch_results.c.batch == batch, batch_results.c.line == line)
        )
    failed = sum(is_error for _, is_error in gone)
    conn.execute(
        batches.update()
        .where(batches.c.id == batch)
        .values(completed=batches.c.completed - (len(gone) - failed), failed=batches.c.failed - failed)
    )
