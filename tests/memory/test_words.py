"""Words and slips: what is the same word, what is one finger's fault, and what is another word."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.memory import words
from inhouse.memory.words import fold, slip_cost, trigrams, without_one_letter, words_of

LETTERS = st.text(alphabet="abcdeilmnoprstz", min_size=1, max_size=10)
CODES = st.text(alphabet="abxy0129", min_size=1, max_size=8)


def texts(text: str) -> list[str]:
    return [word.text for word in words_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Crème BRÛLÉE’s", ["creme", "brulee"]),
        ("the dogs' lead", ["the", "dogs", "lead"]),
        ("Straße ²", ["strasse", "2"]),
        ("ＡＢ-12_x", ["ab", "12", "x"]),
        ("… — !?", []),
        ("", []),
    ],
)
def test_case_accents_forms_and_possessives_do_not_make_another_word(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@pytest.mark.parametrize("apostrophe", "'’`´")
def test_an_apostrophe_is_the_same_however_it_is_typed(apostrophe: str) -> None:
    assert texts(f"O{apostrophe}Brien{apostrophe}s") == ["obrien"]


@given(st.text(max_size=60))
def test_a_word_s_places_are_where_it_stands(text: str) -> None:
    end = 0
    for word in words_of(text):
        assert word.start >= end
        assert text[word.start : word.end] == word.raw
        assert word.text and " " not in word.text
        end = word.end


@given(st.text(max_size=20))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(LETTERS)
def test_a_word_is_no_slip_of_itself(word: str) -> None:
    assert slip_cost(word, word) == 0


@given(LETTERS, LETTERS)
def test_another_word_always_costs_something(typed: str, meant: str) -> None:
    assert typed == meant or slip_cost(typed, meant) > 0


@given(CODES, CODES)
def test_no_slip_changes_adds_or_loses_a_figure(typed: str, meant: str) -> None:
    if slip_cost(typed, meant) < math.inf:
        assert [c for c in typed if c.isdigit()] == [c for c in meant if c.isdigit()]


def test_a_changed_figure_would_pass_if_it_cost_what_a_letter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slip_cost("a18", "a17") == math.inf
    monkeypatch.setattr(words, "_substitution", lambda typed, meant: 0.9 * (typed != meant))
    assert slip_cost("a18", "a17") == 0.9


@pytest.mark.parametrize(
    "typed",
    ["zovrex", "zorex", "zorrvex", "zorbex", "zorvexx"],
    ids=["swapped", "left out", "doubled", "the next key", "doubled at the end"],
)
def test_one_slip_of_a_finger_costs_about_one(typed: str) -> None:
    assert 0.5 < slip_cost(typed, "zorvex") <= 1.0


def test_a_letter_that_no_finger_explains_costs_more_than_a_slip() -> None:
    assert slip_cost("zorpex", "zorvex") == words.CHANCE > slip_cost("zorbex", "zorvex")


@given(LETTERS, LETTERS)
def test_beyond_the_most_it_is_another_word(typed: str, meant: str) -> None:
    cost = slip_cost(typed, meant, most=1.0)
    assert cost <= 1.0 or cost == math.inf


@given(LETTERS, st.integers(0, 9))
def test_a_lost_letter_is_found_by_what_is_left(word: str, place: int) -> None:
    typed = word[: place % len(word)] + word[place % len(word) + 1 :]
    assert without_one_letter(word) & without_one_letter(typed)


def test_words_that_are_spelt_alike_share_trigrams() -> None:
    one, near, far = trigrams("invoice"), trigrams("invoices"), trigrams("holiday")
    assert len(one & near) > 4 and not one & far
    assert trigrams("a") == {"^a$"}
