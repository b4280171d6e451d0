"""Who holds which page of the key-value cache.

It knows page numbers, reference counts and the keys of full pages. It does not know what a page holds:
`engine.cache` does; nor what a key stands for: `engine.prefixes` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from inhouse.engine.prefixes import Prefixes


class Pages:
    """A free list, a page table a holder, a count of holders a page, and what full pages are known for.

    A page is in one of three states: held, idle (nobody holds it, but what it holds is known and may be asked for
    again) or free. Idle pages are given away when the free ones are used up, the longest unused first.
    """

    def __init__(self, count: int, page_size: int) -> None:
        self.count = count
        self.page_size = page_size
        """Tokens a page."""
        self.prefixes = Prefixes()
        self._free = list(range(count - 1, -1, -1))  # the end is handed out first: low numbers stay warm
        self._tables: dict[Hashable, list[int]] = {}
        self._holders = [0] * count

    @property
    def free(self) -> int:
        """Pages that nobody holds, idle ones included."""
        return len(self._free) + self.prefixes.idle

    @property
    def capacity(self) -> int:
        """Tokens that all pages hold together."""
        return self.count * self.page_size

    def needed(self, tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-tokens // self.page_size)

    def table(self, holder: Hashable) -> list[int]:
        """The holder's pages in the order of its tokens. Not to be changed by the caller."""
        return self._tables.get(holder, [])

    def sole(self, holder: Hashable) -> int:
        """Pages that would be free if this holder let go."""
        return sum(self._holders[page] == 1 for page in self.table(holder))

    def reserve(self, holder: Hashable, tokens: int) -> bool:
        """Makes the holder's pages enough for so many tokens in all; without enough free pages, changes nothing."""
        table = self._tables.get(holder, [])
        missing = self.needed(tokens) - len(table)
        if missing > self.free:
            return False
        for _ in range(missing):
            page = self._free.pop() if self._free else self.prefixes.evict()
            assert page is not None, "a free page was counted, and then was not there"
            self._holders[page] = 1
            table.append(page)
        self._tables[holder] = table
        return True

    def reserve_blank(self, holder: Hashable, tokens: int, *, sparing: int) -> bool:
        """The same, from pages that hold nothing that is known, and only if so many of them are left."""
        missing = self.needed(tokens) - len(self._tables.get(holder, []))
        return (missing <= 0 or missing + sparing <= len(self._free)) and self.reserve(holder, tokens)

    def resume(self, holder: Hashable, keys: Sequence[bytes]) -> int:
        """Begins a holder with the longest known run of pages; returns how many tokens that covers.

        Known pages are full, so no two holders ever write to one.
        """
        assert holder not in self._tables, "only a holder without pages may begin with known ones"
        found = self.prefixes.run(keys)
        for page in found:
            self._holders[page] += 1
            self.prefixes.wake(page)
        if found:
            self._tables[holder] = found
        return len(found) * self.page_size

    def publish(self, holder: Hashable, first: int, keys: Sequence[bytes]) -> None:
        """Makes the holder's pages known from number `first` on, under these keys: their tokens are computed."""
        for page, key in zip(self._tables[holder][first : first + len(keys)], keys, strict=True):
            self.prefixes.add(key, page)

    def release(self, holder: Hashable, *, keeps: bool = True) -> None:
        """Gives the holder's pages back; one whose last holder let go is idle where it is known, else free.

        With `keeps` False what it alone held is forgotten. Of a run its end is given away first: a run is of use
        from its beginning on.
        """
        for page in reversed(self._tables.pop(holder, [])):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if not keeps:
                self.prefixes.drop(page)
            if not self.prefixes.rest(page):
                self._free.append(page)

    def check_integrity(self) -> None:
        """Asserts that every page is free, idle, or counted exactly as often as tables name it."""
        self.prefixes.check_integrity()
        named = Counter(page for table in self._tables.values() for page in table)
        assert all(self._holders[p] == named[p] for p in range(self.count)), (
            "a page's count differs from its tables"
        )
        assert len(set(self._free)) == len(self._free), "a page is free twice"
        assert not any(self.prefixes.key(page) for page in self._free), "a free page is known for its tokens"
        idle = {page for page in range(self.count) if self.prefixes.is_idle(page)}
        assert idle.isdisjoint(self._free), "a page is free and idle"
        assert idle | set(self._free) == {p for p in range(self.count) if not named[p]}, (
            "a page is lost, or free while held"
        )
        assert all(len(set(t)) == len(t) for t in self._tables.values()), "a table names a page twice"
