"""Ranges of rank rows never overlap, and a place is found as long as all rows together fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.ranges import Move, Range, Ranges


class Rows:
    """Rows that remember whose they are, moved as they are told to be."""

    def __init__(self, count: int) -> None:
        self.ranges = Ranges(count)
        self.owner = [-1] * count

    def place(self, holder: int, rows: int) -> tuple[Move, ...]:
        moves = self.ranges.place(holder, rows)
        for move in moves:
            self.owner[move.target : move.target + move.rows] = self.owner[
                move.source : move.source + move.rows
            ]
        at = self.ranges.at(holder)
        self.owner[at.start : at.stop] = [holder] * rows
        return moves

    def check(self, held: dict[int, int]) -> None:
        self.ranges.check_integrity()
        for holder, rows in held.items():
            at = self.ranges.at(holder)
            assert self.owner[at.start : at.stop] == [holder] * rows


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 9)), max_size=60))
def test_what_a_holder_wrote_stays_its_own_and_room_is_always_found(uses: list[tuple[int, int]]) -> None:
    rows, held = Rows(20), dict[int, int]()
    for holder, count in uses:
        if holder in held:
            rows.ranges.release(holder)
            del held[holder]
        elif sum(held.values()) + count <= 20:
            rows.place(holder, count)
            held[holder] = count
        rows.check(held)


def test_the_first_gap_that_is_wide_enough_is_taken() -> None:
    ranges = Ranges(20)
    for holder, rows in ((0, 4), (1, 2), (2, 4), (3, 6)):
        ranges.place(holder, rows)
    ranges.release(0)
    ranges.release(2)
    assert ranges.place(4, 3) == () and ranges.at(4) == Range(0, 3)
    assert ranges.place(5, 4) == () and ranges.at(5) == Range(6, 4)
    assert 2 not in ranges and 4 in ranges


def test_where_no_gap_is_wide_enough_the_fewest_rows_are_moved() -> None:
    ranges = Ranges(20)
    for holder, rows in ((0, 4), (1, 6), (2, 4), (3, 2), (4, 4)):
        ranges.place(holder, rows)
    for holder in (0, 2, 4):
        ranges.release(holder)  # gaps of 4 around a range of 6 and one of 2
    assert ranges.place(5, 8) == (Move(14, 10, 2),)
    assert ranges.at(5) == Range(12, 8)


def test_more_rows_than_fit_are_our_own_mistake() -> None:
    ranges = Ranges(4)
    ranges.place(0, 3)
    with pytest.raises(AssertionError, match="do not fit"):
        ranges.place(1, 2)
