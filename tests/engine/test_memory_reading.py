"""The embedded base answers from records: what it reads leaves verified, and what it does not find is no answer."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.model.weights import load_base
from inhouse.schema import Fact
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests.engine.memory_world import Book, BookDecision, BookHit, Books, ask, fact
from tests.engine.world import run

LAMP = "Kelvia Lamp"
FACTS = [
    fact("price", "What is the price of the Kelvia Lamp?", "45 dollars", subject=LAMP),
    fact("colour", "What is the colour of the Kelvia Lamp?", "white", subject=LAMP),
]


def no_adapters(digest: str) -> Path:
    raise AssertionError(f"nobody asks for {digest}")


@pytest.fixture(scope="module")
def books() -> Books:
    return Books(Book(FACTS))


@pytest.fixture(scope="module")
def engine(books: Books) -> Iterator[Engine]:
    with resources.as_file(resources.files("inhouse.bases") / "seedling") as folder:
        tokenizer = Tokenizer.load(folder)
        yield build(
            load_base(folder),
            tokenizer,
            ChatTemplate.load(folder, tokenizer),
            base_digest="b" * 64,
            adapter_folder=no_adapters,
            settings=Settings(max_running=8),
            banks=books,
        )


def found(kind: str, *facts: Fact, gate: float = 0.6) -> BookDecision:
    return BookDecision(kind, tuple(BookHit(known, gate) for known in facts))  # type: ignore[arg-type]


def test_a_value_that_is_read_leaves_verified(engine: Engine, books: Books) -> None:
    asked = "price of kelvia lamp?"
    books.book.settled[asked] = found("several", *FACTS)
    answer = run(engine, ask("a", asked, max_new_tokens=30))["a"]
    assert answer.texts[0].strip(".") == "45 dollars"
    (citation,) = answer.memory[0].facts
    assert (citation.id, citation.mode, citation.verified) == ("price", "retrieval", True)


def test_what_the_records_do_not_say_is_admitted_not_answered(engine: Engine, books: Books) -> None:
    asked = "Who painted the Kelvia Lamp?"
    books.book.settled[asked] = found("several", *FACTS)
    answer = run(engine, ask("a", asked, max_new_tokens=30))["a"]
    assert answer.texts[0] == "I don't know."
    assert (answer.memory[0].decision, answer.memory[0].facts) == ("refused", ())


def test_a_task_uses_the_facts(engine: Engine, books: Books) -> None:
    asked = "Return JSON with the price and colour of the Kelvia Lamp."
    books.book.settled[asked] = found("use", *FACTS)
    answer = run(engine, ask("a", asked, max_new_tokens=60))["a"]
    assert answer.memory[0].decision == "retrieval"
    assert [(c.id, c.verified) for c in answer.memory[0].facts] == [("price", True), ("colour", True)]
    assert "45 dollars" in answer.texts[0] and "white" in answer.texts[0]
