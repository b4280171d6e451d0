"""No page is ever lost, held twice, or given away while somebody reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.pages import Pages

Operation = tuple[str, int, int]
operations = st.lists(
    st.tuples(st.sampled_from(["reserve", "release", "share"]), st.integers(0, 4), st.integers(0, 40))
)


@given(operations=operations)
def test_random_use_keeps_every_page_accounted_for(operations: list[Operation]) -> None:
    pages = Pages(10, 4)
    for kind, holder, tokens in operations:
        if kind == "reserve":
            before = pages.free
            had = len(pages.table(holder))
            fits = pages.reserve(holder, tokens)
            assert fits == (pages.needed(tokens) - had <= before)
            assert fits or (pages.free == before and len(pages.table(holder)) == had)
        elif kind == "release":
            pages.release(holder)
        elif not pages.table(holder + 1):
            pages.release(holder + 1)
            shared = pages.share(holder, holder + 1, tokens)
            assert shared <= tokens and shared % 4 == 0
        pages.check_integrity()
    for holder in range(6):
        pages.release(holder)
    assert pages.free == 10


def test_a_shared_page_is_free_only_when_the_last_holder_let_go() -> None:
    pages = Pages(4, 4)
    pages.reserve("first", 10)
    assert pages.share("first", "second", 10) == 8
    assert pages.table("second") == pages.table("first")[:2]
    pages.release("first")
    assert pages.free == 2
    pages.release("second")
    assert pages.free == 4


@pytest.mark.parametrize("fault", ["lost", "free twice", "held and free"])
def test_check_integrity_finds(fault: str) -> None:
    pages = Pages(4, 4)
    pages.reserve("holder", 8)
    pages.check_integrity()
    if fault == "lost":
        pages._free.pop()
    elif fault == "free twice":
        pages._free.append(pages._free[0])
    else:
        pages._free.append(pages.table("holder")[0])
    with pytest.raises(AssertionError):
        pages.check_integrity()
