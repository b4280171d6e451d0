"""Texts made to cost: each of these once took minutes, or memory without end. A hang is what the time limit sees."""

from __future__ import annotations

import pytest

from inhouse.memory.asking import asking
from inhouse.memory.index import KeyIndex
from inhouse.memory.kinds import LONGEST_KIND, stored_kind
from inhouse.memory.names import NameMatch, rivals
from inhouse.memory.router import Router
from inhouse.memory.routing import MOST_CHARACTERS, decide
from inhouse.memory.words import LONGEST_NAMED, MOST_LETTERS, without_one_letter, words_of
from inhouse.schema import Fact, Message

pytestmark = pytest.mark.timeout(300)

HOSTILE = {
    "no end of a sentence": "a" * 20_000 + "?b",
    "nothing but ends": "?.!" * 10_000,
    "one word": "x" * 100_000,
    "half-said names": "Zorvex " * 3_000,
    "apostrophes": "'s" * 20_000,
    "hyphens": "A-1-" * 10_000,
    "lines": "\n" * 50_000 + "Who runs Zorvex A17?",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_message_holds_the_bank_up(router: Router, text: str) -> None:
    index: KeyIndex = router.index()
    index.put(
        Fact(id=f"f{i}", bank="b", revision=1, question=f"Who runs Zorvex A{i}?", answer="Ann")
        for i in range(200)
    )
    asking(text)
    for asked in (text, text[: MOST_CHARACTERS - 1]):
        decide(index, router, [Message(role="user", content=asked)], refuses=True, now=0.0)


def test_no_answer_holds_its_kind_up() -> None:
    assert stored_kind("2024: " + "10245678 " * 12 + "(all sites)") == "text"
    assert stored_kind("1" * 5_000) == "text" and stored_kind("1" * (LONGEST_KIND - 1)) != "text"
    assert stored_kind("a@" * 50_000) == "text"


def test_a_long_word_has_no_near_spellings_and_is_cut() -> None:
    assert without_one_letter("z" * (LONGEST_NAMED + 1)) == {"z" * (LONGEST_NAMED + 1)}
    assert len(without_one_letter("zorvexa")) == 8
    (word,) = words_of("y" * 10_000)
    assert len(word.text) == MOST_LETTERS and word.end == 10_000


def test_rivals_are_other_names_in_the_same_place() -> None:
    meant = NameMatch("zorvex", 2, 3, cost=0.9)
    others = [NameMatch("zorven", 2, 3), NameMatch("zorvex", 2, 3), NameMatch("plimsor", 5, 6)]
    assert [other.key for other in rivals(meant, others)] == ["zorven"]
