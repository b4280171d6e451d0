"""Experts of facts: weights trained to say one fact's answer, each for one version of its fact.

It knows bytes, never what is in them. An expert goes with its fact, and with any change of what it learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inhouse.schema import Fact
from inhouse.store.db import upsert
from inhouse.store.tables import fact_experts, facts


@dataclass(frozen=True, slots=True)
class Expert:
    """An expert, without its weights."""

    fact: str
    version: int
    base_digest: str
    rank: int
    losses: Any


def put_expert(
    conn: sa.Connection,
    bank: str,
    fact: str,
    *,
    version: int,
    base_digest: str,
    rank: int,
    weights: bytes,
    losses: Any,
) -> bool:
    """Keep a fact's expert in the place of an older one. False: the fact has changed or gone, nothing was kept."""
    query = sa.select(facts.c.version).where(facts.c.bank == bank, facts.c.id == fact)
    if conn.execute(query.with_for_update()).scalar() != version:
        return False
    values = {
        "fact": fact,
        "bank": bank,
        "version": version,
        "base_digest": base_digest,
        "rank": rank,
        "weights": weights,
        "losses": losses,
    }
    conn.execute(
        upsert(conn, fact_experts)
        .values(**values)
        .on_conflict_do_update(index_elements=["fact"], set_=values)
    )
    return True


def experts(conn: sa.Connection, bank: str) -> list[Expert]:
    """The bank's experts, without their weights."""
    columns = [fact_experts.c[name] for name in ("fact", "version", "base_digest", "rank", "losses")]
    query = sa.select(*columns).where(fact_experts.c.bank == bank).order_by(fact_experts.c.fact)
    return [Expert(**row._mapping) for row in conn.execute(query)]


def expert(conn: sa.Connection, fact: str) -> bytes | None:
    """The weights of a fact's expert, as a safetensors file's bytes."""
    weights = conn.execute(sa.select(fact_experts.c.weights).where(fact_experts.c.fact == fact)).scalar()
    return None if weights is None else bytes(weights)


def follow(conn: sa.Connection, fact: Fact, *, is_still_right: bool) -> None:
    """Take a fact's expert along to the fact's new version, or drop it when what it learned has changed."""
    mine = fact_experts.c.fact == fact.id
    if is_still_right:
        conn.execute(fact_experts.update().where(mine).values(version=fact.version))
    else:
        conn.execute(fact_experts.delete().where(mine))
