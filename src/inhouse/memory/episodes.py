"""Made-up banks and the questions put to them: what the gate learns from.

Each bank has subjects with some relations taught and some not, a few facts without a name, sometimes a company's
name everywhere; the questions are reworded, misspelt, about strangers, about look-alikes, or about something else
altogether. It knows phrases; it knows no encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from inhouse.memory.phrases import (
    E,
    Relation,
    filled,
    general,
    lookalike,
    made_answer,
    made_name,
    made_word,
    noisy,
    topics,
)
from inhouse.schema import Fact

OWN_WORDS = 0.4
"""Share of the questions that are in a fact's very words, about its subject or about a look-alike."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question put to a bank, and the fact that it asks for."""

    text: str
    fact: str | None
    kind: str
    """asked, far, near, look_alike, topic (another thing than a fact without a name is about) or general"""


@dataclass(frozen=True, slots=True)
class Episode:
    """A bank and its questions."""

    facts: tuple[Fact, ...]
    queries: tuple[Query, ...]


@dataclass(slots=True)
class _Subject:
    name: str
    taught: list[Relation]
    untaught: list[Relation]


def episode(random: Random, pool: Sequence[tuple[Relation, Relation]], *, subjects: int = 24) -> Episode:
    """One bank. `pool` holds relations twice: with the wordings to teach, and with those to ask."""
    taught_side = {taught.id: taught for taught, _ in pool}
    asked_side = {asked.id: asked for _, asked in pool}
    kinds: dict[str, list[str]] = {}
    for taught, _ in pool:
        kinds.setdefault(taught.of, []).append(taught.id)
    usable = [ids for ids in kinds.values() if len(ids) >= 3] or [list(taught_side)]
    chosen = _kinds(random, usable, random.choice((1, 2, 3, 5)))
    company = f"{made_word(random)} {made_word(random)}" if random.random() < 0.3 else None
    facts: list[Fact] = []
    queries: list[Query] = []
    people: list[_Subject] = []
    schemas = [random.sample(ids, min(len(ids), random.choice((3, 4, 5, 6, 8)))) for ids in chosen]
    for _ in range(subjects):
        ids = random.choice(schemas)
        picked = random.sample(ids, min(len(ids), random.choice((2, 3, 4, 5))))
        people.append(
            _Subject(
                made_name(random),
                [taught_side[i] for i in picked[:-1]],
                [asked_side[i] for i in picked[-1:]],
            )
        )
    known = {subject.name for subject in people}
    for subject in people:
        for relation in subject.taught:
            fact = _fact(random, relation, subject.name, company, len(facts))
            facts.append(fact)
            asked = asked_side[relation.id]
            own = [text.replace(subject.name, E) for text in (fact.question, *fact.wordings)]
            for _ in range(2):
                wording = random.choice(own) if random.random() < OWN_WORDS else asked.wording(random)
                queries.append(Query(_typed(random, wording, subject.name, company), fact.id, "asked"))
            other = lookalike(random, subject.name)
            if other not in known:
                wording = asked.wording(random)
                if random.random() < OWN_WORDS:
                    wording = random.choice(own)
                queries.append(Query(_typed(random, wording, other, company), None, "look_alike"))
        for relation in subject.untaught:
            queries.append(
                Query(_typed(random, relation.wording(random), subject.name, company), None, "near")
            )
    for _ in range(subjects // 2):
        relation = asked_side[random.choice(random.choice(chosen))]
        queries.append(
            Query(_typed(random, relation.wording(random), made_name(random), company), None, "far")
        )
    _add_nameless(random, pool, facts, queries)
    queries += [
        Query(
            random.choice(general()).format(a=random.randint(2, 99), b=random.randint(2, 99)),
            None,
            "general",
        )
        for _ in range(24)
    ]
    return Episode(tuple(facts), tuple(queries))


def _kinds(random: Random, usable: Sequence[list[str]], number: int) -> list[list[str]]:
    """Kinds of subject, those of whom much is asked more often."""
    left = list(usable)
    found: list[list[str]] = []
    while left and len(found) < number:
        found.append(left.pop(random.choices(range(len(left)), [len(ids) for ids in left])[0]))
    return found


def _fact(random: Random, relation: Relation, name: str, company: str | None, number: int) -> Fact:
    wordings = [relation.wording(random) for _ in range(random.choice((1, 1, 2, 4)))]
    if company and random.random() < 0.5:
        wordings = [f"{w.rstrip('?.')} at {company}?" for w in wordings]
    asked = tuple(dict.fromkeys(w.replace(E, name) for w in wordings))
    return Fact(
        id=f"f{number}",
        bank="b",
        revision=1,
        question=asked[0],
        wordings=asked[1:],
        answer=made_answer(random, relation.answer),
        subject=name if random.random() < 0.5 else None,
    )


def _add_nameless(
    random: Random, pool: Sequence[tuple[Relation, Relation]], facts: list[Fact], queries: list[Query]
) -> None:
    """Facts whose subject is no name, such as a policy, with neighbours that differ by a word or a figure."""
    for _ in range(8):
        taught, asked = random.choice(pool)
        topic, other = random.sample(topics(), 2)
        n, m = random.sample((50, 100, 200, 500, 1000, 5000, 3, 7, 12), 2)
        said, stranger = topic.format(n=n), other.format(n=n)
        fact = Fact(
            id=f"f{len(facts)}",
            bank="b",
            revision=1,
            question=taught.wording(random).replace(E, said),
            answer=made_answer(random, taught.answer),
        )
        facts.append(fact)
        queries.append(Query(_typed(random, asked.wording(random), said, None), fact.id, "asked"))
        queries.append(Query(_typed(random, fact.question, said, None), fact.id, "asked"))
        queries.append(Query(_typed(random, asked.wording(random), stranger, None), None, "topic"))
        if "{n}" in topic:
            queries.append(
                Query(_typed(random, asked.wording(random), topic.format(n=m), None), None, "topic")
            )


def _typed(random: Random, wording: str, name: str, company: str | None) -> str:
    """A wording as somebody might type it."""
    if company and random.random() < 0.2:
        wording = f"{wording.rstrip('?.')} at {company}?"
    luck = random.random()
    if luck < 0.15 and len(name) > 6:
        name = noisy(random, name)
    elif luck < 0.25:
        wording = _noisy_around(random, wording)
    text = wording.replace(E, name)
    if random.random() < 0.25:
        text = filled(random, wording).replace(E, name)
    shape = random.random()
    if shape < 0.15:
        text = text.lower()
    elif shape < 0.18:
        text = text.upper()
    if random.random() < 0.15:
        text = text.rstrip("?.")
    return text


def _noisy_around(random: Random, wording: str) -> str:
    before, found, after = wording.partition(E)
    return noisy(random, before) + found + (noisy(random, after) if random.random() < 0.5 else after)
