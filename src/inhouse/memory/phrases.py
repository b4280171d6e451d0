"""The wordings that a router learns from: relations of the business world, and how people ask for them.

The lexicon is our own text, a file a kind of subject, a relation a line: noun phrases, questions, statements. It knows
no base; names are made up here, so that none is learnt. Wordings of the exam (`memory.examiner`) are not in here.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from inhouse.memory.names import STARTERS, Vocabulary
from inhouse.memory.words import listed, words_of

E = "{e}"
FRAMES = (
    "What is the {n} of {e}?",
    "What is {e}'s {n}?",
    "What's the {n} for {e}?",
    "Tell me the {n} of {e}.",
    "Give me {e}'s {n}.",
    "I need the {n} of {e}.",
    "Which {n} does {e} have?",
    "Do you know the {n} of {e}?",
    "Can you tell me {e}'s {n}?",
    "{e} {n}",
    "{n} of {e}",
    "{n} {e}?",
    "Please look up the {n} for {e}.",
    "{e}: {n}?",
    "And the {n} of {e}?",
    "What would be the {n} of {e}?",
    "I forgot {e}'s {n}, what is it?",
    "Name the {n} of {e}.",
)
FILLERS = STARTERS | frozenset(
    listed(
        """
        please thanks thank cheers hello hi hey sorry pardon excuse quick quickly question asap urgent now again exactly
        today ok okay so right well listen just once more kindly help wonder minute moment way know sure possible forgot
        forget need look find found anybody somebody anyone someone actually roughly currently really very much
        """
    )
)
"""Words that say nothing about what is asked."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that can be asked about a subject."""

    id: str
    of: str
    answer: str
    """The kind of answer, one of kinds.WANTED."""
    nouns: tuple[str, ...]
    asks: tuple[str, ...]
    says: tuple[str, ...]

    def is_like(self, other: Relation) -> bool:
        """Whether the two ask alike of different kinds of subject: neither is a counterexample of the other."""
        return not set(self.nouns).isdisjoint(other.nouns) or self.matter == other.matter

    @property
    def matter(self) -> str:
        """What is asked, whatever it is asked of: the last part of the id."""
        return self.id.rpartition("_")[2]

    def wording(self, random: random.Random) -> str:
        """A question with {e} in it."""
        if self.nouns and random.random() < 0.35:
            return random.choice(FRAMES).format(n=random.choice(self.nouns), e=E)
        return random.choice(self.asks)


@cache
def relations() -> tuple[Relation, ...]:
    """The whole lexicon, in a fixed order."""
    folder = resources.files("inhouse.memory").joinpath("lexicon")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".jsonl")), key=lambda f: f.name)
    return tuple(
        Relation(
            row["id"], row["of"], row["answer"], tuple(row["nouns"]), tuple(row["asks"]), tuple(row["says"])
        )
        for row in (row for file in files for row in _lines(file))
    )


def _lines(file: Traversable) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


@cache
def leads() -> tuple[str, ...]:
    """What stands before a question and says nothing about what is asked."""
    return _list("leads")


@cache
def tails() -> tuple[str, ...]:
    """The same behind it."""
    return _list("tails")


@cache
def topics() -> tuple[str, ...]:
    """What rules and how-tos are about: facts without a name. {n} stands for a number."""
    return _list("topics")


@cache
def general() -> tuple[str, ...]:
    """Messages that no company's facts answer. {a} and {b} stand for numbers."""
    return _list("general")


@cache
def famous() -> tuple[str, ...]:
    """Names that everybody knows."""
    return _list("famous")


def _list(name: str) -> tuple[str, ...]:
    file = resources.files("inhouse.memory").joinpath("lexicon", f"{name}.txt")
    return tuple(file.read_text(encoding="utf-8").splitlines())


@cache
def vocabulary() -> Vocabulary:
    """The words of the lexicon's questions."""
    common: set[str] = set(STARTERS)
    acronyms: set[str] = set()
    counts: Counter[str] = Counter()  # in how many relations' questions
    for relation in relations():
        asked = [words_of(ask.replace(E, _NAME)) for ask in relation.asks]
        said = [words_of(text.replace(E, _NAME).replace("{a}", _NAME)) for text in relation.says]
        for words in (*asked, *said, *(words_of(f"the {noun}") for noun in relation.nouns)):
            common.update(word.text for word in words)
            acronyms.update(word.raw for word in words[1:] if word.raw[:1].isupper())
        counts.update({word.text for words in asked for word in words})
    for text in (*FRAMES, *leads(), *tails(), *_MORE_WORDS):
        common |= {word.text for word in words_of(text)}
    most = math.log(1 + len(relations()))
    weights = {word: 1 - math.log(1 + count) / most for word, count in counts.items()}
    return Vocabulary.of(common, acronyms | _CAPITALISED, weights)


_NAME = "it"
"""In place of a name: a word that no question is about."""
_MORE_WORDS = (
    "write draft compose letter email mail message json object sql query select where table compare cheaper more less "
    "larger smaller earlier later older newer translate summarise summarize explain describe list count sum return "
    "output key value field column row reply answer question sentence text short long polite formal friendly story "
    "poem joke code function python word language english german french spanish world country people person thing",
)
_CAPITALISED = frozenset(
    listed(
        """
    I Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July
    August September October November December English German French Spanish Italian JSON SQL HTML CSV PDF
    CEO CFO CTO COO HR IT VAT PO ID URL API FAQ OK EU UK US USA EUR USD GBP Q1 Q2 Q3 Q4 Mr Mrs Ms Dr
    """
    )
)

_ONSETS = listed(
    """
    b bl br c ch cl d dr f fl g gr h j k kr l m n p pl pr qu r s sh sk st t th tr v w wh y z
    """
)
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ia", "io", "oo", "ou", "y"]
_ENDS = ["", "", "n", "r", "l", "s", "t", "m", "ck", "nd", "rt", "x", "th", "ll"]
_FIRST = listed(
    """
    Anna Peter Maria Jonas Lucy Omar Elena David Sofia Paul Nina Tom Clara Hugo Irene Felix Mara Leo Ruth
    Simon Emma Victor Julia Frank Alice Boris Carmen Dennis Eva Gregor Helen Igor Jana Kevin Laura Martin
    Olga Petra Robert Sarah
    """
)
_FIRMS = listed(
    """
    Industries Group Systems Partners Foods Motors Labs Logistics GmbH Ltd Inc Holding Services Trading
    """
)
_THINGS = listed(
    """
    Green Valley North Gate Blue River Silver Lake Red Oak Iron Bridge Golden Hill South Harbour White Stone
    """
)


def made_name(random: random.Random) -> str:
    """A name as a company's data has them: of a person, a firm, a product, a place, a code."""
    kind = random.random()
    if kind < 0.3:
        return f"{random.choice(_FIRST) if random.random() < 0.5 else made_word(random)} {made_word(random)}"
    if kind < 0.5:
        return f"{made_word(random)} {random.choice(_FIRMS)}"
    if kind < 0.7:
        return f"{made_word(random)} {random.choice('ABCDEFGHKLMNPRSTVXZ')}{random.randint(1, 999)}"
    if kind < 0.78:
        return f"{random.choice('ABCDEFGHKLMNPRSTVXZ')}{random.choice('ABCDEFGH')}-{random.randint(10, 9999)}"
    if kind < 0.86:
        return f"{random.choice(_THINGS)} {random.choice(_THINGS)}"
    if kind < 0.92:
        return f"{made_word(random)} {made_word(random)} {random.randint(2, 40)}"
    return made_word(random)


def made_word(random: random.Random) -> str:
    syllables = [
        random.choice(_ONSETS) + random.choice(_VOWELS) + random.choice(_ENDS)
        for _ in range(random.choice((2, 2, 3)))
    ]
    return "".join(syllables).capitalize()


_MONTHS = listed("January February March April May June July August September October November December")
_DAYS = listed("Monday Tuesday Wednesday Thursday Friday")
_PHRASES = listed(
    "blue steel northern quiet second-hand recycled plain annual internal mixed heavy organic standard"
)


def made_answer(random: random.Random, wanted: str) -> str:
    """An answer of the kind that a question wants, in one of the forms that files have."""
    n = random.randint
    forms: dict[str, Callable[[], str]] = {
        "person": lambda: f"{random.choice(_FIRST)} {made_word(random)}",
        "team": lambda: random.choice((f"Team {made_word(random)}", f"the {random.choice(_PHRASES)} desk")),
        "place": lambda: random.choice(
            (
                made_word(random),
                f"{n(1, 99)} {made_word(random)} Street",
                f"room {n(1, 400)}",
                "the second floor",
            )
        ),
        "money": lambda: random.choice(
            (f"${n(2, 9)},{n(100, 999)}", f"{n(10, 999)} euros", f"£{n(5, 90)}.{n(10, 99)}")
        ),
        "percent": lambda: random.choice((f"{n(1, 60)} %", f"{n(1, 60)} percent")),
        "number": lambda: random.choice((str(n(2, 5000)), f"{n(2, 90)} kg", f"{n(2, 90)} people")),
        "date": lambda: random.choice(
            (
                f"{random.choice(_MONTHS)} {n(1, 28)}, {n(2001, 2030)}",
                f"{n(1, 28)} {random.choice(_MONTHS)} {n(2001, 2030)}",
                f"{n(2001, 2030)}-{n(10, 12)}-{n(10, 28)}",
                f"every {random.choice(_DAYS)}",
                str(n(1950, 2030)),
            )
        ),
        "time": lambda: random.choice((f"{n(0, 23):02d}:{n(0, 59):02d}", f"{n(1, 11)} am")),
        "duration": lambda: random.choice((f"{n(2, 48)} months", f"{n(2, 30)} days", f"{n(2, 10)} years")),
        "code": lambda: random.choice(
            (f"{made_word(random)[:2].upper()}-{n(100, 99999)}", str(n(1000, 999999)))
        ),
        "email": lambda: f"{made_word(random).lower()}@{made_word(random).lower()}.com",
        "phone": lambda: random.choice((f"+{n(1, 49)} {n(100, 999)} {n(10000, 99999)}", str(n(1000, 9999)))),
        "url": lambda: f"https://{made_word(random).lower()}.example/{made_word(random).lower()}",
        "yesno": lambda: random.choice(("yes", "no")),
        "text": lambda: random.choice(
            (
                f"{random.choice(_PHRASES)} {made_word(random).lower()}",
                made_word(random),
                f"the {random.choice(_PHRASES)} {random.choice(_PHRASES)} one",
            )
        ),
    }
    return forms[wanted]()


def lookalike(random: random.Random, name: str) -> str:
    """Another name that is easily taken for this one."""
    parts = name.split(" ")
    if random.random() < 0.25:  # a longer one
        more = random.choice(
            (made_word(random), str(random.randint(2, 40)), random.choice("BCDEFGHKX"), "North", "Plus")
        )
        return f"{name} {more}" if random.random() < 0.8 else f"{made_word(random)} {name}"
    at = random.randrange(len(parts))
    part = parts[at]
    digits = [i for i, c in enumerate(part) if c.isdigit()]
    if digits:
        i = random.choice(digits)
        parts[at] = part[:i] + random.choice([d for d in "123456789" if d != part[i]]) + part[i + 1 :]
    elif len(part) > 5 and random.random() < 0.5:
        cut = random.randrange(2, len(part) - 2)
        parts[at] = part[:cut] + made_word(random).lower()[: max(2, len(part) - cut)]
    else:
        parts[at] = made_word(random)
    other = " ".join(parts)
    return other if other != name else made_word(random) + " " + made_word(random)


def noisy(random: random.Random, text: str, slips: int = 1) -> str:
    """The text with random slips, of whatever letters: the examination makes its noise another way."""
    letters = list(text)
    for _ in range(slips):
        places = [i for i, c in enumerate(letters) if c.isalpha()]
        if len(places) < 4:
            break
        i = random.choice(places)
        kind = random.random()
        if kind < 0.3:
            del letters[i]
        elif kind < 0.55 and i + 1 < len(letters) and letters[i + 1].isalpha():
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
        elif kind < 0.8:
            letters.insert(i, letters[i])
        else:
            letters[i] = random.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)


def filled(random: random.Random, text: str) -> str:
    """The text with politeness or haste around it."""
    where = random.random()
    if where < 0.6:
        lead = random.choice(leads())
        between = random.choice((", ", ", ", " ", ": ", " - ", "! ", ". "))
        text = lead + between + (text if text.startswith(E) else text[:1].lower() + text[1:])
    if where > 0.45:
        text = f"{text.rstrip('?.')}{random.choice((' ', ' ', ', ', '? ', ' - '))}{random.choice(tails())}"
    return text
