"""Who holds which page of the key-value cache.

It knows page numbers and reference counts. It does not know what a page holds: `engine.cache` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class Pages:
    """A free list, a page table a holder, and a count of holders a page."""

    def __init__(self, count: int, page_size: int) -> None:
        self.count = count
        self.page_size = page_size
        """Tokens a page."""
        self._free = list(range(count - 1, -1, -1))  # the end is handed out first: low numbers stay warm
        self._tables: dict[Hashable, list[int]] = {}
        self._holders = [0] * count

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

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

    def reserve(self, holder: Hashable, tokens: int) -> bool:
        """Makes the holder's pages enough for so many tokens in all; without enough free pages, changes nothing."""
        table = self._tables.get(holder, [])
        missing = self.needed(tokens) - len(table)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            page = self._free.pop()
            self._holders[page] = 1
            table.append(page)
        self._tables[holder] = table
        return True

    def share(self, owner: Hashable, holder: Hashable, tokens: int) -> int:
        """Lets a new holder read the owner's pages that are full of its first `tokens` tokens; returns how many
        tokens that covers. A page that is not full is never shared, so no two holders write to one."""
        assert holder not in self._tables, "only a holder without pages may begin with shared ones"
        full = self._tables.get(owner, [])[: tokens // self.page_size]
        for page in full:
            self._holders[page] += 1
        if full:
            self._tables[holder] = list(full)
        return len(full) * self.page_size

    def release(self, holder: Hashable) -> None:
        """Gives the holder's pages back; a page is free when its last holder let go."""
        for page in self._tables.pop(holder, []):
            self._holders[page] -= 1
            if self._holders[page] == 0:
                self._free.append(page)

    def check_integrity(self) -> None:
        """Asserts that every page is either free or counted exactly as often as tables name it."""
        named = Counter(page for table in self._tables.values() for page in table)
        assert all(self._holders[p] == named[p] for p in range(self.count)), (
            "a page's count differs from its tables"
        )
        assert len(set(self._free)) == len(self._free), "a page is free twice"
        assert set(self._free) == {p for p in range(self.count) if not named[p]}, (
            "a page is lost, or free while held"
        )
        assert all(len(set(t)) == len(t) for t in self._tables.values()), "a table names a page twice"
