"""The key index: facts by name and by key, and nothing of a fact that is gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inhouse.memory.evidence import candidates, read
from inhouse.memory.index import AMBIENT_LEAST, KeyIndex, masked, take_apart
from inhouse.memory.names import MASK
from inhouse.memory.phrases import vocabulary
from inhouse.memory.router import Router
from inhouse.memory.words import words_of
from inhouse.schema import Fact
from tests.memory.conftest import fact
from tests.memory.graph import holders_of

pytestmark = pytest.mark.timeout(600)  # the first test that needs a router makes it

PRICE = fact("price", "What is the price of Zorvex A17?", "42 euros", wordings=("Zorvex A17 price",))
OTHER = fact("other", "What is the price of Zorvex A18?", "43 euros")
BOSS = fact("boss", "Who runs Brightoak Motors?", "Lena", subject="Brightoak Motors", aliases=("BM",))
BOSS_AGAIN = fact("boss", "Who heads Brightoak?", "Omar", subject="Brightoak")
LIMIT = fact("limit", "What is the approval limit for travel over 500 euros?", "the board")
LONG = fact("long", "Who runs Plimsor?", "Ann", wordings=("Who is the head of Plimsor?", "price of Plimsor"))
POOL = (PRICE, OTHER, BOSS, BOSS_AGAIN, LIMIT, LONG)
QUESTIONS = (
    "what is the price of zorvex a17",
    "Who is the head of Brightoak Motors?",
    "limit for travel?",
    "Hello!",
)


def test_facts_that_are_asked_for_in_the_same_words_share_a_key(index: KeyIndex) -> None:
    index.put([PRICE, OTHER])
    assert index.entries["price"].rows[0] == index.entries["other"].rows[0]
    assert index.by_row[index.entries["price"].rows[0]] == {"price", "other"}
    assert len(index.keys) == 2


def test_a_fact_is_found_by_every_name_of_its_subject(index: KeyIndex) -> None:
    index.put([BOSS])
    assert dict(index.by_name) == {"brightoakmotors": {"boss"}, "bm": {"boss"}}
    assert [m.key for m in index.names.find(words_of("who runs bm"))] == ["bm"]


def test_a_wording_is_taken_apart_into_names_figures_and_the_rest() -> None:
    wording = take_apart("What does Zorvex A17 cost over 500 euros?", PRICE, vocabulary())
    assert wording.names == (frozenset({"zorvexa17"}),)
    assert wording.masked == ("what", "does", MASK, "cost", "over", "500", "euros")
    assert wording.numbers == ("500",)


def test_a_given_subject_is_masked_where_it_stands_even_without_capitals() -> None:
    given_ = fact("a", "how big is the east wing", "big", subject="east wing", aliases=("the old wing",))
    wording = take_apart(given_.question, given_, vocabulary())
    assert wording.masked == ("how", "big", "is", "the", MASK)
    assert wording.names == (frozenset({"eastwing", "theoldwing"}),)
    plain = given_.model_copy(update={"subject": None, "aliases": ()})
    assert MASK not in take_apart(plain.question, plain, vocabulary()).masked


def test_names_side_by_side_are_one_mask() -> None:
    words = words_of("is Ann Bob there")
    assert masked(words, [(1, 2), (2, 3)]) == ("is", MASK, "there")
    assert masked(words, [(1, 2)], {2: "really"}) == ("is", MASK, "really", "bob", "there")


def test_putting_a_fact_again_replaces_it(index: KeyIndex) -> None:
    index.put([BOSS])
    index.put([BOSS_AGAIN])
    assert [entry.fact for entry in index.entries.values()] == [BOSS_AGAIN]
    assert (
        set(index.by_name) == {"brightoak"} and "brightoakmotors" not in index.names and len(index.keys) == 1
    )


def test_of_one_fact_given_twice_at_once_the_last_stays(index: KeyIndex) -> None:
    index.put([BOSS, BOSS_AGAIN])
    fresh = KeyIndex(index.encoder, index.vocabulary)
    fresh.put([BOSS_AGAIN])
    assert contents(index) == contents(fresh)


def test_a_name_that_stands_in_many_facts_need_not_be_said(index: KeyIndex) -> None:
    at = [fact(f"f{i}", f"Which fruit number {i} is sold at Plimsor?", "yes") for i in range(AMBIENT_LEAST)]
    index.put(at[:-1])
    assert not index.is_ambient("plimsor")
    index.put(at[-1:])
    assert index.is_ambient("plimsor") and not index.is_ambient("zorvexa17")
    index.put(fact(f"g{i}", f"Who runs Quorbe{i}?", "Ann") for i in range(5 * AMBIENT_LEAST))
    assert not index.is_ambient("plimsor"), "its share is small by now"


def test_nothing_of_a_discarded_fact_is_in_any_structure(index: KeyIndex) -> None:
    index.put([LONG, BOSS, PRICE])
    assert holders_of(index, "plimsor") and holders_of(index, "Ann")
    index.discard("long")
    assert holders_of(index, "plimsor", besides=(index.encoder, index.vocabulary)) == []
    assert holders_of(index, "Ann", besides=(index.encoder, index.vocabulary)) == []
    index.discard("unheard of")


def test_the_place_of_a_discarded_key_is_wiped(index: KeyIndex) -> None:
    index.put([PRICE, LIMIT])
    row = index.entries["limit"].rows[0]
    behind, key = index.keys, index.keys[row].copy()
    index.discard("limit")
    assert not (behind == key).all(1).any(), "the key lies in memory that is still held"


def test_what_is_kept_of_closeness_is_what_it_would_be_anew(
    index: KeyIndex, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.put(POOL)
    rows = index.entries["long"].rows
    kept = [index.between(rows, router.anchors) for _ in range(2)]
    monkeypatch.setattr("inhouse.memory.index.MOST_BETWEEN", 0)  # as if it were too large to keep them
    anew = index.between(rows, router.anchors)
    assert anew.shape == (len(rows), len(index.keys) + len(router.anchors))
    assert all(np.allclose(some, anew, atol=1e-5) for some in kept)
    middle, cosines = index.middle(rows, router.anchors)
    assert np.linalg.norm(middle) == pytest.approx(1.0)
    assert np.allclose(cosines, router.anchors @ middle, atol=1e-5)
    assert index.middle(rows, router.anchors)[0] is middle, "it is kept"


def test_nothing_is_kept_of_keys_that_are_gone(index: KeyIndex, router: Router) -> None:
    index.put(POOL)
    index.between(index.entries["long"].rows, router.anchors)
    index.middle(index.entries["long"].rows, router.anchors)
    assert index._between is not None and index._middles
    middle, _ = index.middle(index.entries["long"].rows, router.anchors)
    index.discard("long")
    assert index._between is None and not index._middles
    assert not middle.any(), "for a fact of one wording it is the key itself"


def test_nothing_is_kept_of_a_fact_whose_keys_others_share(index: KeyIndex, router: Router) -> None:
    index.put([PRICE, OTHER])
    index.middle(index.entries["other"].rows, router.anchors)
    index.discard("other")
    assert len(index.keys) == 2 and not index._middles


def test_an_empty_index_has_no_keys_left(index: KeyIndex) -> None:
    index.put(POOL)
    for known in POOL:
        index.discard(known.id)
    assert contents(index) == contents(KeyIndex(index.encoder, index.vocabulary))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(POOL), max_size=3)), max_size=8))
def test_after_any_history_the_index_is_a_fresh_one_of_what_is_left(
    router: Router, history: list[tuple[bool, list[Fact]]]
) -> None:
    index = router.index()
    left: dict[str, Fact] = {}
    for is_put, chosen in history:
        if is_put:
            batch = {known.id: known for known in chosen}
            index.put(batch.values())
            left |= batch
        for known in () if is_put else chosen:
            index.discard(known.id)
            left.pop(known.id, None)
    fresh = router.index()
    fresh.put(left.values())
    assert contents(index) == contents(fresh)
    for question in QUESTIONS:
        aged, new = evidence(index, question, router), evidence(fresh, question, router)
        assert aged.keys() == new.keys()
        for fact_id, features in aged.items():
            assert features == pytest.approx(new[fact_id], abs=1e-4)


def contents(index: KeyIndex) -> dict[str, Any]:
    """What an index holds, whatever the order of its rows."""
    for words, row in index._rows.items():
        assert index._row_words[row] == words
        assert np.array_equal(index.keys[row], index.encoder.keys([words])[0])
    assert len(index.keys) == len(index.by_row) == len(index._rows) == len(index._row_words)
    return {
        "entries": {i: (e.fact, e.wordings) for i, e in index.entries.items()},
        "rows": {i: [index._row_words[row] for row in e.rows] for i, e in index.entries.items()},
        "by_name": dict(index.by_name),
        "by_key": {words: index.by_row[row] for words, row in index._rows.items()},
        "kin": kin(index),
        "names": index.names._names,
        "counts": dict(index.names._counts),
        "words": dict(index.names._words),
        "near": dict(index.names._near),
    }


def kin(index: KeyIndex) -> tuple[object, object]:
    """Which wordings ask the same, and which stand beside each other, by their words."""
    said = {
        relation: frozenset(index._row_words[row] for row in rows)
        for relation, rows in index.kin.rows_of.items()
    }
    return set(said.values()), {
        said[relation]: {said[mate] for mate in mates} for relation, mates in index.kin.beside.items()
    }


def evidence(index: KeyIndex, question: str, router: Router) -> dict[str, list[float]]:
    found = candidates(index, read(index, question), router.anchors)
    return {c.entry.fact.id: c.features for c in found}
