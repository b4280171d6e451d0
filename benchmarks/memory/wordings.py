"""Every relation's ways of asking: four that are taught with the fact, and eight or more that only the exam uses."""

from __future__ import annotations

from functools import cache

from benchmarks.memory import wordings_papers, wordings_people, wordings_things
from benchmarks.memory.wordings_people import Asked
from inhouse.memory.phrases import FRAMES, relations
from inhouse.memory.words import words_of

BY_KIND: dict[str, dict[str, Asked]] = {
    "employee": wordings_people.EMPLOYEE,
    "department": wordings_people.DEPARTMENT,
    "customer": wordings_people.CUSTOMER,
    "supplier": wordings_people.SUPPLIER,
    "product": wordings_things.PRODUCT,
    "machine": wordings_things.MACHINE,
    "vehicle": wordings_things.VEHICLE,
    "site": wordings_things.SITE,
    "software": wordings_things.SOFTWARE,
    "project": wordings_papers.PROJECT,
    "contract": wordings_papers.CONTRACT,
    "policy": wordings_papers.POLICY,
}


def taught(kind: str, relation: str, subject: str) -> tuple[str, ...]:
    """The four wordings that stand in the file, the question first."""
    return tuple(frame.replace("{s}", subject) for frame in BY_KIND[kind][relation][0])


def unseen(kind: str, relation: str, subject: str) -> tuple[str, ...]:
    """The exam's wordings, which nobody was taught: those that a router's training may make as well are left out."""
    frames = (frame for frame in BY_KIND[kind][relation][1] if shape(frame, "{s}") not in learnt())
    return tuple(frame.replace("{s}", subject) for frame in frames)


def shape(frame: str, place: str) -> tuple[str, ...]:
    """The words of a frame, and where its subject stands."""
    return tuple(word.text for word in words_of(frame.replace(place, " zzsubjectzz ")))


@cache
def learnt() -> frozenset[tuple[str, ...]]:
    """The shapes of all questions that the lexicon holds, or makes of its nouns."""
    asks = (ask for relation in relations() for ask in relation.asks)
    made = (frame.format(n=noun, e="{e}") for r in relations() for noun in r.nouns for frame in FRAMES)
    return frozenset(shape(text, "{e}") for text in (*asks, *made))
