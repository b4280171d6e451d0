"""Which adapters are on the device, which of them are in use, and which an operator keeps there; a fact's expert is
one, too.

It counts: keys, rank rows, pins of those in use. Where an adapter's rows lie is `engine.ranges`' matter, what they hold
`engine.arena`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Place:
    slot: int
    rows: int
    pins: int = 0


class Slots:
    """Digest, or expert's key → slot, least recently used first. Pinned ones stay; others may be put out.

    Kept ones stay as well, used or not, and room is left for those that are not there yet. They make way for one case
    alone: what is larger than all that they leave over, and runs by itself. Then they come back.

    A slot is a number that stands for a resident adapter. `rows` is what all residents together may take;
    `together` what those in use may take, so that a step reads not much more than the base. One adapter alone may
    be larger than that. `most_kept` is what kept ones may take: the rest is for whoever comes.
    """

    def __init__(self, rows: int, *, together: int | None = None, most_kept: int | None = None) -> None:
        self.rows = rows
        self.most_kept = rows // 2 if most_kept is None else most_kept
        self.together = rows if together is None else min(together, rows)
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._unused: list[int] = []  # numbers of slots that were emptied
        self._evicted: list[int] = []
        self._highest = 0
        self._kept: dict[str, int] = {}
        self.pinned_rows = 0
        """Rank rows of the adapters in use."""

    @property
    def resident(self) -> int:
        """How many adapters sit in a slot."""
        return len(self._places)

    @property
    def pins(self) -> int:
        """Pins over all adapters: as many as running sequences that use one."""
        return sum(place.pins for place in self._places.values())

    @property
    def kept(self) -> int:
        """How many kept adapters sit in a slot."""
        return len(self._kept) - len(self.missing)

    @property
    def missing(self) -> tuple[str, ...]:
        """Kept adapters that are not on the device."""
        return tuple(key for key in self._kept if key not in self._places)

    def slot(self, key: str) -> int | None:
        """Where an adapter sits; None when it is not on the device."""
        place = self._places.get(key)
        return None if place is None else place.slot

    def keep(self, wants: Mapping[str, int]) -> None:
        """These stay on the device from now on, and no others. wants: key → rank rows."""
        assert sum(wants.values()) <= self.most_kept, "more is kept than leaves room for others"
        self._kept = dict(wants)

    def bring(self, at_hand: Container[str] | None = None) -> list[str]:
        """Gives slots to kept adapters that have none, where they are at hand (None: all are) and those in use leave
        room for all that are kept. → those that must be loaded."""
        if self.pinned_rows + self._set_aside(()) > self.rows:
            return []
        brought = [key for key in self.missing if at_hand is None or key in at_hand]
        for key in brought:
            self._place(key, self._kept[key])
        return brought

    def has_room(self, wants: Mapping[str, int], *, beyond: bool = False) -> bool:
        """Whether all of these could be pinned now. wants: key → rank rows. With `beyond`, what those in use
        may take together does not count."""
        fresh = sum(rows for key, rows in wants.items() if not self._is_pinned(key))
        if not fresh:
            return True
        if not self.pinned_rows:
            return fresh <= self.rows
        held = self.pinned_rows + fresh
        return held + self._set_aside(wants) <= self.rows and (beyond or held <= self.together)

    def acquire_all(self, wants: Mapping[str, int], *, beyond: bool = False) -> dict[str, bool] | None:
        """Pins all of them, or none (None) where there is no room. → key → whether it must be loaded first."""
        if not self.has_room(wants, beyond=beyond):
            return None
        absent = [key for key in wants if key not in self._places]
        for key in wants:
            if key not in absent:
                self._pin(key)
        for key in absent:
            self._place(key, wants[key])
            self._pin(key)
        return {key: key in absent for key in wants}

    def release(self, key: str) -> None:
        """Takes one pin back. The adapter stays until its rows are wanted."""
        place = self._places[key]
        assert place.pins > 0, "an adapter was released more often than acquired"
        place.pins -= 1
        if not place.pins:
            self.pinned_rows -= place.rows

    def forget(self, key: str) -> None:
        """Empties the slot of an adapter that could not be loaded, and keeps it no more. Nobody may have it pinned."""
        assert self._places[key].pins == 0, "a pinned adapter cannot be forgotten"
        self._kept.pop(key, None)
        self._empty(key)

    def take_evicted(self) -> tuple[int, ...]:
        """Slots emptied since this was last asked, whoever sits in them by now: their rows are free to be used."""
        evicted, self._evicted = tuple(self._evicted), []
        return evicted

    def check_integrity(self) -> None:
        """Asserts that every slot is one adapter's, and that their rows fit."""
        taken = [place.slot for place in self._places.values()]
        assert sorted(taken + self._unused) == list(range(self._highest)), "a slot is lost or held twice"
        assert all(place.pins >= 0 for place in self._places.values()), "an adapter has fewer than no pins"
        places = self._places.values()
        assert sum(place.rows for place in places) <= self.rows, "more rows than there are"
        assert self.pinned_rows == sum(place.rows for place in places if place.pins), (
            "rows in use are miscounted"
        )
        assert sum(self._kept.values()) <= self.most_kept, "more is kept than leaves room for others"

    def _is_pinned(self, key: str) -> bool:
        place = self._places.get(key)
        return place is not None and place.pins > 0

    def _pin(self, key: str) -> None:
        place = self._places[key]
        if not place.pins:
            self.pinned_rows += place.rows
        place.pins += 1
        self._places.move_to_end(key)

    def _set_aside(self, wants: Container[str]) -> int:
        """Rows of kept adapters that are not in use and not among these, whether they are there or not."""
        return sum(rows for key, rows in self._kept.items() if key not in wants and not self._is_pinned(key))

    def _place(self, key: str, rows: int) -> None:
        """Gives an adapter a slot that nobody has."""
        self._make_room(rows)
        if not self._unused:
            self._highest += 1
        slot = self._unused.pop() if self._unused else self._highest - 1
        self._places[key] = _Place(slot, rows)

    def _make_room(self, rows: int) -> None:
        """Puts out the longest unused until so many rows are left over, kept ones last."""
        left = self.rows - sum(place.rows for place in self._places.values())
        idle = [key for key, place in self._places.items() if not place.pins]
        for key in sorted(idle, key=self._kept.__contains__):
            if left >= rows:
                break
            left += self._places[key].rows
            self._empty(key)
        assert left >= rows, "room was counted, and then was not there"

    def _empty(self, key: str) -> None:
        slot = self._places.pop(key).slot
        self._unused.append(slot)
        self._evicted.append(slot)
