"""An endless invented world as conversations, each a pure function of what came before it and a seed.

It knows which abilities there are and how often each comes; `reading`, `shaping`, `reckoning` and `talk` write
them. What the test side asks, in names and in wordings, the training side never shows (see `writer`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inhouse.schema import Message
from recipes.seedling import reading, reckoning, shaping, talk
from recipes.seedling.reading import Turns
from recipes.seedling.writer import Side, Writer

Task = Callable[[Writer], Turns]

ABILITIES: dict[str, tuple[Task, float]] = {
    "answer": (reading.answer, 6.0),
    "lacks": (reading.lacks, 2.5),
    "unknown": (reading.unknown, 1.0),
    "quote": (reading.quote, 1.5),
    "check": (reading.check, 1.0),
    "follow_up": (reading.follow_up, 2.5),
    "list": (reading.list_names, 0.7),
    "extract": (shaping.extract, 3.5),
    "classify": (shaping.classify, 3.0),
    "rewrite": (shaping.rewrite, 1.0),
    "obey": (shaping.obey, 1.2),
    "sums": (reckoning.add_up, 2.0),
    "count": (reckoning.count, 1.0),
    "compare": (reckoning.compare, 1.0),
    "choose": (reckoning.choose, 1.0),
    "common": (talk.common, 1.0),
    "small_talk": (talk.small_talk, 0.6),
}
"""What is taught: a task and how often it comes. Reading comes most: it is what every other ability leans on."""

LATER = {
    "lacks": 3.0,
    "unknown": 0.5,
    "check": 0.7,
    "follow_up": 4.0,
    "extract": 5.0,
    "classify": 6.0,
    "obey": 1.5,
    "sums": 0.8,
    "count": 0.3,
    "compare": 1.2,
    "choose": 0.8,
    "common": 0.4,
    "small_talk": 0.4,
}
"""How often they come later on, where that changes: more of what is learnt slowly, less of what is known by then."""
LATER_TURNS = 2
"""Further questions of a conversation later on: a passage once read is worth more of them."""

_NAMES = tuple(ABILITIES)
_WEIGHTS = [weight for _, weight in ABILITIES.values()]
_LATER_WEIGHTS = [LATER.get(name, weight) for name, (_, weight) in ABILITIES.items()]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of the world; its last message is the reply that is wanted."""

    messages: tuple[Message, ...]
    ability: str
    names: tuple[str, ...]
    """Invented words that it holds."""
    wordings: tuple[str, ...]
    """Wordings that it was made from."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].text


class World:
    """A source of conversations for one side, as at first or as later on in training."""

    def __init__(self, side: Side, *, is_later: bool = False) -> None:
        self._writer = Writer(side, further=LATER_TURNS if is_later else 0)
        self._weights = _LATER_WEIGHTS if is_later else _WEIGHTS

    def next(self, source: random.Random, ability: str | None = None) -> Conversation:
        """A conversation made of `source`'s next numbers and nothing else."""
        writer = self._writer
        writer.begin(source)
        name = ability or source.choices(_NAMES, self._weights)[0]
        turns = ABILITIES[name][0](writer)
        messages = tuple(Message(role=role, content=text) for role, text in turns)
        return Conversation(messages, name, tuple(writer.names), tuple(writer.wordings))


def conversations(seed: int, side: Side, ability: str | None = None) -> Iterator[Conversation]:
    """Conversations without end, of every ability or of one."""
    source, world = random.Random(seed), World(side)
    while True:
        yield world.next(source, ability)
