"""Stored responses as rows, on both databases: chains, walls, and what a forgetting takes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from inhouse.errors import NotFound
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, facts, forgetting, projects, responses
from inhouse.store.records.responses import StoredResponse

from .test_facts import BANK, a_bank, ask, bank

__all__ = ["bank"]


@pytest.fixture
def stored(db: Database) -> Database:
    """A database with two projects."""
    with db.write() as conn:
        projects.ensure(conn, "default", 1.0)
        conn.exec_driver_sql("INSERT INTO projects (id, name, created_at) VALUES ('other', 'other', 1.0)")
    return db


def keep(db: Database, id: str, said: Any = "hello", **fields: Any) -> None:
    values: dict[str, Any] = {
        "project": "default",
        "previous": None,
        "bank": None,
        "access": [],
        "items": [{"id": f"msg_{id}", "content": [{"type": "input_text", "text": said}]}],
        "reply": {"id": id, "output": []},
        "created_at": 1.0,
        **fields,
    }
    with db.write() as conn:
        responses.add(conn, StoredResponse(id=id, **values))


def left(db: Database) -> set[str]:
    with db.read() as conn:
        return set(conn.exec_driver_sql("SELECT id FROM responses").scalars())


def test_a_chain_comes_oldest_first_and_ends_at_its_project(stored: Database) -> None:
    keep(stored, "a", project="other")
    for id, previous in (("b", None), ("c", "b"), ("d", "c"), ("e", "b"), ("f", "a"), ("g", "gone")):
        keep(stored, id, previous=previous)
    with stored.read() as conn:

        def chain(id: str) -> list[str]:
            found = responses.chain(conn, "default", id, groups=None, param="previous_response_id")
            return [response.id for response in found]

        assert (chain("d"), chain("e"), chain("b")) == (["b", "c", "d"], ["b", "e"], ["b"])
        for id in ("a", "f", "g", "nothing"):
            with pytest.raises(NotFound) as caught:
                chain(id)
            assert caught.value.param == "previous_response_id"


def test_what_is_read_is_what_was_stored_whatever_its_letters(stored: Database) -> None:
    said = 'Ümläut \x00 "quoted" \\ \U0001f600'
    keep(stored, "a", said)
    with stored.read() as conn:
        assert responses.get(conn, "default", "a").items[0]["content"][0]["text"] == said


@pytest.mark.parametrize(
    ("said", "is_found"),
    [
        ("what is the PIN  of ümläut", True),
        ('{"answer": "What is the pin of \\"\\u00dcml\\u00e4ut\\"?"}', True),
        (["x", {"y": "the answer: thirteen-and-more letters!"}], True),
        ("fact-AbCdEfGhIjKlMnOp is named", True),
        ("what is the pin", False),
        ("7", False),
        ("thirteen", False),
    ],
)
def test_a_fact_is_found_where_it_is_said(stored: Database, said: Any, is_found: bool) -> None:
    keep(stored, "a", said)
    keep(stored, "b", "after", previous="a")
    keep(stored, "c", said, project="other")
    keep(stored, "d", "else")
    texts = ["What is the pin of Ümläut?", "7", "thirteen and more letters", "", "?!"]
    with stored.write() as conn:
        gone = forgetting.purge_saying(conn, "default", BANK, "fact-AbCdEfGhIjKlMnOp", texts)
    assert gone == (2 if is_found else 0)
    assert left(stored) == ({"c", "d"} if is_found else {"a", "b", "c", "d"})


def test_many_texts_and_long_chains_are_forgotten_whole(stored: Database) -> None:
    for i in range(250):
        keep(stored, f"r{i}", f"telling text number {i}", previous=f"r{i - 1}" if i % 50 else None)
    texts = [f"telling text number {i}" for i in range(1000, 1300)] + ["Telling text, number 100"]
    with stored.write() as conn:
        assert forgetting.purge_saying(conn, "default", BANK, "fact-x", texts) == 50
    assert left(stored) == {f"r{i}" for i in range(250) if not 100 <= i < 150}


def test_earlier_versions_of_a_fact_are_forgotten_as_well(stored: Database) -> None:
    with stored.write() as conn:
        banks.add(conn, a_bank())
        (fact,) = facts.add_many(conn, BANK, [ask("the plan", "an older answer")], author="a", now=1.0)
        facts.edit(conn, BANK, fact.id, {"answer": "a newer answer"}, author="a", now=1.0)
    keep(stored, "old", "It was an older answer.")
    keep(stored, "new", "It is a newer answer.")
    with stored.write() as conn:
        assert facts.forget(conn, BANK, fact.id, author="a", now=2.0).responses == 2
    assert left(stored) == set()


def test_nothing_is_stored_between_the_looking_and_the_end_of_a_forgetting(postgres_url: str) -> None:
    """Both hold the project's responses: on PostgreSQL transactions run beside each other."""
    db = Database(postgres_url)
    migrate(db)
    with db.write() as conn:
        projects.ensure(conn, "default", 1.0)
        banks.add(conn, a_bank())
        (fact,) = facts.add_many(conn, BANK, [ask("the plan", "a telling answer")], author="a", now=1.0)
        since = forgetting.revisions(conn, "default")
    has_looked, seen = threading.Event(), list[bool]()

    def store() -> None:
        has_looked.wait(10)
        with db.write() as conn:
            forgetting.hold_responses(conn, "default")
            seen.append(forgetting.has_forgotten(conn, "default", since))

    thread = threading.Thread(target=store)
    thread.start()
    with db.write() as conn:
        facts.forget(conn, BANK, fact.id, author="a", now=2.0)
        has_looked.set()
        thread.join(0.5)
        assert thread.is_alive(), "it waits for the forgetting to end"
    thread.join(10)
    assert seen == [True]
    db.dispose()
