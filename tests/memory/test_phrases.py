"""The lexicon: every relation can be asked for, is told apart, and its answers look like what is wanted."""

from __future__ import annotations

from random import Random

import pytest

from inhouse.memory.kinds import FITS, STORED, WANTED, stored_kind
from inhouse.memory.phrases import E, lookalike, made_answer, made_name, relations, vocabulary


def test_every_relation_has_its_own_id_and_wordings_with_a_place_for_the_name() -> None:
    ids = [relation.id for relation in relations()]
    assert len(ids) == len(set(ids)) > 300
    for relation in relations():
        assert relation.answer in WANTED, relation.id
        assert len(relation.asks) >= 8, relation.id
        assert all(ask.count(E) == 1 for ask in relation.asks), relation.id


def test_no_two_relations_are_asked_for_in_the_same_words() -> None:
    owners: dict[str, str] = {}
    for relation in relations():
        for ask in relation.asks:
            other = owners.setdefault(ask, relation.id)
            assert other == relation.id or of(other).is_like(relation), (ask, other, relation.id)


def of(id: str) -> object:
    (found,) = [relation for relation in relations() if relation.id == id]
    return found


@pytest.mark.parametrize("wanted", WANTED)
def test_made_up_answers_look_like_what_is_wanted(wanted: str) -> None:
    for seed in range(40):
        answer = made_answer(Random(seed), wanted)
        assert FITS[WANTED.index(wanted)][STORED.index(stored_kind(answer))] >= 0.2, answer


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("42 euros", "money"),
        ("$1,200", "money"),
        ("12 %", "percent"),
        ("March 4, 2021", "date"),
        ("2021-03-04", "date"),
        ("1987", "date"),
        ("10:30", "time"),
        ("3 months", "duration"),
        ("ann@example.org", "email"),
        ("https://example.org/x", "url"),
        ("+49 30 123456", "phone"),
        ("17", "number"),
        ("QX-1234", "code"),
        ("Lena Quorbe", "name"),
        ("No", "yesno"),
        ("the red one", "text"),
        ("", "text"),
    ],
)
def test_an_answer_s_kind_shows_by_its_form(answer: str, kind: str) -> None:
    assert stored_kind(answer) == kind


def test_a_look_alike_is_another_name() -> None:
    for seed in range(200):
        name = made_name(Random(seed))
        assert lookalike(Random(seed), name) != name


def test_the_vocabulary_knows_what_questions_are_made_of_and_no_name() -> None:
    words = vocabulary()
    assert all(words.is_common(word) for word in ("what", "price", "founded", "17"))
    assert not words.is_common("zorvex") and "VAT" in words.acronyms
