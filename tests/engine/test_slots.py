"""An adapter in use stays where it is; the others make room, the longest unused first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.slots import Slots


def test_an_adapter_is_loaded_once_and_found_again() -> None:
    slots = Slots(2)
    assert slots.acquire("a") == (0, True)
    assert slots.acquire("a") == (0, False)
    slots.release("a")
    slots.release("a")
    assert slots.acquire("a") == (0, False)


def test_the_least_recently_used_unpinned_adapter_makes_room() -> None:
    slots = Slots(2)
    for digest in ("a", "b", "a"):
        slots.acquire(digest)
        slots.release(digest)
    assert slots.acquire("c") == (1, True)  # b's
    assert slots.acquire("a") == (0, False)


def test_a_pinned_adapter_is_never_put_out() -> None:
    slots = Slots(1)
    slots.acquire("a")
    assert slots.acquire("b") is None
    slots.release("a")
    assert slots.acquire("b") == (0, True)


def test_two_are_pinned_together_or_not_at_all() -> None:
    slots = Slots(2)
    assert slots.acquire_all(("a", "e1")) == {"a": (0, True), "e1": (1, True)}
    assert slots.acquire_all(("a", "e2")) is None
    assert (slots.pins, slots.resident) == (2, 2), "half of a pair was taken"
    assert slots.acquire_all(("e1", "a")) == {"e1": (1, False), "a": (0, False)}
    assert slots.acquire_all(()) == {}


def test_one_of_a_pair_never_puts_out_the_other() -> None:
    slots = Slots(2)
    for digest in ("e", "a"):  # e is the longest unused: the first to make room
        slots.acquire(digest)
        slots.release(digest)
    assert slots.acquire_all(("b", "e")) == {"e": (0, False), "b": (1, True)}
    slots.check_integrity()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcde"))))
def test_random_use_keeps_every_slot_accounted_for(uses: list[tuple[bool, str]]) -> None:
    slots = Slots(3)
    pinned: dict[str, tuple[int, int]] = {}  # digest → (slot, pins)
    for takes, digest in uses:
        slot, pins = pinned.get(digest, (-1, 0))
        if takes:
            place = slots.acquire(digest)
            assert (place is None) == (not pins and len(pinned) == 3)
            if place is not None:
                assert not pins or place == (slot, False)
                pinned[digest] = (place[0], pins + 1)
        elif pins:
            slots.release(digest)
            pinned[digest] = (slot, pins - 1)
            if pins == 1:
                del pinned[digest]
        slots.check_integrity()
        assert slots.pins == sum(p for _, p in pinned.values())
        assert len({s for s, _ in pinned.values()}) == len(pinned)
