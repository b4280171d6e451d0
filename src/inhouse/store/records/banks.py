"""Banks: what the facts of one memory model have in common, and the revision that each change raises.

A bank's row is the lock over its facts: whoever changes one holds it until the transaction ends, so that two
changes never share a revision and none is seen in part. It knows nothing of what a fact says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from inhouse.errors import InvalidRequest, NotFound
from inhouse.schema import Bank, ModelCard
from inhouse.store.records import batch_answers, forgetting
from inhouse.store.records.batch_answers import Outputs
from inhouse.store.records.forgetting import Purged
from inhouse.store.tables import banks, fact_changes, fact_experts, fact_questions, facts

_columns = [banks.c[name] for name in Bank.model_fields]


def add(conn: sa.Connection, bank: Bank) -> None:
    """Store a bank, which has no facts yet."""
    conn.execute(banks.insert().values(**bank.model_dump(mode="json")))


def get(conn: sa.Connection, project: str | None, id: str) -> Bank:
    """The project's bank by this id; with None, any project's."""
    mine = banks.c.id == id if project is None else sa.and_(banks.c.id == id, banks.c.project == project)
    row = conn.execute(sa.select(*_columns).where(mine)).first()
    if row is None:
        raise _missing(id)
    return Bank(**row._mapping)


def of_model(conn: sa.Connection, card: ModelCard) -> Bank:
    """The bank behind a memory model. Raises InvalidRequest for a model that has none."""
    if card.kind != "memory":
        raise InvalidRequest(
            f"{card.name} is no memory model, so it holds no facts. Name one that was tuned as a memory.",
            param="model",
        )
    return get(conn, card.project, str(card.about["bank"]))


def revision(conn: sa.Connection, id: str) -> int:
    """How often the bank has changed."""
    found = conn.execute(sa.select(banks.c.revision).where(banks.c.id == id)).scalar()
    if found is None:
        raise _missing(id)
    return int(found)


def hold(conn: sa.Connection, id: str) -> int:
    """The bank's revision, which nobody else changes until this transaction ends."""
    found = conn.execute(sa.select(banks.c.revision).where(banks.c.id == id).with_for_update()).scalar()
    if found is None:
        raise _missing(id)
    return int(found)


def bump(conn: sa.Connection, id: str) -> int:
    """Raise the bank's revision by one and return it; nobody else changes the bank until the transaction ends."""
    raised = (
        banks.update()
        .where(banks.c.id == id)
        .values(revision=banks.c.revision + 1)
        .returning(banks.c.revision)
    )
    found = conn.execute(raised).scalar()
    if found is None:
        raise _missing(id)
    return int(found)


def set_report(conn: sa.Connection, id: str, report: dict[str, Any]) -> None:
    """Keep what is worth knowing of the bank as a whole. It may quote no fact."""
    if conn.execute(banks.update().where(banks.c.id == id).values(report=report)).rowcount == 0:
        raise _missing(id)


def delete(conn: sa.Connection, id: str, outputs: Outputs | None = None) -> Purged:
    """Forget the bank with all its facts, versions, experts and history, the files that they came from, and the
    stored responses and answers of batches that came from it; files of answers where `outputs` can read them.

    Delete its model after it: the model's job tells which contents those were.
    """
    hold(conn, id)
    bank = get(conn, None, id)
    origins = sa.select(facts.c.file).where(facts.c.bank == id, facts.c.file.is_not(None)).distinct()
    origins_then = sa.select(fact_changes.c.fact_then["file"].as_string()).where(
        fact_changes.c.bank == id, fact_changes.c.fact_then.is_not(None)
    )
    found = {*bank.files, *conn.scalars(origins), *conn.scalars(origins_then.distinct())}
    files = [file for file in found if file]
    digests = forgetting.trained_on(conn, id, files)
    for table in (fact_experts, fact_questions, fact_changes, facts):
        conn.execute(table.delete().where(table.c.bank == id))
    conn.execute(banks.delete().where(banks.c.id == id))
    files += batch_answers.purge(conn, bank.project, batch_answers.sought(conn, id), outputs)
    purged = forgetting.purge_files(conn, bank.project, files, digests)
    forgetting.scrub_replies(conn, bank.project, id)
    return replace(purged, responses=forgetting.purge_answered_from(conn, bank.project, id))


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no bank {id!r}.", param="model")
