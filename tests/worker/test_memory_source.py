"""What a running engine reads of the facts: each time what the store holds now, and an expert of one version alone."""

from __future__ import annotations

import pytest

from inhouse.errors import NotFound
from inhouse.schema import Bank, FactInput
from inhouse.store.db import Database
from inhouse.store.records import banks, facts
from inhouse.worker.memory_source import StoredFacts

BANK = Bank(id="bank-one", project="default", base="tiny", base_digest="b" * 64, created_at=1.0)


@pytest.fixture
def source(db: Database) -> StoredFacts:
    with db.write() as conn:
        banks.add(conn, BANK)
        inputs = [
            FactInput(question=f"What is {n}?", answer=n, access=("few",) if n == "two" else ())
            for n in ("one", "two")
        ]
        facts.add_many(conn, BANK.id, inputs, author="ann", now=2.0)
    return StoredFacts(db)


def test_all_facts_are_read_whoever_may_see_them(source: StoredFacts) -> None:
    assert source.bank(BANK.id).revision == 1
    assert [(fact.answer, fact.access) for fact in source.facts(BANK.id)] == [("one", ()), ("two", ("few",))]


def test_what_changed_and_what_is_gone_is_read_on_top(source: StoredFacts, db: Database) -> None:
    one, two = source.facts(BANK.id)
    with db.write() as conn:
        facts.edit(conn, BANK.id, one.id, {"answer": "1"}, author="ann", now=3.0)
    with db.write() as conn:
        facts.forget(conn, BANK.id, two.id, author="ann", now=4.0)
    changed, gone = source.changed_since(BANK.id, 1)
    assert ([(fact.id, fact.answer, fact.version) for fact in changed], gone) == (
        [(one.id, "1", 2)],
        [two.id],
    )
    assert source.changed_since(BANK.id, source.bank(BANK.id).revision) == ([], [])


def test_an_expert_is_found_under_its_fact_s_present_version_alone(source: StoredFacts, db: Database) -> None:
    one, two = source.facts(BANK.id)
    with db.write() as conn:
        kept = facts.put_expert(
            conn, BANK.id, one.id, version=1, base_digest="b" * 64, rank=1, weights=b"w", losses=[]
        )
    assert kept
    assert source.expert(one.id, 1) == b"w"
    assert source.expert(one.id, 2) is None and source.expert(two.id, 1) is None
    with db.write() as conn:
        facts.edit(conn, BANK.id, one.id, {"answer": "1"}, author="ann", now=3.0)
    assert source.expert(one.id, 1) is None and source.expert(one.id, 2) is None


def test_a_bank_that_is_not_there_is_not_found(source: StoredFacts) -> None:
    with pytest.raises(NotFound):
        source.bank("bank-none")
