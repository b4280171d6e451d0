"""The key index of a bank: its names, and its wordings as keys without the names.

Facts of one kind are asked for in the same words, so that a thousand facts have few distinct keys. Facts may come
and go; nothing of one that is gone stays. It knows spelling and keys; it decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inhouse.memory.encoder import KEY_WIDTH, Encoder, Floats
from inhouse.memory.names import MASK, NameIndex, Vocabulary, key_of, name_runs
from inhouse.memory.words import Word, words_of
from inhouse.schema import Fact

AMBIENT_SHARE = 0.2
AMBIENT_LEAST = 8
"""A name that stands in so large a share of the facts, and so many of them, is the bank's air: it need not be said."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Wording:
    """One way of asking for a fact, taken apart."""

    names: tuple[frozenset[str], ...]
    """For each name in it, the keys of all that it may be called."""
    masked: tuple[str, ...]
    numbers: tuple[str, ...]
    """Figures outside of the names: 500 euros and 5,000 euros are two questions."""


@dataclass(slots=True)
class Entry:
    """A fact in the index."""

    fact: Fact
    wordings: tuple[Wording, ...]
    rows: tuple[int, ...]
    """The key of each wording: a row of `KeyIndex.keys`."""
    asked: str
    """The question's words, folded: facts that share them coexist."""


def masked(
    words: Sequence[Word], spans: Iterable[Span], rests: dict[int, str] | None = None
) -> tuple[str, ...]:
    """The words with each span as one mask; `rests` are letters that stand behind a span's last word."""
    starts = dict(spans)
    out: list[str] = []
    i = 0
    while i < len(words):
        if i in starts and starts[i] > i:
            if not out or out[-1] != MASK:
                out.append(MASK)
            i = starts[i]
            if rests and (rest := rests.get(i)):
                out.append(rest)
        else:
            out.append(words[i].text)
            i += 1
    return tuple(out)


def take_apart(text: str, fact: Fact, vocabulary: Vocabulary) -> Wording:
    """A wording's names, the rest, and the figures in it."""
    words = words_of(text)
    called = [words_of(name) for name in (fact.subject, *fact.aliases) if name]
    keys = frozenset(key_of(name) for name in called if name)
    if not keys:  # a name that one wording shows clearly stands in the others too
        called = [
            other[start:stop]
            for other in map(words_of, dict.fromkeys((fact.question, *fact.wordings)))
            for start, stop in name_runs(other, vocabulary)
        ]
    spans = _places(words, called)
    own = [keys or frozenset([key_of(words[start:stop])]) for start, stop in spans]
    taken = {i for start, stop in spans for i in range(start, stop)}
    runs = [run for run in name_runs(words, vocabulary) if not taken & set(range(*run))]
    names = [*own, *(frozenset([key_of(words[start:stop])]) for start, stop in runs)]
    spans = [*spans, *runs]
    taken |= {i for start, stop in runs for i in range(start, stop)}
    numbers = tuple(w.text for i, w in enumerate(words) if w.has_digit and i not in taken)
    return Wording(tuple(dict.fromkeys(names)), masked(words, spans), numbers)


def _places(words: Sequence[Word], names: Sequence[Sequence[Word]]) -> list[Span]:
    """Where any of the names stands in a text, the longest first, none overlapping."""
    found: list[Span] = []
    for name in sorted(names, key=len, reverse=True):
        texts = [word.text for word in name]
        for i in range(len(words) - len(texts) + 1):
            is_there = [word.text for word in words[i : i + len(texts)]] == texts
            if texts and is_there and not any(a < i + len(texts) and i < b for a, b in found):
                found.append((i, i + len(texts)))
    return found


@dataclass(frozen=True, slots=True)
class Kin:
    """What the facts of a bank tell of each other: a relation is a set of wordings that ask the same."""

    relation_of: dict[int, int]
    """Row → its relation: wordings of one fact ask the same, and so do those of facts that share one."""
    rows_of: dict[int, tuple[int, ...]]
    """Relation → its rows."""
    beside: dict[int, frozenset[int]]
    """Relation → relations that some subject has as well: what may be asked about subjects of its kind."""
    ambient: frozenset[str]
    """Names that stand in so many facts that asking without them means them all the same."""
    free: dict[int, tuple[str, ...]]
    """Row → facts that it asks for without a name that must be said."""
    free_rows: NDArray[np.int64]
    """The rows of `free`."""


MOST_BETWEEN = 2_000_000
"""Cosines between keys that an index keeps at hand (8 MB)."""
MOST_MIDDLES = 256
"""Middles of wordings that it keeps (1.5 MB)."""
MOST_BESIDE = 64
"""Relations of one kind of subject that are told apart."""


class KeyIndex:
    """Facts by name and by key."""

    def __init__(self, encoder: Encoder, vocabulary: Vocabulary) -> None:
        self.encoder = encoder
        self.vocabulary = vocabulary
        self.names = NameIndex(vocabulary)
        self.entries: dict[str, Entry] = {}
        self.by_name: dict[str, set[str]] = defaultdict(set)
        self.by_row: list[set[str]] = []
        """For each key, the facts that are asked for in these words."""
        self.keys: Floats = np.zeros((0, KEY_WIDTH), np.float32)
        self._kin: Kin | None = None
        self._between: tuple[Floats, Floats, Floats] | None = None
        self._middles: dict[tuple[int, ...], tuple[Floats, Floats]] = {}
        self._middles_of: tuple[Floats, Floats] | None = None
        self._rows: dict[tuple[str, ...], int] = {}
        self._row_words: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, facts: Iterable[Fact]) -> None:
        """Adds facts, or replaces those that are there."""
        taken = [
            (fact, tuple(take_apart(text, fact, self.vocabulary) for text in (fact.question, *fact.wordings)))
            for fact in {fact.id: fact for fact in facts}.values()
        ]
        for fact, _ in taken:
            self.discard(fact.id)
        self._make_rows(dict.fromkeys(w.masked for _, wordings in taken for w in wordings))
        self._kin = None
        for fact, wordings in taken:
            asked = " ".join(word.text for word in words_of(fact.question))
            entry = Entry(fact, wordings, tuple(self._rows[w.masked] for w in wordings), asked)
            self.entries[fact.id] = entry
            for row in entry.rows:
                self.by_row[row].add(fact.id)
            for key, words in self._names_of(entry).items():
                self.names.add(words)
                self.by_name[key].add(fact.id)

    def discard(self, fact_id: str) -> None:
        """Takes a fact out, with every name and key that only it had."""
        entry = self.entries.pop(fact_id, None)
        if entry is None:
            return
        self._kin = None
        self._forget_closeness()
        for key in self._names_of(entry):
            self.names.discard(key)
            self.by_name[key].discard(fact_id)
            if not self.by_name[key]:
                del self.by_name[key]
        for row in entry.rows:
            self.by_row[row].discard(fact_id)
        for words in dict.fromkeys(wording.masked for wording in entry.wordings):
            if not self.by_row[self._rows[words]]:
                self._drop_row(words)

    @property
    def kin(self) -> Kin:
        """Which wordings ask the same, and which are asked about subjects of one kind: as the facts show it."""
        if self._kin is None:
            self._kin = _kinship(self)
        return self._kin

    def knows(self, masked_words: tuple[str, ...]) -> bool:
        """Whether some fact is asked for in these very words."""
        return masked_words in self._rows

    def is_ambient(self, key: str) -> bool:
        """Whether a name stands in so many facts that asking without it means it all the same."""
        return key in self.kin.ambient

    def between(self, rows: Sequence[int], anchors: Floats) -> Floats:
        """Cosines of these keys with all keys, and with the anchors [A, KEY_WIDTH] behind them: [R, keys + A]."""
        if len(self.keys) * (len(self.keys) + len(anchors)) > MOST_BETWEEN:
            some = self.keys[list(rows)]
            return np.concatenate([some @ self.keys.T, some @ anchors.T], 1)
        known = self._between
        if known is None or known[0] is not self.keys or known[1] is not anchors:
            every = np.concatenate([self.keys @ self.keys.T, self.keys @ anchors.T], 1)
            known = self._between = (self.keys, anchors, every)
        return known[2][list(rows)]

    def middle(self, rows: tuple[int, ...], anchors: Floats) -> tuple[Floats, Floats]:
        """The middle of these keys [KEY_WIDTH], of length 1, and its cosines with the anchors [A]. Like all that is
        kept here, it wants the lock of whoever owns the index."""
        known = self._middles_of
        if known is None or known[0] is not self.keys or known[1] is not anchors:
            self._middles_of, self._middles = (self.keys, anchors), {}
        found = self._middles.get(rows)
        if found is None:
            middle = self.keys[list(rows)].mean(0)
            middle /= max(float(np.linalg.norm(middle)), 1e-9)
            if len(self._middles) >= MOST_MIDDLES:
                self._middles = {}
            found = self._middles[rows] = (middle, anchors @ middle)
        return found

    def _names_of(self, entry: Entry) -> dict[str, list[Word]]:
        """Every name that leads to a fact, aliases too, as words."""
        found: dict[str, list[Word]] = {}
        for text in (entry.fact.subject, *entry.fact.aliases):
            if text and (words := words_of(text)):
                found[key_of(words)] = words
        wanted = {key for w in entry.wordings for keys in w.names for key in keys} - found.keys()
        for text in (entry.fact.question, *entry.fact.wordings) if wanted else ():
            words = words_of(text)
            for start, stop in name_runs(words, self.vocabulary):
                if (key := key_of(words[start:stop])) in wanted:
                    found[key] = words[start:stop]
        return found

    def _make_rows(self, wanted: Iterable[tuple[str, ...]]) -> None:
        new = [words for words in wanted if words not in self._rows]
        if not new:
            return
        self._rows |= {words: row for row, words in enumerate(new, len(self.keys))}
        self._row_words += new
        self.keys = np.concatenate([self.keys, self.encoder.keys(new)])
        self.by_row += [set() for _ in new]

    def _forget_closeness(self) -> None:
        """Wipes what is kept of keys: for a fact of one wording the middle is its key."""
        if self._between is not None:
            self._between[2].fill(0.0)
        for middle, cosines in self._middles.values():
            middle.fill(0.0)
            cosines.fill(0.0)
        self._between, self._middles_of, self._middles = None, None, {}

    def _drop_row(self, words: tuple[str, ...]) -> None:
        """Takes a key out. The last one takes its place: an empty row would count in what is compared."""
        row, last = self._rows.pop(words), len(self.keys) - 1
        moved, holders = self._row_words.pop(), self.by_row.pop()
        if row < last:
            self._rows[moved], self._row_words[row], self.by_row[row] = row, moved, holders
            self.keys[row] = self.keys[last]
            for fact_id in holders:
                entry = self.entries[fact_id]
                entry.rows = tuple(row if at == last else at for at in entry.rows)
        self.keys[last] = 0.0
        self.keys = self.keys[:last]


def _kinship(index: KeyIndex) -> Kin:
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for entry in index.entries.values():
        for row in entry.rows:
            parent[root(row)] = root(entry.rows[0])
    relation_of = {row: root(row) for row in list(parent)}
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, relation in relation_of.items():
        rows_of[relation].append(row)
    many = AMBIENT_SHARE * len(index.entries)
    ambient = frozenset(
        key for key, ids in index.by_name.items() if len(ids) >= AMBIENT_LEAST and len(ids) > many
    )
    free: dict[int, set[str]] = defaultdict(set)
    for fact_id, entry in index.entries.items():
        for wording, row in zip(entry.wordings, entry.rows, strict=True):
            if all(not ambient.isdisjoint(keys) for keys in wording.names):
                free[row].add(fact_id)
    beside: dict[int, set[int]] = defaultdict(set)
    for key, fact_ids in index.by_name.items():
        if key in ambient:
            continue
        mates = {relation_of[index.entries[i].rows[0]] for i in fact_ids}
        if len(mates) <= MOST_BESIDE:
            for relation in mates:
                beside[relation] |= mates
    wider = {r: set().union(*(beside[mate] for mate in mates)) for r, mates in beside.items()}
    return Kin(
        relation_of,
        {relation: tuple(rows) for relation, rows in rows_of.items()},
        {r: frozenset(sorted(mates - {r})[:MOST_BESIDE]) for r, mates in wider.items()},
        ambient,
        {row: tuple(sorted(fact_ids)) for row, fact_ids in free.items()},
        np.array(sorted(free), np.int64),
    )
