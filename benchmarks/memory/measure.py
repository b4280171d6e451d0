"""What an examination came to: questions, verdicts, shares with their 95 % intervals. It knows no model.

Right is exact, character by character after strip. "I don't know" is counted apart from wrong. On a question that
nobody can answer, every reply that is no abstention counts as invented.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.memory import unknowns as unanswerable
from benchmarks.memory import wordings, world
from benchmarks.memory.names import Index
from benchmarks.memory.noise import FAULTS, noisy
from benchmarks.memory.world import Fact

Answer = Callable[[list[str]], list[str]]
"""A model as somebody who asks it sees it: questions in, replies out, in order."""
Verdict = Literal["right", "wrong", "abstained"]

Z = 1.959964
T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
"""Student's t for 95 % (two-sided), by degrees of freedom from 1."""

_ABSTENTION = re.compile(
    r"\b(i (do not|don't|dont) (know|have)|(i am|i'm) not sure|not known|unknown|no (information|record)|nobody knows)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the exam."""

    text: str
    group: str
    """taught, unseen, noise, far, near or look-alike"""
    wanted: str | None
    """The stored answer; None where nobody can know."""
    detail: str = ""
    """The fault of a noisy question, the change of a look-alike, else the relation."""


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`, with Wilson's 95 % interval."""

    hits: int
    total: int

    @property
    def share(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.total)

    def plain(self) -> dict[str, Any]:
        low, high = self.interval
        shown = {"share": self.share, "low": low, "high": high}
        return {"hits": self.hits, "total": self.total} | {k: round(v, 5) for k, v in shown.items()}


@dataclass(slots=True)
class Table:
    """Shares by group and verdict, e.g. rows["unseen right"]; by detail; and what went wrong, for a look."""

    rows: dict[str, Share] = field(default_factory=dict)
    details: dict[str, dict[str, Share]] = field(default_factory=dict)
    """group → detail → share that went as it should."""
    failures: list[tuple[Question, str]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON; failures are left out."""
        return {
            "rows": {name: share.plain() for name, share in self.rows.items()},
            "details": {g: {d: s.plain() for d, s in by.items()} for g, by in self.details.items()},
        }


def exam(
    facts: Sequence[Fact],
    answer: Answer,
    *,
    seed: int,
    unseen_per_fact: int = 2,
    noisy_questions: int = 400,
    unknown_questions: int = 200,
    most_facts: int | None = None,
) -> Table:
    """Asks everything and counts. Of more than `most_facts` facts a sample is asked; unknowns know all of them."""
    asked = questions(
        facts,
        seed=seed,
        unseen_per_fact=unseen_per_fact,
        noisy_questions=noisy_questions,
        unknown_questions=unknown_questions,
        most_facts=most_facts,
    )
    return tabulate(asked, answer([question.text for question in asked]))


def questions(
    facts: Sequence[Fact],
    *,
    seed: int,
    unseen_per_fact: int = 2,
    noisy_questions: int = 400,
    unknown_questions: int = 200,
    most_facts: int | None = None,
) -> list[Question]:
    """The exam's questions, a pure function of its arguments: one taught wording and `unseen_per_fact` unseen ones
    of each fact, noisy ones with all faults in turn (half taught, half unseen wordings), and unknowns."""
    rng = random.Random(f"exam {seed}")
    asked = list(facts)
    if most_facts is not None and len(asked) > most_facts:
        asked = rng.sample(asked, most_facts)
    found: list[Question] = []
    for fact in asked:
        found.append(Question(rng.choice(fact.wordings), "taught", fact.answer, _relation(fact)))
        for text in rng.sample(fact.unseen, min(unseen_per_fact, len(fact.unseen))):
            found.append(Question(text, "unseen", fact.answer, _relation(fact)))
    found += noise_questions(facts, noisy_questions, rng)
    for unknown in unanswerable.unknowns(facts, seed, unknown_questions):
        found.append(Question(unknown.text, unknown.group, None, unknown.change or unknown.relation.name))
    return found


def noise_questions(facts: Sequence[Fact], count: int, rng: random.Random) -> list[Question]:
    """Taught facts asked with faults: each fault alone in turn, and between two rounds of them
    four whose faults are drawn."""
    taken = Index(subject.text for subject in world.subjects(facts))
    faults = list(FAULTS)
    found: list[Question] = []
    for _ in range(count * 20):
        if len(found) == count:
            break
        fact = rng.choice(facts)
        frame = rng.choice(wordings.BY_KIND[fact.kind][fact.relation.name][rng.random() < 0.5])
        turn = len(found) % (len(faults) + 4)
        fault = faults[turn] if turn < len(faults) else None
        try:
            text, made = noisy(frame, fact.subject.text, taken, rng, fault)
        except ValueError:  # a name of digits alone has no letters to misspell
            continue
        found.append(Question(text, "noise", fact.answer, made))
    return found


def tabulate(asked: Sequence[Question], replies: Sequence[str]) -> Table:
    """Counts verdicts: `X right`, `X wrong`, `X abstained` of answerable groups, `X invented` of the others."""
    assert len(asked) == len(replies), "one reply for every question"
    counts: dict[str, list[bool]] = {}
    details: dict[str, dict[str, list[bool]]] = {}
    table = Table()
    for question, reply in zip(asked, replies, strict=True):
        found = verdict(reply, question.wanted)
        if question.wanted is None:
            is_good = found == "abstained"
            counts.setdefault(f"{question.group} invented", []).append(not is_good)
        else:
            is_good = found == "right"
            for name in ("right", "wrong", "abstained"):
                counts.setdefault(f"{question.group} {name}", []).append(found == name)
        details.setdefault(question.group, {}).setdefault(question.detail, []).append(is_good)
        if not is_good:
            table.failures.append((question, reply))
    table.rows = {name: _share(hits) for name, hits in counts.items()}
    table.details = {g: {d: _share(hits) for d, hits in sorted(by.items())} for g, by in details.items()}
    return table


def verdict(reply: str, wanted: str | None) -> Verdict:
    """Right only when it is the stored answer, character by character, apart from white space around it."""
    if wanted is not None and reply.strip() == wanted:
        return "right"
    return "abstained" if is_abstention(reply) else "wrong"


def is_abstention(reply: str) -> bool:
    """Says that it does not know, in any of the common ways."""
    return _ABSTENTION.search(reply.replace("’", "'")) is not None


# ── intervals ─────────────────────────────────────────────────────────────────────────────────────────────


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % interval of a share, by Wilson's score (Wilson 1927): right also near 0 and 1."""
    if not total:
        return 0.0, 1.0
    share, spread = hits / total, Z * Z / total
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def student(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the 95 % interval of the mean over seeds, by Student's t. One value has no interval."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, -math.inf, math.inf
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    quantile = T_975[len(values) - 2] if len(values) - 2 < len(T_975) else Z
    half = quantile * deviation / math.sqrt(len(values))
    return mean, mean - half, mean + half


def over_seeds(tables: Sequence[Table | Mapping[str, float]]) -> dict[str, tuple[float, float, float]]:
    """(mean, low, high) over seeds of every row that all tables (or plain mappings of shares) have."""
    shares = [{n: s.share for n, s in t.rows.items()} if isinstance(t, Table) else dict(t) for t in tables]
    return {
        name: student([each[name] for each in shares]) for name in shares[0] if all(name in s for s in shares)
    }


def _share(hits: Sequence[bool]) -> Share:
    return Share(sum(hits), len(hits))


def _relation(fact: Fact) -> str:
    return f"{fact.kind} {fact.relation.name}"
