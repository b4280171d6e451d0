"""The embedded base's own router on facts as people write them: what no gate may let pass, and what it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhouse.memory.index import KeyIndex
from inhouse.memory.router import Router
from inhouse.memory.router_store import SHIPPED, word_table
from inhouse.memory.routing import decide
from inhouse.model.weights import folder_digest, load_base
from inhouse.schema import Fact, Message
from inhouse.text.tokenizer import Tokenizer

SEEDLING = Path(__file__).parents[2] / "src" / "inhouse" / "bases" / "seedling"
FACTS = {
    "trainee": ("How many vacation days does a trainee get?", "27"),
    "invoices": ("How long must invoices be kept?", "ten years"),
    "purchasing": ("Who is the head of purchasing?", "Katrin Vossberg"),
    "travel": ("Who signs off travel over 500 euros?", "Nadia Brandt"),
    "earns": ("What does Jonas Reuter earn?", "71,500 euros"),
    "pump": ("What is the maximum pressure of the Kestrel pump?", "16 bar"),
}


@pytest.fixture(scope="module")
def shipped() -> Router:
    words = word_table(load_base(SEEDLING), Tokenizer.load(SEEDLING))
    return Router.read(SEEDLING / SHIPPED, words, folder_digest(SEEDLING))


def bank(router: Router, *more: Fact) -> KeyIndex:
    index = router.index()
    index.put([_fact(name, question, answer) for name, (question, answer) in FACTS.items()])
    index.put(more)
    return index


def _fact(name: str, question: str, answer: str) -> Fact:
    return Fact(id=name, bank="b", revision=1, question=question, answer=answer)


def told(index: KeyIndex, router: Router, question: str) -> set[str]:
    """The facts that any way of answering would use."""
    asked = [Message(role="user", content=question)]
    return {hit.fact.id for hit in decide(index, router, asked, refuses=True, now=0.0).hits}


@pytest.mark.parametrize(
    "question",
    [
        "How many vacation days does a manager get?",
        "How many sick days does a trainee get?",
        "How many vacation days does a trainee get in Austria?",
        "How long must contracts be kept?",
        "Who is not the head of purchasing?",
        "Who was the head of purchasing before?",
        "Who leads the legal department?",
        "Who signs off travel over 900 euros?",
        "Who signs off office chairs over 500 euros?",
        "What does Jonas Rieder earn?",
        "Hello!",
        "What is the capital of France?",
    ],
)
def test_another_matter_in_nearly_the_same_words_gets_no_fact(shipped: Router, question: str) -> None:
    assert told(bank(shipped), shipped, question) == set()


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many vacation days does a manager get?", "refused"),
        ("Who was the head of purchasing before?", "refused"),
        ("Hello!", "none"),
        ("What is the capital of France?", "none"),
        ("How many days does a leap year have?", "none"),
    ],
)
def test_what_only_a_guard_kept_from_a_fact_is_refused_and_not_left_to_the_base(
    shipped: Router, question: str, kind: str
) -> None:
    asked = [Message(role="user", content=question)]
    assert decide(bank(shipped), shipped, asked, refuses=True, now=0.0).kind == kind
    assert decide(bank(shipped), shipped, asked, refuses=False, now=0.0).kind == "none"


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        *((question, name) for name, (question, _) in FACTS.items()),
        ("how many vacation days does a trainee get", "trainee"),
        ("Please, how long must invoices be kept?", "invoices"),
        ("What is Jonas Reuter's salary?", "earns"),
        ("maximum pressure kestrel pump?", "pump"),
    ],
)
def test_the_same_matter_gets_its_fact(shipped: Router, question: str, fact: str) -> None:
    assert told(bank(shipped), shipped, question) == {fact}


def test_facts_that_coexist_are_no_rivals_of_each_other(shipped: Router) -> None:
    question, _ = FACTS["earns"]
    index = bank(shipped, _fact("too", question, "72,000 euros"))
    assert told(index, shipped, question) == {"earns", "too"}
    assert told(index, shipped, "What is Jonas Reuter's salary?") == {"earns", "too"}
