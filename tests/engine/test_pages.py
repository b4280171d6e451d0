"""No page is ever lost, held twice, given away while somebody reads it, or known for tokens that it does not hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine import prefixes
from inhouse.engine.pages import Pages

ROOT = prefixes.root_key("base", "project", None, None)


def keys_of(tokens: list[int], root: bytes = ROOT) -> list[bytes]:
    """Keys of the full pages, of four tokens each."""
    keys: list[bytes] = []
    prefixes.extend(keys, root, tokens, 4, len(tokens) // 4)
    return keys


def filled(pages: Pages, holder: str, tokens: list[int]) -> None:
    """A holder that has computed all the tokens, from what was known of them on."""
    known = pages.resume(holder, keys_of(tokens)) // 4
    assert pages.reserve(holder, len(tokens))
    pages.publish(holder, known, keys_of(tokens)[known:])


class Reader:
    """A cache that remembers which token was written where: what a table leads to must be the holder's tokens."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.written: dict[int, list[int]] = {}
        self.tokens: dict[int, list[int]] = {}

    def start(self, holder: int, tokens: list[int]) -> None:
        known = self.pages.resume(holder, keys_of(tokens)) // 4
        if not self.pages.reserve(holder, len(tokens)):
            self.pages.release(holder)
            return
        for place, page in list(enumerate(self.pages.table(holder)))[known:]:
            self.written[page] = tokens[4 * place : 4 * place + 4]
        self.pages.publish(holder, known, keys_of(tokens)[known:])
        self.tokens[holder] = tokens

    def check(self) -> None:
        self.pages.check_integrity()
        for holder, tokens in self.tokens.items():
            read = [token for page in self.pages.table(holder) for token in self.written[page]]
            assert read == tokens


prompts = st.lists(st.integers(0, 1), min_size=1, max_size=20)
operations = st.lists(
    st.tuples(st.sampled_from(["start", "release", "fail"]), st.integers(0, 4), prompts), max_size=60
)


@given(operations=operations)
def test_random_use_keeps_every_page_accounted_for(operations: list[tuple[str, int, list[int]]]) -> None:
    reader = Reader(Pages(10, 4))
    for kind, holder, tokens in operations:
        if kind != "start":
            reader.pages.release(holder, keeps=kind == "release")
            reader.tokens.pop(holder, None)
        elif not reader.pages.table(holder):
            reader.start(holder, tokens)
        reader.check()
    for holder in range(5):
        reader.pages.release(holder)
    assert reader.pages.free == 10


def test_without_enough_free_pages_nothing_changes() -> None:
    pages = Pages(4, 4)
    pages.reserve("first", 9)
    assert not pages.reserve("second", 5)
    assert not pages.reserve("first", 17)
    assert (pages.free, len(pages.table("first")), pages.table("second")) == (1, 3, [])


def test_a_shared_page_is_free_only_when_the_last_holder_let_go() -> None:
    pages = Pages(4, 4)
    filled(pages, "first", [1] * 10)
    assert pages.resume("second", keys_of([1] * 8)) == 8
    assert pages.table("second") == pages.table("first")[:2]
    assert (pages.sole("first"), pages.sole("second")) == (1, 0)
    pages.release("first")
    assert pages.free == 2
    pages.release("second")
    assert pages.free == 4


def test_pages_stay_known_until_they_are_wanted_the_longest_unused_first() -> None:
    pages = Pages(4, 4)
    for name, token in (("a", 1), ("b", 2)):
        filled(pages, name, [token] * 8)
        pages.release(name)
    assert pages.resume("a", keys_of([1] * 8)) == 8
    pages.release("a")
    pages.reserve("c", 8)
    assert pages.prefixes.run(keys_of([2] * 8)) == [], "b was the longest unused"
    assert len(pages.prefixes.run(keys_of([1] * 8))) == 2
    pages.reserve("c", 12)
    assert len(pages.prefixes.run(keys_of([1] * 8))) == 1, "of a run, the end goes first"


def test_a_key_stands_for_all_tokens_before_it() -> None:
    assert keys_of([1, 2, 3, 4, 5, 6, 7, 8])[1] != keys_of([9, 2, 3, 4, 5, 6, 7, 8])[1]
    assert keys_of([1] * 8)[0] != keys_of([1] * 8)[1]


def test_a_key_stands_for_base_project_adapter_and_expert() -> None:
    parts = ("base", "project", "adapter", "expert")
    roots = {prefixes.root_key(*(None if i == j else part for j, part in enumerate(parts))) for i in range(5)}
    assert len(roots) == 5
    assert prefixes.root_key("a", "b") != prefixes.root_key("ab", ""), "two parts ran together"


def lose(pages: Pages) -> None:
    pages._free.pop()


def free_twice(pages: Pages) -> None:
    pages._free.append(pages._free[0])


def free_while_held(pages: Pages) -> None:
    pages._free.append(pages.table("holder")[0])


def known_while_free(pages: Pages) -> None:
    pages.prefixes.add(b"other", pages._free[0])


def idle_while_held(pages: Pages) -> None:
    pages.prefixes.rest(pages.table("holder")[0])


@pytest.mark.parametrize("fault", [lose, free_twice, free_while_held, known_while_free, idle_while_held])
def test_check_integrity_finds(fault: Callable[[Pages], None]) -> None:
    pages = Pages(4, 4)
    filled(pages, "holder", [1] * 8)
    pages.check_integrity()
    fault(pages)
    with pytest.raises(AssertionError):
        pages.check_integrity()
