"""A report's numbers: what is answered word for word and what is not, and which facts are better left to the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inhouse.memory import gate
from inhouse.memory.encoder import Encoder, WordTable, fresh
from inhouse.memory.examiner import GENERAL, Exam, examination
from inhouse.memory.index import KeyIndex
from inhouse.memory.router import Router
from inhouse.schema import Fact
from inhouse.worker import examine as examining
from inhouse.worker.examine import examine, own_wordings, timeless

FIRMS = ("Brightoak Motors", "Plimsor Foods", "Quizzle", "Gribnak Labs")


def fact(id: str, question: str, answer: str, **fields: object) -> Fact:
    return Fact.model_validate(
        {"id": id, "bank": "bank-one", "revision": 1, "question": question, "answer": answer, **fields}
    )


FACTS = (
    *(
        fact(f"b{i}", f"Who runs {name}?", f"boss {i}", wordings=(f"{name}: head?",))
        for i, name in enumerate(FIRMS)
    ),
    fact("year", "When was Tarvo founded?", "1987"),
)


@pytest.fixture(scope="module")
def router() -> Router:
    """Untrained: it knows a taught wording by its words, and its gate passes nothing else."""
    words = WordTable(
        torch.randn(259, 16, generator=torch.Generator().manual_seed(0)), lambda text: list(text.encode())
    )
    closed = gate.fresh(0) | {"last_bias": torch.tensor(-50.0)}
    encoder = Encoder(fresh(16, 0), words)
    return Router(encoder, closed, encoder.keys([("who",), ("when",)]), high=0.5, low=0.1)


@pytest.fixture
def index(router: Router) -> KeyIndex:
    index = router.index()
    index.put(FACTS)
    return index


def test_facts_whose_own_wordings_lead_to_them_are_not_doubtful(index: KeyIndex, router: Router) -> None:
    assert own_wordings(index, router) == {}


@pytest.mark.parametrize(
    "wording",
    ["Write down who runs Sarnix.", "Passage: Sarnix was bought by its boss in the spring. Who runs it?"],
    ids=["reads as a task", "brings a text"],
)
def test_a_taught_wording_is_answered_whatever_it_reads_like(
    index: KeyIndex, router: Router, wording: str
) -> None:
    index.put([fact("odd", "Who runs Sarnix?", "Ann", wordings=(wording,))])
    assert own_wordings(index, router) == {}


def test_a_fact_that_its_own_words_do_not_lead_to_says_why(index: KeyIndex, router: Router) -> None:
    known = fact("odd", "Who runs Sarnix?", "Ann")
    index.put([known])
    index.entries["odd"].fact = known.model_copy(
        update={"question": "How heavy is Sarnix?"}
    )  # not what is indexed
    doubtful = own_wordings(index, router)
    assert set(doubtful) == {"odd"} and "too unlike" in doubtful["odd"]


def test_facts_that_one_question_means_alike_are_doubtful_and_name_nobody(
    index: KeyIndex, router: Router
) -> None:
    index.put([fact("twin", "Who is the boss of Quizzle?", "Omar", wordings=("Who runs Quizzle?",))])
    doubtful = own_wordings(index, router)
    assert "twin" in doubtful and "b2" in doubtful
    assert "means another fact as well" in doubtful["b2"]
    for reason in doubtful.values():
        assert not any(fact_id in reason for fact_id in index.entries), "its reader may not see that fact"


def test_of_many_facts_a_sample_is_asked_and_it_says_how_far_it_is(
    index: KeyIndex, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examining.checked(index) == sorted(index.entries), "all of a few"
    monkeypatch.setattr(examining, "MOST_CHECKED", 4)
    monkeypatch.setattr(examining, "TOLD_EVERY", 2)
    heard: list[tuple[int, int]] = []
    assert own_wordings(index, router, told=lambda done, of: heard.append((done, of))) == {}
    assert heard == [(2, 4), (4, 4)]
    chosen = examining.checked(index)
    assert list(chosen) == sorted(set(chosen)) and len(chosen) == 4


def test_a_fact_that_is_answered_alike_by_another_is_not_doubtful(index: KeyIndex, router: Router) -> None:
    index.put([fact("twin", "Who runs Quizzle?", "boss 2")])
    assert own_wordings(index, router) == {}


def test_counts_add_up_to_what_was_asked(index: KeyIndex, router: Router) -> None:
    numbers = examine(index, router, seed=3)
    asked = list(examination(index, seed=3))

    def count(group: str) -> int:
        return sum(exam.group == group for exam in asked)

    for group in ("taught", "unseen", "noisy"):
        counts = numbers[group]
        assert counts["of"] == count(group) == counts["right"] + counts["wrong"] + counts["refused"]
    assert {g: c["of"] for g, c in numbers["unknown"].items()} == {
        g: count(g) for g in ("far", "near", "look_alike")
    }
    assert numbers["general"]["of"] == len(GENERAL)


def test_a_closed_gate_invents_nothing_and_knows_what_it_was_taught(index: KeyIndex, router: Router) -> None:
    numbers = examine(index, router)
    assert numbers["taught"]["right"] == numbers["taught"]["of"] == len(FACTS)
    assert numbers["unseen"]["right"] == 0, "no wording that was taken away is known any more"
    assert all(counts["invented"] == 0 for counts in numbers["unknown"].values())


def test_an_open_gate_is_seen_to_invent(index: KeyIndex, router: Router) -> None:
    wide = replace(router, gate=router.gate | {"last_bias": torch.tensor(50.0)})
    numbers = examine(index, wide)
    assert any(counts["invented"] for counts in numbers["unknown"].values())


def test_a_wording_is_away_while_it_is_asked_for_and_back_afterwards(index: KeyIndex, router: Router) -> None:
    exam = Exam("unseen", FACTS[0].wordings[0], "b0", 1)
    assert examining._verdict(index, router, replace(exam, without=None)) == "right"
    assert examining._verdict(index, router, exam) == "refused"
    assert index.entries["b0"].fact == FACTS[0]


def test_an_examination_leaves_every_fact_in_its_place(index: KeyIndex, router: Router) -> None:
    first = examine(index, router)
    assert {entry.fact for entry in index.entries.values()} == set(FACTS)
    assert examine(index, router) == first


def test_facts_are_examined_as_if_they_were_valid(router: Router) -> None:
    late = fact("late", "Who runs Sarnix?", "Ann", valid_from=1e12, valid_until=2e12)
    index = router.index()
    index.put([late])
    assert examine(index, router)["taught"]["right"] == 0
    index.put(timeless([late]))
    assert examine(index, router)["taught"]["right"] == 1
    assert late.valid_from == 1e12
