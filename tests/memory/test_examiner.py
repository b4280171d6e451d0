"""The examination: a function of facts and seed, in words that no training saw, about strangers that are none."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from inhouse.memory import examiner
from inhouse.memory.examiner import Exam, examination, spoilt, turned, without
from inhouse.memory.index import KeyIndex
from inhouse.memory.names import key_of
from inhouse.memory.phrases import FRAMES, general, leads, relations, tails
from inhouse.memory.router import Router
from inhouse.memory.words import words_of
from inhouse.schema import Fact
from tests.memory.conftest import fact

pytestmark = pytest.mark.timeout(600)  # the first test that needs a router makes it

FIRMS = ("Brightoak Motors", "Plimsor Foods", "Quizzle", "Gribnak Labs", "Tarvo Group")
FACTS = (
    *(
        fact(f"p{n}", f"What is the price of Zorvex A{n}?", f"{n} euros", wordings=(f"Zorvex A{n} price",))
        for n in (17, 18, 29)
    ),
    *(
        fact(f"b{i}", f"Who runs {name}?", f"boss {i}", wordings=(f"Who is the head of {name}?",))
        for i, name in enumerate(FIRMS)
    ),
    fact("year", "When was Brightoak Motors founded?", "1987"),
    fact("limit", "What is the approval limit for travel?", "500 euros"),
)


def exams(index: KeyIndex, facts: tuple[Fact, ...] = FACTS, seed: int = 0) -> list[Exam]:
    index.put(facts)
    return list(examination(index, seed=seed))


def test_the_questions_are_a_function_of_the_facts_and_the_seed(router: Router) -> None:
    one = exams(router.index())
    assert exams(router.index(), tuple(reversed(FACTS))) == one, "the order they came in does not matter"
    assert exams(router.index(), seed=1) != one
    assert exams(router.index(), FACTS[:-1]) != one


def test_an_examination_leaves_the_index_as_it_was(index: KeyIndex) -> None:
    exams(index)
    entries, keys = dict(index.entries), index.keys.copy()
    list(examination(index))
    assert index.entries == entries and bool((index.keys == keys).all())


def test_every_fact_is_asked_as_taught_in_other_words_and_misspelt(index: KeyIndex) -> None:
    asked = Counter((exam.fact, exam.group) for exam in exams(index) if exam.fact)
    for known in FACTS:
        texts = {known.question, *known.wordings}
        assert asked[known.id, "taught"] == asked[known.id, "noisy"] == 1
        assert asked[known.id, "unseen"] == (2 if len(texts) > 1 else 1)
    for exam in exams(index):
        known = {f.id: f for f in FACTS}.get(exam.fact or "")
        if exam.group == "taught" and known:
            assert exam.text in (known.question, *known.wordings)
        if exam.without is not None and known:
            assert exam.text == (known.question, *known.wordings)[exam.without]
            assert exam.text not in (lambda f: (f.question, *f.wordings))(without(known, exam.without))


def test_a_question_about_a_stranger_names_nobody_in_the_bank(index: KeyIndex) -> None:
    for seed in range(20):
        strangers = [exam for exam in exams(index, seed=seed) if exam.group in ("far", "look_alike")]
        assert {exam.group for exam in strangers} == {"far", "look_alike"}
        for exam in strangers:
            words = words_of(exam.text)
            keys = {key_of(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1)}
            known = {name for name in index.by_name if name in keys}
            assert exam.fact is None and not known, exam.text


def test_a_stranger_would_be_asked_for_by_name_if_nobody_looked(
    index: KeyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "_nearly", lambda random, name: name)
    assert not [exam for exam in exams(index) if exam.group == "look_alike"]


def test_what_a_known_subject_is_asked_but_was_not_taught_is_in_no_fact(index: KeyIndex) -> None:
    taught = {text for known in FACTS for text in (known.question, *known.wordings)}
    near = [exam.text for seed in range(20) for exam in exams(index, seed=seed) if exam.group == "near"]
    assert near and not set(near) & taught


def test_unseen_questions_are_framed_as_no_training_is() -> None:
    learnt = {shape(frame) for frame in (*FRAMES, *leads(), *tails())}
    learnt |= {shape(ask) for relation in relations() for ask in relation.asks}
    for frame in (*examiner._FRAMES, *examiner._TURNED):
        assert shape(frame) and shape(frame) not in learnt
        assert not any(shape(lead) in shape(frame) for lead in leads() if " " in lead), frame


def shape(frame: str) -> str:
    """The words of a frame around its places."""
    return " ".join(word.text for word in words_of(re.sub(r"\{\w+\}", " ", frame)))


def test_general_questions_are_not_those_of_training() -> None:
    assert not {shape(text) for text in examiner.GENERAL} & {shape(text) for text in general()}
    assert len(set(examiner.GENERAL)) == len(examiner.GENERAL)


@pytest.mark.parametrize(
    "question", ["What is the price of Zorvex A17?", "who runs Quizzle", "Zorvex A17 price"]
)
def test_a_turned_question_still_says_all_that_is_asked(question: str) -> None:
    for seed in range(30):
        said = {word.text for word in words_of(turned(Random(seed), question))}
        assert turned(Random(seed), question) != question
        assert {word.text for word in words_of(question)} - said <= {"what", "is", "who", "runs"}
        assert "zorvex" not in question.casefold() or {"zorvex", "a17"} <= said


def test_a_spoilt_question_keeps_every_figure() -> None:
    question = "What is the price of Zorvex A17 over 500 euros?"
    texts = {spoilt(Random(seed), question) for seed in range(100)}
    assert len(texts) > 20
    for text in texts:
        assert re.findall(r"\d+", text) == ["17", "500"]


@pytest.mark.parametrize("text", ["?", "", "Hi", "12 34", "é"])
def test_any_question_can_be_turned_and_spoilt(text: str) -> None:
    for seed in range(30):
        assert isinstance(turned(Random(seed), text) + spoilt(Random(seed), text), str)


def test_of_a_large_bank_a_sample_is_examined(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "MOST_ASKED", 4)
    asked = {exam.fact for exam in exams(router.index()) if exam.fact}
    assert len(asked) == 4


def test_a_fact_without_a_wording_keeps_the_others() -> None:
    known = fact("a", "One?", "1", wordings=("Two?", "Three?"))
    assert without(known, 0).question == "Two?" and without(known, 0).wordings == ("Three?",)
    assert without(known, 2).wordings == ("Two?",)
