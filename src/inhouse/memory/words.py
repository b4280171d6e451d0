"""Text as words that can be compared: folded, with their places. It knows spelling and typing, no facts.

Folding makes "Crème BRÛLÉE’s" and "creme brulee" alike: compatibility forms, case, accents and a trailing
possessive go. A word is a run of letters and digits.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import _lru_cache_wrapper, lru_cache
from typing import TypeVar

_WORD = re.compile(r"[^\W_]+(?:['’`´][^\W_]+)*")
_APOSTROPHES = str.maketrans("", "", "'’`´")
_POSSESSIVE = re.compile(r"['’`´]s?$|(?<=s)['’`´]$", re.IGNORECASE)
_KEYBOARD = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
VOWELS = frozenset("aeiouy")
MOST_LETTERS = 64
"""Letters of a word that are compared; what is longer is no word, and costs no more."""
LONGEST_NAMED = 32
"""Letters of the longest word that is looked for with a slip in it."""

Result = TypeVar("Result")
_caches: list[_lru_cache_wrapper[object]] = []


def remembered(most: int) -> Callable[[Callable[..., Result]], _lru_cache_wrapper[Result]]:
    """Remembers what a function says of a text, until texts are to be forgotten: see forget_texts."""

    def wrap(function: Callable[..., Result]) -> _lru_cache_wrapper[Result]:
        cache = lru_cache(maxsize=most)(function)
        _caches.append(cache)
        return cache

    return wrap


def forget_texts() -> None:
    """Empties every cache that holds texts: nothing of a forgotten fact stays in one."""
    for cache in _caches:
        cache.cache_clear()
    re.purge()  # patterns of stored answers


def listed(text: str) -> tuple[str, ...]:
    """The words of a text that is a list of them."""
    return tuple(text.split())


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text."""

    text: str
    """Folded."""
    raw: str
    """As written, without a possessive."""
    start: int
    end: int
    """Places in the text, without a possessive."""
    is_joined: bool = False
    """Nothing but a hyphen, a slash, a point or an underscore stands between it and the word before: A-3744-AW."""

    @property
    def is_number(self) -> bool:
        return self.text.isdigit()

    @property
    def has_digit(self) -> bool:
        return any(c.isdigit() for c in self.text)


@remembered(65536)
def fold(text: str) -> str:
    """One word or phrase without case, accents and compatibility forms."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words_of(text: str) -> list[Word]:
    """The words of a text, in order."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        raw = _POSSESSIVE.sub("", match[0])
        folded = fold(raw[:MOST_LETTERS].translate(_APOSTROPHES))
        if folded:
            start = match.start()
            is_joined = bool(found) and found[-1].end + 1 == start and text[start - 1] in "-/._"
            found.append(Word(folded, raw, start, start + len(raw), is_joined))
    return found


@remembered(65536)
def trigrams(word: str) -> frozenset[str]:
    """Pieces of three letters, the ends marked: words that are spelt alike share many."""
    marked = f"^{word}$"
    return frozenset(marked[i : i + 3] for i in range(len(marked) - 2))


def without_one_letter(word: str) -> set[str]:
    """The word, and what is left when any one letter goes: near spellings of two words share one of these. A word
    too long to be a name has no near spellings."""
    if len(word) > LONGEST_NAMED:
        return {word}
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _neighbours() -> frozenset[tuple[str, str]]:
    places = {key: (x + y * 0.4, y) for y, row in enumerate(_KEYBOARD) for x, key in enumerate(row)}
    return frozenset(
        (a, b)
        for a, (ax, ay) in places.items()
        for b, (bx, by) in places.items()
        if a != b and abs(ax - bx) <= 1.1 and abs(ay - by) <= 1
    )


_NEIGHBOURS = _neighbours()

CHANCE = 1.6
"""Cost of one letter in place of another that no slip of a finger explains: rather another name."""


def slip_cost(typed: str, meant: str, *, most: float = 3.0) -> float:
    """How unlikely it is that somebody who meant one word typed the other: 0 for the same, about 1 a slip.

    A weighted Damerau distance (Damerau, 1964: four kinds of slip make 80 % of misspellings): two letters
    swapped, one left out or doubled, or a neighbouring key; a letter that is neither is CHANCE. A changed
    digit is never a slip: numbers tell names apart. Infinity beyond `most`.
    """
    if typed == meant:
        return 0.0
    if abs(len(typed) - len(meant)) > 2:
        return float("inf")
    before: list[float] = []
    row = [0.0]
    for c in meant:
        row.append(row[-1] + _omission(c))
    for i, t in enumerate(typed, 1):
        older, before, row = before, row, [row[0] + _insertion(typed, i - 1)]
        for j, m in enumerate(meant, 1):
            best = min(
                before[j - 1] + _substitution(t, m),
                before[j] + _insertion(typed, i - 1),
                row[j - 1] + _omission(m),
            )
            if i > 1 and j > 1 and t == meant[j - 2] and m == typed[i - 2] and t != m:
                swap = 4.0 if t.isdigit() or m.isdigit() else 0.8
                best = min(best, older[j - 2] + swap)
            row.append(best)
        if min(row) > most:
            return float("inf")
    return row[-1] if row[-1] <= most else float("inf")


def _substitution(typed: str, meant: str) -> float:
    if typed == meant:
        return 0.0
    if typed.isdigit() or meant.isdigit():
        return 4.0
    return 0.9 if (typed, meant) in _NEIGHBOURS else CHANCE


def _omission(meant: str) -> float:
    return 4.0 if meant.isdigit() else 0.9


def _insertion(typed: str, i: int) -> float:
    """A letter too many: cheap when it doubles a neighbour, or lies beside one on the keyboard."""
    c = typed[i]
    if c.isdigit():
        return 4.0
    near = [typed[k] for k in (i - 1, i + 1) if 0 <= k < len(typed)]
    if c in near:
        return 0.7
    return 0.9 if any((c, n) in _NEIGHBOURS for n in near) else 1.1
