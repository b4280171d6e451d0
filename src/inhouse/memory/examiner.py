"""The examination of a bank after publishing, in words that no training saw.

Where a fact has several wordings, one is taken out of the index and asked with: what a person wrote and the index
does not hold. Besides, questions are turned by frames that stand nowhere in the lexicon, and spoilt by slips made
another way than in training (neighbouring keys, lost vowels, run-together words). It knows wordings and names; it
knows no gate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from inhouse.memory.index import Entry, KeyIndex
from inhouse.memory.names import MASK, key_of
from inhouse.memory.words import Word, words_of
from inhouse.schema import Fact

MOST_ASKED = 400
"""Facts that are examined; of more, a sample."""

_WH = re.compile(r"^(what|which|who|where|when)\s+(is|are|was|were)\s+(.+)$", re.IGNORECASE)
_FRAMES = (
    "My boss wants an answer to this: {q}?",
    "{q}? The auditor is waiting.",
    "Somebody at the counter asks: {q}?",
    "Before I hang up: {q}?",
    "{q}, does anybody know?",
    "Once more for me, slowly: {q}?",
    "This came up in the meeting. {q}?",
)
_TURNED = (
    "Any chance you have {rest} at hand?",
    "{rest}, anyone?",
    "I am after {rest}.",
    "Still missing on my list: {rest}",
    "Would somebody dig out {rest} for me?",
    "Where do our files say {wh} {rest} {be}?",
    "It has slipped my mind {wh} {rest} {be}.",
)
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
GENERAL = (
    "Good evening!",
    "What rhymes with orange?",
    "How many legs does a spider have?",
    "Who painted the Mona Lisa?",
    "What is seventeen minus nine?",
    "Suggest a title for a birthday speech.",
    "Do penguins fly?",
    "Which is longer, a mile or a kilometre?",
    "What does the word hospitality mean?",
    "How do magnets work?",
    "Tell me something about the Roman Empire.",
    "What are the primary colours?",
    "How do I tie a tie?",
    "Who discovered penicillin?",
    "Write two sentences about autumn.",
    "Translate: the train is late.",
    "How many minutes are in three hours?",
    "What is a good name for a dog?",
    "Explain gravity to a child.",
    "What is the boiling point of water?",
    "Can you keep a secret?",
    "I had a long day.",
    "Why do leaves fall?",
    "What languages do you speak?",
    "Give me a synonym for happy.",
    "What is the plural of mouse?",
    "Is a tomato a fruit?",
    "How old is the universe?",
    "What should I wear when it rains?",
    "List three European rivers.",
    "Sort these words: pear, plum, fig.",
    "What is 12 percent of 250?",
    "How do you make coffee?",
    "Who was Napoleon?",
    "Write a loop in JavaScript.",
    "Thank you very much.",
    "Passage: The shop opens at nine and closes at six. Question: When does the shop close?",
    "Summarise this: Trade grew last year while prices fell.",
    "Correct the spelling: I recieved teh parcel.",
    "What is the meaning of life?",
)


@dataclass(frozen=True, slots=True)
class Exam:
    """A question, and the fact that it asks for; None when no fact may be given."""

    group: str
    """taught, unseen, noisy, far, near, look_alike or general"""
    text: str
    fact: str | None
    without: int | None = None
    """The wording of the fact that must be taken out of the index first."""


def examination(index: KeyIndex, *, seed: int = 0) -> Iterator[Exam]:
    """The questions for a bank, a pure function of its facts and the seed."""
    random = Random(seed)
    entries = [index.entries[i] for i in sorted(index.entries)]
    chosen = entries if len(entries) <= MOST_ASKED else random.sample(entries, MOST_ASKED)
    for entry in chosen:
        fact = entry.fact
        texts = (fact.question, *fact.wordings)
        yield Exam("taught", random.choice(texts), fact.id)
        if len(texts) > 1:
            away = random.randrange(len(texts))
            yield Exam("unseen", texts[away], fact.id, away)
        yield Exam("unseen", turned(random, random.choice(texts)), fact.id)
        yield Exam("noisy", spoilt(random, random.choice(texts)), fact.id)
    yield from _unknowns(index, chosen, random)
    for text in GENERAL:
        yield Exam("general", text, None)


def turned(random: Random, question: str) -> str:
    """The question in another shape."""
    bare = question.strip().rstrip("?.! ")
    found = _WH.match(bare)
    if found and random.random() < 0.7:
        wh, be, rest = found[1].lower(), found[2].lower(), found[3]
        frames = _TURNED if wh in ("what", "which") else _TURNED[-2:]
        text = random.choice(frames).format(wh=wh, be=be, rest=rest)
        return text[:1].upper() + text[1:]
    return random.choice(_FRAMES).format(q=bare)


def spoilt(random: Random, text: str) -> str:
    """The question as a hurried hand types it."""
    kind = random.choice(("keys", "keys", "vowel", "lower", "upper", "joined", "bare", "dots"))
    if kind == "lower":
        return text.lower()
    if kind == "upper":
        return text.upper()
    if kind == "bare":
        return text.rstrip("?.! ")
    if kind == "dots":
        return "  ".join(text.rstrip("?").split(" ")) + " ..??"
    if kind == "joined":
        gaps = [
            i
            for i, c in enumerate(text)
            if c == " " and text[i - 1].isalpha() and text[i + 1 : i + 2].isalpha()
        ]
        at = random.choice(gaps) if gaps else len(text)
        return text[:at] + text[at + 1 :]
    long = [w for w in words_of(text) if len(w.text) > 5 and w.raw.isascii() and not w.has_digit]
    if not long:
        return text.lower()
    word = random.choice(long)
    places = [i for i in range(1, len(word.raw)) if word.raw[i].isalpha()]
    if kind == "vowel":
        places = [i for i in places if word.raw[i] in "aeiou"] or places
        i = word.start + random.choice(places)
        return text[:i] + text[i + 1 :]
    i = word.start + random.choice(places)
    return text[:i] + _beside(random, text[i]) + text[i + 1 :]


def _beside(random: Random, letter: str) -> str:
    for row in _KEYS:
        at = row.find(letter.lower())
        if at >= 0:
            return random.choice([row[i] for i in (at - 1, at + 1) if 0 <= i < len(row)])
    return letter


def _unknowns(index: KeyIndex, chosen: Sequence[Entry], random: Random) -> Iterator[Exam]:
    """Strangers in taught words; known subjects with what they were not taught; names that are nearly known."""
    kinds = _kinds(index.entries.values())
    named = [entry for entry in chosen if _one_name(index, entry) is not None]
    words_by_name: dict[str, set[int]] = {}
    for entry in index.entries.values():
        if key := _one_name(index, entry):
            words_by_name.setdefault(key, set()).update(kinds[row] for row in entry.rows)
    for entry in named[:200]:
        question, name = entry.fact.question, _spelt_name(index, entry)
        if name is None:
            continue
        stranger = _reshaped(random, name)
        if key_of(words_of(stranger)) not in index.names:
            yield Exam("far", question.replace(name, stranger), None)
        other = _nearly(random, name)
        if key_of(words_of(other)) not in index.names:
            yield Exam("look_alike", question.replace(name, other), None)
        mate = random.choice(named)
        mate_name = _spelt_name(index, mate)
        key = _one_name(index, entry)
        if mate_name and key and not {kinds[row] for row in mate.rows} & words_by_name[key]:
            yield Exam("near", mate.fact.question.replace(mate_name, name), None)


def _kinds(entries: Iterable[Entry]) -> dict[int, int]:
    """For each key, a number that keys of one relation share: those that some fact is asked with alike."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            row = parent[row]
        return row

    for entry in entries:
        first = root(entry.rows[0])
        for row in entry.rows[1:]:
            parent[root(row)] = first
    return {row: root(row) for row in list(parent)}


def _one_name(index: KeyIndex, entry: Entry) -> str | None:
    """The key of the one name that a fact needs; None when it needs several or none."""
    keys = {key for keys in entry.wordings[0].names for key in keys if not index.is_ambient(key)}
    own = [key for key in keys if MASK in entry.wordings[0].masked]
    return own[0] if len(own) == 1 else None


def _spelt_name(index: KeyIndex, entry: Entry) -> str | None:
    """The name as the question writes it."""
    key = _one_name(index, entry)
    words = words_of(entry.fact.question)
    for start in range(len(words)):
        for stop in range(start + 1, len(words) + 1):
            if key_of(words[start:stop]) == key:
                return entry.fact.question[words[start].start : words[stop - 1].end]
    return None


def _reshaped(random: Random, name: str) -> str:
    """A name of the same shape that nobody bears: letters for letters, figures for figures."""
    out = []
    for c in name:
        if c.isdigit():
            out.append(str(random.randint(1, 9)))
        elif c.isalpha():
            pool = "aeiou" if c.lower() in "aeiou" else "bcdfghklmnprstvwz"
            new = random.choice(pool)
            out.append(new.upper() if c.isupper() else new)
        else:
            out.append(c)
    return "".join(out)


def _nearly(random: Random, name: str) -> str:
    """A name that differs in one figure, or in half of one word."""
    figures = [i for i, c in enumerate(name) if c.isdigit()]
    if figures:
        i = random.choice(figures)
        return name[:i] + random.choice([d for d in "123456789" if d != name[i]]) + name[i + 1 :]
    words: list[Word] = words_of(name)
    word = max(words, key=lambda w: len(w.raw))
    half = word.start + len(word.raw) // 2
    return name[:half] + _reshaped(random, name[half : word.end]) + name[word.end :]


def without(fact: Fact, wording: int) -> Fact:
    """The fact with one of its wordings taken away."""
    texts = [fact.question, *fact.wordings]
    del texts[wording]
    return fact.model_copy(update={"question": texts[0], "wordings": tuple(texts[1:])})
