"""What a message wants: a stored answer may be given as it is only to a direct question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.memory.asking import LONGEST_QUESTION, MOST_CLAUSES, asking


@pytest.mark.parametrize(
    "text",
    [
        "What is the price of Zorvex?",
        "price zorvex",
        "Tell me the price of Zorvex.",
        "Please, could you tell me who runs Zorvex?",
        "I am new here. What is the price of Zorvex?",
        "Hello!",
    ],
)
def test_a_question_and_a_request_to_tell_are_direct(text: str) -> None:
    found = asking(text)
    assert found.is_direct and not found.brings_text


@pytest.mark.parametrize(
    "text",
    [
        "Write a mail to Zorvex about the price.",
        "Please draft a letter that names the price of Zorvex.",
        "Return the price of Zorvex as JSON",
        "The price of Zorvex, as a haiku?",
        "Compare the price of Zorvex with that of Plimsor.",
        "What is the price of Zorvex? Write it as a poem.",
        " ".join(["price"] * (LONGEST_QUESTION + 1)),
        "",
        "?!",
    ],
)
def test_a_task_is_never_direct(text: str) -> None:
    assert not asking(text).is_direct


@pytest.mark.parametrize(
    "text",
    [
        "The shop opens at nine and closes at six each day. When does it close?",
        "Zorvex costs 40 euros. What does it cost?",
        "Passage: The shop opens at nine. When does the shop close today?",
        "According to the text, when does the shop of the Zorvex people close?",
        "Translate: the train is late.",
        "Correct the spelling of what I wrote here",
        "Summarise what Zorvex did in the last year",
    ],
)
def test_who_brings_a_text_wants_the_answer_from_there(text: str) -> None:
    found = asking(text)
    assert found.brings_text and not found.is_direct


def test_comparing_shows_by_its_words() -> None:
    assert asking("Is Zorvex cheaper than Plimsor?").compares
    assert not asking("What is the price of Zorvex?").compares


def test_clauses_begin_with_the_whole_and_hold_the_parts_that_ask() -> None:
    text = "Write a mail to Ann, including the price of Zorvex and the opening hours of Plimsor."
    clauses = asking(text).clauses
    assert clauses[0] == text
    assert {"the price of Zorvex", "the opening hours of Plimsor"} <= set(clauses)


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text: str) -> None:
    found = asking(text)
    assert not (found.is_direct and found.brings_text)
    assert 1 <= len(found.clauses) <= MOST_CLAUSES and found.clauses[0] == text
