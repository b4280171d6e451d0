"""Facts for the banks of a running engine, read from the store each time they are asked for.

It knows rows; what is made of them is `inhouse.memory`'s matter. It keeps nothing, so that what is forgotten in
the store is nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from inhouse.schema import Bank, Fact
from inhouse.store.db import Database
from inhouse.store.records import banks, facts
from inhouse.store.tables import fact_experts


class StoredFacts:
    """The store as `inhouse.memory.bank.BankSource`. Safe to use from several threads."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def bank(self, bank_id: str) -> Bank:
        """The bank as it is now. Raises NotFound."""
        with self._db.read() as conn:
            return banks.get(conn, None, bank_id)

    def facts(self, bank_id: str) -> Iterable[Fact]:
        """All its facts, whoever may see them: the bank asks each request for its groups."""
        with self._db.read() as conn:
            return list(facts.every(conn, bank_id))

    def changed_since(self, bank_id: str, revision: int) -> tuple[list[Fact], list[str]]:
        """Facts added or changed after that revision, and ids of those forgotten since."""
        with self._db.read() as conn:
            return facts.changed_since(conn, bank_id, revision)

    def expert(self, fact_id: str, version: int) -> bytes | None:
        """The expert of a fact's version; None where it has none, or the fact is another by now."""
        mine = sa.and_(fact_experts.c.fact == fact_id, fact_experts.c.version == version)
        with self._db.read() as conn:
            weights = conn.execute(sa.select(fact_experts.c.weights).where(mine)).scalar()
        return None if weights is None else bytes(weights)
