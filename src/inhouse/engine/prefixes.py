"""Which page holds which run of tokens, so that a prompt which begins like an earlier one is not read again.

It knows keys and page numbers. A page's key is a hash of everything that decides what stands in it: the base, the
project, the adapter, the expert, and every token up to the page's end. The project is part of it although equal
tokens give equal values: how fast a reply begins would tell one project what another has asked.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import OrderedDict
from collections.abc import Sequence


def root_key(*parts: str | None) -> bytes:
    """What a chain of page keys begins with."""
    return _hash(json.dumps(parts).encode())


def extend(keys: list[bytes], root: bytes, tokens: Sequence[int], page_size: int, count: int) -> None:
    """Makes `keys` those of the first `count` pages of the tokens. Each key stands for all tokens before it, too."""
    for page in range(len(keys), count):
        piece = array("q", tokens[page * page_size : (page + 1) * page_size])
        assert len(piece) == page_size, "only a full page has a key"
        keys.append(_hash((keys[-1] if keys else root) + piece.tobytes()))


class Prefixes:
    """Key ↔ page, and which of these pages nobody holds, the longest unused first."""

    def __init__(self) -> None:
        self._pages: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def idle(self) -> int:
        """Known pages that nobody holds: a cache until somebody needs the room."""
        return len(self._idle)

    def key(self, page: int) -> bytes | None:
        return self._keys.get(page)

    def run(self, keys: Sequence[bytes]) -> list[int]:
        """The pages of the longest known run from the first key on."""
        found: list[int] = []
        for key in keys:
            page = self._pages.get(key)
            if page is None:
                break
            found.append(page)
        return found

    def add(self, key: bytes, page: int) -> None:
        """Makes a page known that is full and computed. Where one with the same tokens is, nothing changes."""
        assert page not in self._keys, "a page is known under two keys"
        if key not in self._pages:
            self._pages[key], self._keys[page] = page, key

    def wake(self, page: int) -> None:
        """Somebody holds the page now."""
        self._idle.pop(page, None)

    def rest(self, page: int) -> bool:
        """Nobody holds the page any more; False where it is not known, and so is of no use to anybody."""
        if page in self._keys:
            self._idle[page] = None
        return page in self._keys

    def drop(self, page: int) -> None:
        """Forgets what a page holds."""
        key = self._keys.pop(page, None)
        if key is not None:
            del self._pages[key]
            self._idle.pop(page, None)

    def evict(self) -> int | None:
        """Gives the longest unused page away; None where there is none."""
        page = next(iter(self._idle), None)
        if page is not None:
            self.drop(page)
        return page

    def check_integrity(self) -> None:
        """Asserts that keys and pages are one to one, and that every idle page is known."""
        assert {page: key for key, page in self._pages.items()} == self._keys, "a key and a page differ"
        assert self._idle.keys() <= self._keys.keys(), "an unknown page is kept"

    def is_idle(self, page: int) -> bool:
        return page in self._idle


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
