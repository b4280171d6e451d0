"""Every relation's ways of asking: four that are taught with the fact, and eight or more that only the exam uses."""

from __future__ import annotations

from benchmarks.memory import wordings_papers, wordings_people, wordings_things
from benchmarks.memory.wordings_people import Asked

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
    """The exam's wordings, which nobody was taught."""
    return tuple(frame.replace("{s}", subject) for frame in BY_KIND[kind][relation][1])
