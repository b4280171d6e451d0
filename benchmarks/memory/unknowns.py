"""Questions that the facts do not answer, each with the reason: far, near, look-alike.

far         a taught relation of a subject that is nowhere in the bank and shares no invented word with one that is
near        a taught subject, but a relation that was not taught for it (it is taught for others)
look-alike  a name that differs by one thing from a taught one; the relation is taught for that one

The right answer to all of them is that nobody knows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.memory import names, wordings, world
from benchmarks.memory.names import INVENTED, Index, Name
from benchmarks.memory.world import Fact, Relation

GROUPS = ("far", "near", "look-alike")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A question without an answer."""

    text: str
    group: str
    subject: str
    relation: Relation
    is_taught_frame: bool
    """Half of them are asked in a taught wording's frame, half in one of the exam's."""
    change: str = ""
    """How a look-alike differs, one of names.CHANGES."""
    original: Fact | None = None
    """What a look-alike looks like."""


def unknowns(facts: Sequence[Fact], seed: int, count: int = 200) -> list[Unknown]:
    """Up to `count` of each group, fewer near ones where the bank is small; a pure function of facts and seed."""
    rng = random.Random(f"unknowns {seed}")
    return [*_far(facts, rng, count), *_near(facts, rng, count), *_look_alikes(facts, rng, count)]


def _far(facts: Sequence[Fact], rng: random.Random, count: int) -> list[Unknown]:
    taught = world.subjects(facts)
    taken = Index(subject.text for subject in taught)
    invented = {part.text.casefold() for subject in taught for part in subject.parts if part.slot in INVENTED}
    plain = [subject for subject in taught if not any(part.slot in INVENTED for part in subject.parts)]
    relations = list({(f.kind, f.relation.name): f.relation for f in facts}.values())
    found: list[Unknown] = []
    while len(found) < count:
        relation = rng.choice(relations)
        subject = names.draw(relation.kind, rng)
        if taken.is_near(subject.text) or _is_akin(subject, invented, plain):
            continue
        taken.add(subject.text)
        found.append(_asked("far", subject.text, relation, rng))
    return found


def _is_akin(subject: Name, invented: set[str], plain: list[Name]) -> bool:
    """Shares an invented word with a taught name; or, made of common words and digits, all but one of its parts."""
    own = {part.text.casefold() for part in subject.parts if part.slot in INVENTED}
    if own:
        return bool(own & invented)
    if len(subject.parts) == 1:  # a code alone: another in two places at least
        return any(_differing(subject.text, other.text) < 3 for other in plain)
    parts = {part.text for part in subject.parts}
    return any(
        len(parts & {part.text for part in other.parts}) >= len(subject.parts) - 1
        for other in plain
        if other.kind == subject.kind
    )


def _differing(one: str, other: str) -> int:
    """In how many places two texts of one length differ; 99 for other lengths."""
    return sum(a != b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else 99


def _near(facts: Sequence[Fact], rng: random.Random, count: int) -> list[Unknown]:
    taught = {(fact.kind, fact.relation.name) for fact in facts}
    open_ones = [(s, r) for s, r in world.untaught(facts) if (r.kind, r.name) in taught]
    return [
        _asked("near", subject.text, relation, rng)
        for subject, relation in rng.sample(open_ones, min(count, len(open_ones)))
    ]


def _look_alikes(facts: Sequence[Fact], rng: random.Random, count: int) -> list[Unknown]:
    taken = Index(subject.text for subject in world.subjects(facts))
    found: list[Unknown] = []
    asked: set[tuple[str, str]] = set()
    per_change = dict.fromkeys(names.CHANGES, 0)
    for _ in range(count * 50):
        if len(found) == count:
            break
        fact = rng.choice(facts)
        ways = names.look_alikes(fact.subject, rng)
        ways = {change: text for change, text in ways.items() if _may_stand(change, text, fact, taken)}
        if not ways:
            continue
        change = min(ways, key=lambda way: per_change[way])  # the rarer changes first, so that all are met
        if (ways[change], fact.relation.name) in asked:
            continue
        asked.add((ways[change], fact.relation.name))
        per_change[change] += 1
        found.append(_asked("look-alike", ways[change], fact.relation, rng, change, fact))
    return found


def _may_stand(change: str, text: str, fact: Fact, taken: Index) -> bool:
    """Is nobody's name, and, unless a digit makes it another one, not what a slip of the keyboard would give."""
    if change in ("digit", "longer"):
        return text not in taken
    return not taken.is_near(text)


def _asked(
    group: str,
    subject: str,
    relation: Relation,
    rng: random.Random,
    change: str = "",
    original: Fact | None = None,
) -> Unknown:
    is_taught_frame = rng.random() < 0.5
    ways = (wordings.taught if is_taught_frame else wordings.unseen)(relation.kind, relation.name, subject)
    return Unknown(rng.choice(ways), group, subject, relation, is_taught_frame, change, original)
