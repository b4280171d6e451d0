"""An adapter in use stays on the device; the others make room, the longest unused first. Room is rank rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.slots import Slots


def use(slots: Slots, key: str, rows: int = 1) -> bool | None:
    """Pins one and lets it go; whether it had to be loaded, None where there was no room."""
    taken = slots.acquire_all({key: rows})
    if taken is None:
        return None
    slots.release(key)
    return taken[key]


def test_an_adapter_is_loaded_once_and_found_again() -> None:
    slots = Slots(2)
    assert slots.acquire_all({"a": 1}) == {"a": True}
    assert slots.acquire_all({"a": 1}) == {"a": False}
    slots.release("a")
    slots.release("a")
    assert use(slots, "a") is False
    assert slots.slot("a") == 0 and slots.slot("b") is None


def test_the_least_recently_used_unpinned_adapter_makes_room() -> None:
    slots = Slots(2)
    for key in ("a", "b", "a", "c"):
        use(slots, key)
    assert (slots.slot("a"), slots.slot("b"), slots.slot("c")) == (0, None, 1)
    assert slots.take_evicted() == (1,)
    assert slots.take_evicted() == ()


def test_as_many_make_room_as_the_new_one_has_rows() -> None:
    slots = Slots(10)
    for key, rows in (("a", 4), ("b", 2), ("c", 4)):
        use(slots, key, rows)
    assert use(slots, "d", 6)
    assert (slots.resident, slots.slot("c")) == (2, 2)
    assert set(slots.take_evicted()) == {0, 1}


def test_a_pinned_adapter_is_never_put_out() -> None:
    slots = Slots(2)
    slots.acquire_all({"a": 1})
    assert slots.acquire_all({"b": 2}) is None
    slots.release("a")
    assert slots.acquire_all({"b": 2}) == {"b": True}


def test_two_are_pinned_together_or_not_at_all() -> None:
    slots = Slots(2)
    assert slots.acquire_all({"a": 1, "e1": 1}) == {"a": True, "e1": True}
    assert slots.acquire_all({"a": 1, "e2": 1}) is None
    assert (slots.pins, slots.resident) == (2, 2), "half of a pair was taken"
    assert slots.acquire_all({"e1": 1, "a": 1}) == {"e1": False, "a": False}
    assert slots.acquire_all({}) == {}


def test_one_of_a_pair_never_puts_out_the_other() -> None:
    slots = Slots(2)
    for key in ("e", "a"):  # e is the longest unused: the first to make room
        use(slots, key)
    assert slots.acquire_all({"b": 1, "e": 1}) == {"b": True, "e": False}
    slots.check_integrity()


def test_those_in_use_stay_within_their_share_unless_told_beyond() -> None:
    slots = Slots(20, together=8)
    assert slots.acquire_all({"a": 6}) is not None
    assert slots.acquire_all({"b": 6}) is None
    assert slots.acquire_all({"b": 6}, beyond=True) is not None
    for key in "ab":
        slots.release(key)
    assert slots.acquire_all({"c": 15}) is not None, "one alone may be larger than the share"
    assert slots.acquire_all({"a": 6}, beyond=True) is None, "nothing is larger than the device"


ROWS = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 8}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcde"))))
def test_random_use_keeps_every_row_accounted_for(uses: list[tuple[bool, str]]) -> None:
    slots = Slots(9)
    pins: dict[str, int] = {}
    where: dict[str, int] = {}
    for takes, key in uses:
        if takes:
            pinned = sum(ROWS[other] for other in pins if other != key)
            taken = slots.acquire_all({key: ROWS[key]})
            assert (taken is None) == (key not in pins and pinned + ROWS[key] > 9)
            if taken is not None:
                assert key not in pins or (not taken[key] and slots.slot(key) == where[key])
                pins[key] = pins.get(key, 0) + 1
                where[key] = slots.slot(key) or 0
        elif key in pins:
            slots.release(key)
            pins[key] -= 1
            if not pins[key]:
                del pins[key]
        slots.check_integrity()
        assert slots.pins == sum(pins.values())
        assert len({where[key] for key in pins}) == len(pins)
