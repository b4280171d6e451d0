"""Which adapter sits in which slot of the device; a fact's expert is one, too.

It knows keys, slots and pins. It does not know what an adapter holds: `engine.adapters` does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Place:
    slot: int
    pins: int = 0


class Slots:
    """Digest, or expert's key → slot, least recently used first. Pinned ones stay; others may be put out."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._places: OrderedDict[str, _Place] = OrderedDict()

    @property
    def resident(self) -> int:
        """How many adapters sit in a slot."""
        return len(self._places)

    @property
    def pins(self) -> int:
        """Pins over all adapters: as many as running sequences that use one."""
        return sum(place.pins for place in self._places.values())

    def acquire(self, digest: str) -> tuple[int, bool] | None:
        """Pins the adapter: its slot, and whether it must be loaded there first. None when every slot is pinned."""
        place = self._places.get(digest)
        is_new = place is None
        if place is None:
            slot = self._free.pop() if self._free else self._evict()
            if slot is None:
                return None
            place = self._places[digest] = _Place(slot)
        place.pins += 1
        self._places.move_to_end(digest)
        return place.slot, is_new

    def acquire_all(self, keys: tuple[str, ...]) -> dict[str, tuple[int, bool]] | None:
        """Pins all of them, or none at all (None) where there is no room for one. Each as `acquire` gives it."""
        absent = [key for key in keys if key not in self._places]
        idle = sum(not place.pins for key, place in self._places.items() if key not in keys)
        if len(absent) > len(self._free) + idle:
            return None
        found: dict[str, tuple[int, bool]] = {}
        for key in sorted(keys, key=lambda key: key in absent):  # those that are there, before one is put out
            place = self.acquire(key)
            assert place is not None, "room was counted, and then was not there"
            found[key] = place
        return found

    def release(self, digest: str) -> None:
        """Takes one pin back. The adapter stays until its slot is wanted."""
        place = self._places[digest]
        assert place.pins > 0, "an adapter was released more often than acquired"
        place.pins -= 1

    def forget(self, digest: str) -> None:
        """Empties the slot of an adapter that could not be loaded. Nobody may hold a pin on it."""
        place = self._places.pop(digest)
        assert place.pins == 0, "a pinned adapter cannot be forgotten"
        self._free.append(place.slot)

    def check_integrity(self) -> None:
        """Asserts that every slot is either free or one adapter's."""
        taken = [place.slot for place in self._places.values()]
        assert sorted(taken + self._free) == list(range(self.count)), "a slot is lost or held twice"
        assert all(place.pins >= 0 for place in self._places.values()), "an adapter has fewer than no pins"

    def _evict(self) -> int | None:
        for digest, place in self._places.items():
            if not place.pins:
                del self._places[digest]
                return place.slot
        return None
