"""Kinds of invented things, and what a relation of one is.

A relation is data: its nouns, the maker of its value, and the wordings that state it and ask for it. `said_of_people`,
`said_of_work` and `said_of_things` hold those written out; `facts` composes more of them, and tells them.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.seedling.writer import Forms, Make, Writer, forms, words

W = Writer


@dataclass(frozen=True, slots=True)
class Entity:
    """One invented thing: its kind, its bare name, and how a sentence calls it."""

    kind: str
    name: str
    called: str

    @property
    def its(self) -> str:
        return "their" if self.kind in ("person", "team") else "its"


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that can be said of a kind of entity: {e} is the entity and {v} the value."""

    kind: str
    nouns: tuple[str, ...]
    make: Make
    statements: Forms
    questions: Forms
    """Questions in words of their own; those that ask for a noun are composed by `question`."""
    is_composed: bool = False


# ── values of their own ───────────────────────────────────────────────────────────────────────────────────


def weight(w: Writer) -> str:
    return f"{w.number(2, 90)} kg"


def power(w: Writer) -> str:
    return f"{w.number(2, 400)} kW"


def area(w: Writer) -> str:
    return f"{w.number(20, 9000)} square metres"


ANSWERS_TO: dict[Make, frozenset[str]] = {
    W.person: frozenset({"who"}),
    W.company: frozenset({"who"}),
    W.city: frozenset({"where"}),
    W.room: frozenset({"where"}),
    W.date: frozenset({"when"}),
    W.weekday: frozenset({"when"}),
    W.time: frozenset({"when"}),
    W.code: frozenset({"number"}),
    W.phone: frozenset({"number"}),
    W.email: frozenset({"number"}),
    W.title: frozenset({"work"}),
    W.department: frozenset({"work", "where"}),
    W.money: frozenset({"money"}),
    W.percent: frozenset({"percent"}),
    W.count: frozenset({"count"}),
    W.duration: frozenset({"duration"}),
    W.colour: frozenset({"colour"}),
    weight: frozenset({"weight"}),
    power: frozenset({"power"}),
    area: frozenset({"area"}),
}
"""Which questions a value could be taken to answer: two facts of one thing must not both answer one question."""


def clash(a: Relation, b: Relation) -> bool:
    """Whether a question for one could be taken for the other, when both are of the same thing.

    Composed relations are asked for by their whole noun, so only nouns that end alike clash; others are also asked
    for in words that a value of the same sort would fit.
    """
    if any(x.endswith(y) or y.endswith(x) for x in a.nouns for y in b.nouns):
        return True
    if a.is_composed and b.is_composed:
        return False
    return bool(ANSWERS_TO[a.make] & ANSWERS_TO[b.make])


# ── kinds of things ───────────────────────────────────────────────────────────────────────────────────────

EVENT_KINDS = words("workshop fair review audit meeting course visit launch seminar conference")
DEEDS = (
    "travel",
    "overtime",
    "training",
    "catering",
    "equipment",
    "furniture",
    "advertising",
    "software",
    "printing",
    "cleaning",
    "transport",
    "repair work",
    "office rent",
    "legal advice",
)
POLICY_TOPICS = words(
    "travel parking leave training expense gift phone visitor overtime refund safety printing holiday security "
    "car meal purchasing data badge recycling loan library bicycle uniform archive key laptop cleaning complaints"
)
MACHINE_KINDS = words("press lathe mill oven crane cutter welder robot conveyor compressor boiler loom")
PAPER_KINDS = words("contract contract lease licence agreement")


def _event(w: Writer) -> str:
    return f"{w.word()} {w.one(EVENT_KINDS)}"


def _rule(w: Writer) -> str:
    return f"{w.one(DEEDS)} {w.one(('over', 'under', 'above', 'below'))} {w.money()}"


def _policy(w: Writer) -> str:
    return f"{w.one(POLICY_TOPICS) if w.chance(0.5) else w.word()} policy"


def _machine(w: Writer) -> str:
    return f"{w.code() if w.chance(0.3) else w.word()} {w.one(MACHINE_KINDS)}"


def _contract(w: Writer) -> str:
    return f"{w.word()} {w.one(PAPER_KINDS)}"


_KINDS: dict[str, tuple[Make, str]] = {
    "product": (W.product, "the {}"),
    "person": (W.person, "{}"),
    "company": (W.company, "{}"),
    "project": (W.word, "project {}"),
    "team": (W.word, "the {} team"),
    "event": (_event, "the {}"),
    "order": (W.code, "order {}"),
    "site": (W.city, "the {} site"),
    "rule": (_rule, "{}"),
    "policy": (_policy, "the {}"),
    "contract": (_contract, "the {}"),
    "machine": (_machine, "the {}"),
}
KINDS = tuple(_KINDS)


def entity(w: Writer, kind: str) -> Entity:
    make, called = _KINDS[kind]
    name = make(w)
    return Entity(kind, name, called.format(name))


def entities(w: Writer, kind: str, count: int) -> list[Entity]:
    """So many different ones of a kind, now and then two that look alike."""
    made: list[Entity] = []
    while len(made) < count:
        new = look_alike(w, made[0]) if made and w.chance(0.08) else entity(w, kind)
        if new not in made:
            made.append(new)
    return made


def look_alike(w: Writer, known: Entity) -> Entity:
    """Another thing whose name shares a word with one that is known, where its kind has names of two words."""
    first, _, last = known.name.rpartition(" ")
    if not first or known.kind == "rule":
        return entity(w, known.kind)
    name = f"{w.word()} {last}"
    if known.kind == "person" and w.chance(0.7):
        name = f"{first} {w.word()}"
    return Entity(known.kind, name, _KINDS[known.kind][1].format(name))


def written(kind: str, nouns: str, make: Make, statements: str, questions: str) -> Relation:
    return Relation(kind, tuple(nouns.split("|")), make, forms(statements), forms(questions))
