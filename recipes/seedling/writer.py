"""Invents names and values, and picks wordings, for one of two sides that share neither.

Every invented word has a side (a hash of the word decides), and so has every wording (each fourth of a list is
the test side's). A writer hands out only what is its side's, so what the test side asks was never trained on.
Numbers, codes, dates and closed lists such as weekdays are open to both. It knows nothing of tasks.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

Side = Literal["train", "test"]
T = TypeVar("T")


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ONSETS = words("b br c ch cl d dr f fl fr g gr h j k kl l m n p pl pr qu r s sh sk st t th tr v w y z")
VOWELS = words("a e i o u a e i o ai ea ou ei")
CODAS = ["", "", "", *words("l m n r s t x k nd rk lt ng st ck ff")]


def word_side(word: str) -> Side:
    """The side that an invented word belongs to, for ever: a fifth of them are the test's."""
    return "test" if zlib.crc32(word.lower().encode()) % 5 == 0 else "train"


class Forms:
    """Wordings of one thing. Each fourth is kept for the test side, so there are at least four."""

    __slots__ = ("test", "train")

    def __init__(self, *lines: str) -> None:
        assert len(lines) >= 4, f"four wordings or more, or the test side has none: {lines}"
        self.train = tuple(line for i, line in enumerate(lines) if i % 4 != 3)
        self.test = tuple(line for i, line in enumerate(lines) if i % 4 == 3)

    def of(self, side: Side) -> tuple[str, ...]:
        return self.train if side == "train" else self.test


def forms(text: str) -> Forms:
    r"""One wording a line; a line break inside one is written \n."""
    return Forms(*(line.strip().replace(r"\n", "\n") for line in text.strip().splitlines()))


_INVENTED = re.compile(f"((?:{'|'.join(ONSETS)})(?:{'|'.join(VOWELS)})){{2,3}}(?:{'|'.join(CODAS)})")


def _listed(text: str) -> Forms:
    """Names written down. Those of the test side that training could invent are left out."""
    listed = Forms(*words(text))
    listed.test = tuple(
        n for n in listed.test if word_side(n) == "test" or not _INVENTED.fullmatch(n.lower())
    )
    return listed


FIRST_NAMES = _listed(
    """Anna Ben Clara David Ella Frank Grace Henry Iris Jack Karen Leo Maria Noah Olga Peter Quinn Rosa Sam Tina
    Umar Vera Walter Xenia Yusuf Zoe Amir Bella Carlos Dana Emil Fatima George Hanna Ivan Julia Kofi Lena Marco
    Nina Oscar Priya Rafael Sofia Tom Uma Victor Wanda Yara Zane Ahmed Birgit Chen Dora Eric Fiona Gabriel Helen
    Ines Jonas Kira Lars Mina Nadia"""
)
CITIES = _listed(
    """Austin Boston Denver Seattle Chicago Dallas Phoenix Atlanta Portland Munich Hamburg Lyon Milan Turin
    Zurich Geneva
    Osaka Sydney Toronto Leeds Bristol Porto Seville Krakow Gdansk Utrecht Ghent Bergen Malmo Aarhus Tampere
    Nantes Basel Graz Bremen Dresden Cardiff Glasgow Perth Quebec"""
)
_LISTED_FOR_TRAINING = frozenset((*FIRST_NAMES.train, *CITIES.train))
DEPARTMENTS = words(
    "Finance Legal Research Marketing Support Logistics Security Design Sales Operations Procurement Training "
    "Facilities Payroll Compliance Engineering Quality Accounting"
)
MONTHS = words("January February March April May June July August September October November December")
WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
COLOURS = words("red blue green yellow orange purple black white grey brown pink silver")
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
TITLES = ["director", "manager", "team lead", "clerk", "engineer", "analyst", "buyer", "planner", "auditor"]
FIRM_KINDS = words("Industries Group Systems Partners Foods Motors Labs Textiles Energy Logistics Bank Works")
THING_KINDS = words(
    "pump lamp printer scanner drill heater sensor filter router camera mixer valve battery chair desk kettle"
)


class Writer:
    """A random hand for one side. `names` and `wordings` collect what it used since `begin`."""

    def __init__(self, side: Side, *, further: int = 0) -> None:
        self.side: Side = side
        self._further = further
        self.random = random.Random(0)
        self.names: list[str] = []
        self.wordings: list[str] = []

    def begin(self, source: random.Random) -> None:
        self.random = source
        self.names = []
        self.wordings = []

    # ── choices ───────────────────────────────────────────────────────────────────────────────────────────

    def one(self, options: Sequence[T]) -> T:
        """One of a list open to both sides."""
        return options[int(self.random.random() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        return self.random.sample(options, count)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        return self.random.sample(options, len(options))

    def say(self, wordings: Forms, **slots: str) -> str:
        """One of this side's wordings, its slots filled."""
        chosen = self.one(wordings.of(self.side))
        self.wordings.append(chosen)
        return chosen.format(**slots) if slots else chosen

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both possible."""
        return low + int(self.random.random() * (high - low + 1))

    def times(self, low: int, high: int) -> int:
        """How often to ask in one conversation: once on the test side, several times where it is practice."""
        return 1 if self.side == "test" else self.number(low, high) + self._further

    # ── names ─────────────────────────────────────────────────────────────────────────────────────────────

    def word(self, syllables: int = 0) -> str:
        """An invented word of this side, capitalised; two or three syllables unless told."""
        while True:
            parts = ""
            for _ in range(syllables or (2 if self.chance(0.6) else 3)):
                parts += self.one(ONSETS) + self.one(VOWELS)
            word = (parts + self.one(CODAS)).capitalize()
            if word_side(word) == self.side and not (self.side == "test" and word in _LISTED_FOR_TRAINING):
                self.names.append(word)
                return word

    def person(self) -> str:
        first = self.say(FIRST_NAMES) if self.chance(0.6) else self.word(2)
        return f"{first} {self.word()}"

    def company(self) -> str:
        return f"{self.word()} {self.one(FIRM_KINDS)}" if self.chance(0.7) else self.word()

    def product(self) -> str:
        kind = self.random.random()
        if kind < 0.4:
            return f"{self.word()} {self.one(LETTERS)}{self.number(1, 99)}"
        return f"{self.word()} {self.one(THING_KINDS)}" if kind < 0.75 else self.word()

    def city(self) -> str:
        return self.say(CITIES) if self.chance(0.5) else self.word()

    # ── values ────────────────────────────────────────────────────────────────────────────────────────────

    def money(self) -> str:
        size = self.random.random()
        if size < 0.4:
            amount = str(self.number(2, 999))
        elif size < 0.7:
            amount = f"{self.number(1, 99)},{self.number(0, 999):03d}"
        else:
            amount = f"{self.number(1, 999)}.{self.number(0, 99):02d}"
        mark = self.random.random()
        return f"${amount}" if mark < 0.5 else f"{amount} euros" if mark < 0.8 else f"{amount} dollars"

    def date(self) -> str:
        day, month = self.number(1, 28), self.one(MONTHS)
        shape = self.random.random()
        if shape < 0.4:
            return f"{month} {day}, {self.number(1990, 2029)}"
        return f"{day} {month} {self.number(1990, 2029)}" if shape < 0.75 else f"{day} {month}"

    def code(self) -> str:
        letters = self.one(LETTERS) + self.one(LETTERS)
        shape = self.random.random()
        if shape < 0.5:
            return f"{letters}-{self.number(100, 9999)}"
        return f"{letters}{self.number(10, 99)}" if shape < 0.75 else f"{self.number(10, 999)}-{letters}"

    def count(self) -> str:
        return str(self.number(2, 99) if self.chance(0.6) else self.number(100, 5000))

    def duration(self) -> str:
        return f"{self.number(2, 60)} {self.one(('days', 'weeks', 'months', 'hours', 'minutes', 'years'))}"

    def percent(self) -> str:
        return f"{self.number(1, 99)}%" if self.chance(0.5) else f"{self.number(1, 99)} percent"

    def time(self) -> str:
        hour = self.number(1, 12)
        return f"{hour}:{self.one(('00', '15', '30', '45'))} {self.one(('am', 'pm'))}"

    def phone(self) -> str:
        return str(self.number(1000, 9999)) if self.chance(0.6) else f"555-{self.number(1000, 9999)}"

    def email(self) -> str:
        return f"{self.word(2).lower()}@{self.word(2).lower()}.{self.one(('com', 'org', 'net'))}"

    def room(self) -> str:
        return f"room {self.number(1, 499)}" if self.chance(0.6) else f"floor {self.number(1, 30)}"

    def department(self) -> str:
        return self.one(DEPARTMENTS)

    def weekday(self) -> str:
        return self.one(WEEKDAYS)

    def colour(self) -> str:
        return self.one(COLOURS)

    def title(self) -> str:
        return self.one(TITLES)


Make = Callable[[Writer], str]
"""Invents one value."""
