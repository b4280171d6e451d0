"""Which rank rows of the arena are whose: ranges of any length, side by side, pushed together where gaps are too small.

Pure: it knows holders and row numbers. What a row holds is `engine.arena`'s matter, and so is moving it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """Rows start to start + rows."""

    start: int
    rows: int

    @property
    def stop(self) -> int:
        return self.start + self.rows


@dataclass(frozen=True, slots=True)
class Move:
    """Rows that must be copied towards the front, in the order in which they are named."""

    source: int
    target: int
    rows: int


class Ranges:
    """Holder → range. A place is found as long as the rows of all holders together fit."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._held: dict[int, Range] = {}

    def __contains__(self, holder: int) -> bool:
        return holder in self._held

    def at(self, holder: int) -> Range:
        return self._held[holder]

    def place(self, holder: int, rows: int) -> tuple[Move, ...]:
        """Gives a new holder the first gap that is wide enough; where there is none, widens the gap that costs the
        fewest rows to move. Returns what must be moved before the holder's rows are written."""
        assert holder not in self._held, "a holder has one range"
        start = next((gap.start for gap in self._gaps() if gap.rows >= rows), None)
        moves: tuple[Move, ...] = ()
        if start is None:
            start, moves = self._push_together(rows)
        self._held[holder] = Range(start, rows)
        return moves

    def release(self, holder: int) -> None:
        """Gives a holder's rows back, if it has any."""
        self._held.pop(holder, None)

    def check_integrity(self) -> None:
        """Asserts that no row is held twice or does not exist."""
        at = 0
        for held in sorted(self._held.values(), key=lambda held: held.start):
            assert held.start >= at and held.rows > 0, "two ranges overlap"
            at = held.stop
        assert at <= self.rows, "a range ends behind the last row"

    def _gaps(self) -> Iterator[Range]:
        """Before each range in order of rows, and behind the last: unused rows, perhaps none."""
        at = 0
        for held in sorted(self._held.values(), key=lambda held: held.start):
            yield Range(at, held.start - at)
            at = held.stop
        yield Range(at, self.rows - at)

    def _push_together(self, rows: int) -> tuple[int, tuple[Move, ...]]:
        """Moves a run of neighbours to the front of the gap before them. Returns where the widened gap begins."""
        gaps = list(self._gaps())
        order = sorted(self._held, key=lambda holder: self._held[holder].start)
        runs = [
            (sum(self._held[holder].rows for holder in order[first:last]), first, last)
            for first in range(len(order))
            for last in range(first + 1, len(order) + 1)
            if sum(gap.rows for gap in gaps[first : last + 1]) >= rows
        ]
        assert runs, "the rows of all holders together do not fit"
        _, first, last = min(runs)
        at, moves = gaps[first].start, []
        for holder in order[first:last]:
            held = self._held[holder]
            if held.start != at:
                moves.append(Move(held.start, at, held.rows))
                self._held[holder] = Range(at, held.rows)
            at += held.rows
        return at, tuple(moves)
