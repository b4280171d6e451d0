"""Names in questions: which words are one, and which known name a stretch of text means.

It knows spelling: exact names, names run together or taken apart, slips of the finger, and names half said. A
letter that no slip explains, and any changed digit, make it another name. It knows no facts and no meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inhouse.memory.words import LONGEST_NAMED, Word, listed, slip_cost, without_one_letter

MASK = "\ufdd1"
"""Stands for a name among the words that meaning is read from. A noncharacter: nobody types it."""
LONGEST_NAME = 8
"""Words of a name that are looked for together."""
CROWDED = 400
"""A word that stands in more names than this finds none of them on its own: "Industries"."""
MOST_COST = 2.4
"""Slips that a whole name may hold."""


LEAST_COVERAGE = 0.4
"""Share of a name's letters that must be there for it to be thought of."""


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A stretch of words that means a known name."""

    key: str
    start: int
    end: int
    """Words of the text, end excluded."""
    cost: float = 0.0
    """Slips: see words.slip_cost."""
    coverage: float = 1.0
    """Share of the name's letters that are there."""
    rest: str = ""
    """Letters of the last word that are not the name's: two words typed as one."""


def key_of(words: Sequence[Word]) -> str:
    """A name as it is looked up: folded, without spaces."""
    return "".join(word.text for word in words)


class NameIndex:
    """The names of a bank, found in any text. Names may be added and taken away at any time."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._names: dict[str, tuple[str, ...]] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._words: dict[str, set[str]] = defaultdict(set)
        """A word of a name → the names it stands in."""
        self._near: dict[str, set[str]] = defaultdict(set)
        """A word of a name with one letter left out → the word."""

    def __contains__(self, key: str) -> bool:
        return key in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, words: Sequence[Word]) -> str:
        """Makes a name known, once more if it is already; its key."""
        key = key_of(words)
        self._counts[key] += 1
        if self._counts[key] == 1:
            texts = self._names[key] = tuple(word.text for word in words)
            for text in texts:
                if not self._words[text]:
                    for piece in without_one_letter(text):
                        self._near[piece].add(text)
                self._words[text].add(key)
        return key

    def discard(self, key: str) -> None:
        """Takes one use of a name back; with the last one it is gone."""
        self._counts[key] -= 1
        if self._counts[key] > 0:
            return
        del self._counts[key]
        for text in self._names.pop(key):
            self._words[text].discard(key)
            if not self._words[text]:
                del self._words[text]
                for piece in without_one_letter(text):
                    self._near[piece].discard(text)
                    if not self._near[piece]:
                        del self._near[piece]

    def find(self, words: Sequence[Word]) -> list[NameMatch]:
        """The known names in a text, none overlapping another: exact ones first, then near, then half said."""
        found = self._exact(words)
        taken = {i for match in found for i in range(match.start, match.end)}
        near = sorted(self._near_matches(words, taken), key=lambda m: (-m.coverage, m.cost, m.start, m.key))
        for match in near:
            places = set(range(match.start, match.end))
            if not places & taken:
                found.append(match)
                taken |= places
        return sorted(found, key=lambda m: m.start)

    def near(self, words: Sequence[Word]) -> list[NameMatch]:
        """Every known name that some stretch of a text may mean, whatever else it means: see `rivals`."""
        return self._near_matches(words, frozenset())

    def _exact(self, words: Sequence[Word]) -> list[NameMatch]:
        found: list[NameMatch] = []
        i = 0
        while i < len(words):
            match = self._longest_at(words, i)
            if match is None:
                i += 1
            else:
                found.append(match)
                i = match.end
        return found

    def _longest_at(self, words: Sequence[Word], i: int) -> NameMatch | None:
        for stop in range(min(i + LONGEST_NAME, len(words)), i, -1):
            key = key_of(words[i:stop])
            if key in self._names:
                return NameMatch(key, i, stop)
            last = words[stop - 1].text
            for cut in range(
                len(last) - 3 if len(last) <= LONGEST_NAMED else 0, 0, -1
            ):  # "zorvex a17price": the name, and what follows it
                short = key[: len(key) - len(last) + cut]
                if len(short) < 6:
                    break
                if short in self._names and self._vocabulary.is_said(last[cut:]):  # "Zorvexka" is another
                    return NameMatch(short, i, stop, rest=last[cut:])
        return None

    def _near_matches(self, words: Sequence[Word], taken: Collection[int]) -> list[NameMatch]:
        found: dict[tuple[str, int], NameMatch] = {}
        for i, word in enumerate(words):
            if (
                i in taken
                or len(word.text) < 3
                or (not word.has_digit and self._vocabulary.is_common(word.text))
            ):
                continue  # a common word in a name does not bring the name to mind
            for meant in self._spelt_like(word.text):
                holders = self._words.get(meant, ())
                if len(holders) > CROWDED:
                    continue
                for key in holders:
                    parts = self._names[key]
                    for place in range(len(parts)):
                        if parts[place] != meant:
                            continue
                        match = _aligned(key, parts, words, i - place, taken)
                        if match is None:
                            continue
                        known = found.get((key, match.start))
                        if known is None or (match.coverage, -match.cost) > (known.coverage, -known.cost):
                            found[key, match.start] = match
        return list(found.values())

    def _spelt_like(self, text: str) -> set[str]:
        if text.isdigit():
            return {text} if text in self._words else set()
        near: set[str] = set()
        for piece in without_one_letter(text):
            near |= self._near.get(piece, set())
        return near


def rivals(match: NameMatch, near: Iterable[NameMatch]) -> list[NameMatch]:
    """Which of these mean another name by a stretch that the match claims."""
    return [o for o in near if o.key != match.key and o.start < match.end and match.start < o.end]


def allowed_cost(word: str) -> float:
    """How much slip a word of this length may hold and still be meant."""
    return 0.0 if len(word) < 4 else 1.15 if len(word) < 7 else 2.0


def _aligned(
    key: str, parts: tuple[str, ...], words: Sequence[Word], start: int, taken: Collection[int]
) -> NameMatch | None:
    """The name laid over the words from `start` on; None where too little of it is there."""
    cost, there, places = 0.0, 0, []
    for offset, part in enumerate(parts):
        i = start + offset
        is_open = 0 <= i < len(words) and i not in taken
        slip = slip_cost(words[i].text, part) if is_open else float("inf")
        if slip <= allowed_cost(part):
            cost += slip
            there += len(part)
            places.append(i)
        elif any(c.isdigit() for c in part):
            return None  # figures tell names apart: without them it is another, or none
    coverage = there / sum(map(len, parts))
    if not places or cost > MOST_COST or coverage < LEAST_COVERAGE:
        return None
    return NameMatch(key, min(places), max(places) + 1, cost, coverage)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that questions are made of, whatever they ask about."""

    common: frozenset[str]
    acronyms: frozenset[str]
    """Common words that are written in capitals, or with one, inside a sentence: VAT, CEO, Monday."""
    near: frozenset[str]
    """Common words with a letter left out: a slip in one of them makes no name."""
    weights: Mapping[str, float]
    """How telling a word is: 0 for those in every question, 1 for one that nobody knows."""

    def weight(self, word: str) -> float:
        """How much a word tells about what is asked."""
        return 0.0 if word in STARTERS else self.weights.get(word, 1.0)

    @classmethod
    def of(
        cls, common: Collection[str], acronyms: Collection[str], weights: Mapping[str, float]
    ) -> Vocabulary:
        near = {piece for word in common if len(word) > 3 for piece in without_one_letter(word)}
        return cls(frozenset(common), frozenset(acronyms), frozenset(near), dict(weights))

    def is_common(self, word: str) -> bool:
        return word in self.common or word.isdigit() or len(word) < 2

    def is_said(self, word: str) -> bool:
        """Whether it is one of the words, as written: no number, no slip."""
        return word in self.common and word.isalpha()

    def is_nearly_common(self, word: str) -> bool:
        return self.is_common(word) or any(piece in self.near for piece in without_one_letter(word))


def tells_case(words: Sequence[Word]) -> bool:
    """Whether capitals mean something here: not in a text that has none behind its first word, or nothing else."""
    letters = [word.raw for word in words[1:] if word.raw[:1].isalpha()]
    lower = sum(raw[:1].islower() for raw in letters)
    return 0 < lower < len(letters) and lower >= 0.2 * len(letters)


def name_runs(words: Sequence[Word], vocabulary: Vocabulary) -> list[tuple[int, int]]:
    """Stretches of words that look like a name: capitals inside a sentence, codes, words that nobody knows."""
    has_case = tells_case(words)
    marks = [_looks_like_name(word, i, has_case, vocabulary) for i, word in enumerate(words)]
    for start, stop in _joined(words):  # A-3744-AW is one name, 2024-05-01 and follow-up are none
        parts = words[start:stop]
        if any(w.has_digit for w in parts) and any(not w.is_number for w in parts):
            if not any(len(w.text) > 2 and vocabulary.is_common(w.text) and not w.is_number for w in parts):
                marks[start:stop] = [True] * (stop - start)
    for i in range(len(words)):  # a number, or a small word, between or behind parts of a name belongs to it
        behind = i > 0 and marks[i - 1]
        if words[i].is_number and behind and len(words[i].text) <= 4:
            marks[i] = True
        if words[i].raw in ("of", "de", "der", "van", "von", "la", "and", "du", "di"):
            marks[i] = bool(behind and i + 1 < len(words) and marks[i + 1] and words[i + 1].raw[:1].isupper())
    if len(words) > 1 and marks[1] and has_case and words[0].raw[:1].isupper():
        # "Green Valley's manager": the first word's capital says nothing, but the next one's does
        marks[0] = marks[0] or words[0].text not in STARTERS
    runs, i = [], 0
    while i < len(words):
        if not marks[i]:
            i += 1
            continue
        stop = i
        while stop < len(words) and marks[stop]:
            stop += 1
        runs.append((i, stop))
        i = stop
    return runs


def _joined(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Stretches of several words with nothing but hyphens and the like between them."""
    start = 0
    for i in range(1, len(words) + 1):
        if i == len(words) or not words[i].is_joined:
            if i - start > 1:
                yield start, i
            start = i


STARTERS = frozenset(
    listed(
        """
    what who whom whose which when where why how is are was were do does did can could would will shall
    should may might must has have had in on at for from to by with of under until since tell give name show
    list find look let please hi hello hey good i we my our the a an if any say quick quickly remind check
    get need want id im ive whats whos whens wheres hows does and or but so as not there here this that
    """
    )
)
"""Words that begin a question and are no part of a name, however they are written."""


def _looks_like_name(word: Word, i: int, has_case: bool, vocabulary: Vocabulary) -> bool:
    if word.has_digit and not word.is_number:
        return not _is_measure(word.text)
    if word.raw.isupper() and (len(word.raw) == 1 or set(word.raw) <= set("IVX")) and word.raw not in "IA":
        return has_case and i > 0  # Truck 7 B, Harbour II
    if word.is_number or word.text in STARTERS or word.raw in vocabulary.acronyms:
        return False
    if has_case:
        if not word.raw[:1].isupper():
            return False
        return i > 0 or not vocabulary.is_nearly_common(word.text)
    return len(word.text) > 2 and not vocabulary.is_nearly_common(word.text)


def _is_measure(text: str) -> bool:
    """1st, 24h, 2nd, 30th, q3: digits with a unit name nothing."""
    letters = text.strip("0123456789")
    return letters in (
        "st",
        "nd",
        "rd",
        "th",
        "h",
        "am",
        "pm",
        "k",
        "kg",
        "km",
        "m",
        "gb",
        "mb",
        "kw",
        "v",
        "eur",
        "usd",
    )
