"""From a conversation to a decision: which facts its last question asks for, and how sure that is.

The subject by spelling, the relation by meaning, the gate on top; a doubt is a no. It knows no engine: what a
decision becomes is `engine.memory`'s matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from inhouse.memory import gate
from inhouse.memory.asking import Asking, asking
from inhouse.memory.evidence import FEATURES, Candidate, Reading, candidates, read
from inhouse.memory.index import KeyIndex, masked
from inhouse.memory.names import NameMatch
from inhouse.memory.router import Router
from inhouse.memory.words import words_of
from inhouse.schema import Fact, Message

MOST_HITS = 8
MOST_CHARACTERS = 4000
"""A longer message is a text of its own: it is not read against the bank."""
MUCH = 400
"""From this length on a message is first looked at for a text of its own."""
MOST_UNSURE = 2
NEXT = 0.5
"""Of an unsure question, the facts that the model is shown: so many, and each at least this share as probable as
the first. More would be one thing more to mix up."""
FOR_A_NAME = 2
"""Facts of one subject that a task is given."""
USED = 0.35
"""Meaning from which on a task is taken to need a fact of a subject that it names."""
KIN = 0.3
"""Meaning from which on a question about a known subject is of the bank's kind. These lines were drawn on the search
seeds of benchmarks/memory, between strangers and general messages."""
KIN_AMBIENT = 0.5
"""The same where no name but one of the bank's air is known in it."""
KIN_STRANGE = 0.34
"""The same where a name is asked about that neither the bank nor everybody knows."""
KIN_LEAST = 0.25
KIN_ELSEWHERE = 0.45
"""The same, to the bank's wordings and to the lexicon's, where two words may be such a name."""
KIN_UNSURE = 0.6
"""The same where a word may be such a name, in a text whose capitals tell nothing."""
SURE_NAME = 1.2
"""Slips up to which a name in a task is taken for meant."""
_BACK = re.compile(
    r"\b(?:it|its|he|his|him|she|her|they|them|their|that|this|those|there|same)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A fact that a question asks for, or a task needs."""

    fact: Fact
    gate: float
    """Probability, by the gate."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a conversation's last message asks of the bank."""

    kind: Literal["exact", "several", "use", "refused", "none"]
    hits: tuple[Hit, ...] = ()
    """The surest first."""
    why: dict[str, Any] = field(default_factory=dict)
    """For people: what was seen."""


def decide(
    index: KeyIndex, router: Router, messages: Sequence[Message], *, refuses: bool, now: float
) -> Decision:
    """The decision for the last user message. `refuses`: questions of the bank's kind without a fact are refused."""
    asked = [m.text for m in messages if m.role == "user"]
    if not asked or not asked[-1].strip() or not len(index):
        return Decision("none", why={"reason": "there is no question, or no fact"})
    text = asked[-1]
    if len(text) > MOST_CHARACTERS or (len(text) > MUCH and asking(text).brings_text):
        return Decision("none", why={"reason": "the message brings the text that it asks about"})
    reading = read(index, text)
    wants = asking(text, _without_names(text, reading))
    is_wording = any(index.knows(form) for form in reading.forms)
    if wants.brings_text and not is_wording:
        return Decision("none", why={"reason": "the message brings the text that it asks about"})
    if not reading.matches and _BACK.search(text):
        reading = read(index, text, _earlier_names(index, asked[:-1]))
    spoken = [match for match in reading.matches if not index.is_ambient(match.key)]
    is_task = not wants.is_direct or (wants.compares and len({m.key for m in spoken}) > 1)
    is_task = is_task and not is_wording
    why = _why(reading)
    if is_task:
        hits = _needed(index, wants, spoken, now)
        return Decision("use" if hits else "none", hits, {**why, "reason": "a task that may use facts"})
    found = _judged(index, router, reading)
    valid = [(c, p) for c, p in found if _is_valid(c.entry.fact, now)]
    if valid:
        best = valid[0][0]
        why |= {"evidence": dict(zip(FEATURES, (round(f, 3) for f in best.features), strict=True))}
        why |= {"closest": best.entry.fact.id, "gate": round(valid[0][1], 4)}
    hits = tuple(Hit(c.entry.fact, p) for c, p in valid if p >= router.low)[:MOST_HITS]
    if hits:
        sure = tuple(hit for hit in hits if hit.gate >= router.high)
        if sure and all(hit.fact.status == "live" for hit in sure) and _is_one_question(sure):
            return Decision("exact", sure, why)
        near = tuple(hit for hit in hits if hit.gate >= NEXT * hits[0].gate)[:MOST_UNSURE]
        return Decision("several", near, why)
    if refuses and (_is_kept_back(router, valid) or _is_of_the_banks_kind(index, router, reading, spoken)):
        return Decision("refused", why={**why, "reason": "a question of the bank's kind, and no fact for it"})
    return Decision("none", why={**why, "reason": "no fact is asked for"})


def _without_names(text: str, reading: Reading) -> str:
    """The text with a plain word for each known name: a name may hold points, figures and capitals."""
    for match in sorted(reading.matches, key=lambda m: -m.start):
        if match.end > match.start:
            text = (
                text[: reading.words[match.start].start] + "Name" + text[reading.words[match.end - 1].end :]
            )
    return text


def _judged(index: KeyIndex, router: Router, reading: Reading) -> list[tuple[Candidate, float]]:
    """The candidates with their probability, the surest first; ids break ties."""
    found = candidates(index, reading, router.anchors)
    passed = gate.probabilities(router.gate, [c.features for c in found])
    judged = [(c, _sure(c, p)) for c, p in zip(found, passed, strict=True)]
    return sorted(judged, key=lambda pair: (-pair[1], pair[0].entry.fact.id))


def _sure(candidate: Candidate, passed: float) -> float:
    """The gate's probability, but for what needs no gate, and for what none may pass."""
    if candidate.is_verbatim:
        return 1.0
    return 0.0 if candidate.is_turned or candidate.is_elsewhere else passed


def _is_kept_back(router: Router, judged: Sequence[tuple[Candidate, float]]) -> bool:
    """Whether the gate alone would give a fact that no gate may pass: the question is near enough to be the bank's."""
    barred = [c.features for c, _ in judged if c.is_turned or c.is_elsewhere]
    return any(passed >= router.low for passed in gate.probabilities(router.gate, barred))


def _is_one_question(hits: Sequence[Hit]) -> bool:
    """Whether all of them answer the same question: one fact, or several that coexist."""
    if len({hit.fact.answer for hit in hits}) == 1:
        return True
    folded = {tuple(word.text for word in words_of(hit.fact.question)) for hit in hits}
    return len(folded) == 1


def _needed(index: KeyIndex, wants: Asking, spoken: Sequence[NameMatch], now: float) -> tuple[Hit, ...]:
    """For each subject that a task names, the facts that its clauses come closest to."""
    sure = [m for m in spoken if m.coverage == 1 and m.cost <= SURE_NAME]
    if not sure:
        return ()
    forms = []
    for clause in wants.clauses:
        words = words_of(clause)
        forms.append(masked(words, [(m.start, m.end) for m in index.names.find(words)]))
    near = (index.keys @ index.encoder.keys(forms).T).max(1)  # [U]
    hits: dict[str, Hit] = {}
    for match in sure:
        ids = sorted(index.by_name.get(match.key, ()))
        rated = [(max(float(near[row]) for row in index.entries[i].rows), i) for i in ids]
        valid = [pair for pair in rated if pair[0] >= USED and _is_valid(index.entries[pair[1]].fact, now)]
        for meaning, fact_id in sorted(valid, reverse=True)[:FOR_A_NAME]:
            hits[fact_id] = Hit(index.entries[fact_id].fact, min(1.0, max(0.0, meaning)))
    return tuple(sorted(hits.values(), key=lambda h: -h.gate))[:MOST_HITS]


def _is_of_the_banks_kind(
    index: KeyIndex, router: Router, reading: Reading, spoken: Sequence[NameMatch]
) -> bool:
    """Whether a question is one that the bank might well answer: about its subjects, half said or misspelt too, or in
    its words, or about a stranger in the words of some company's table. The bank's own air, as the company's name,
    says less."""
    best = float((index.keys @ reading.keys.T).max())
    elsewhere = float((router.anchors @ reading.keys.T).max())
    if reading.matches and max(best, elsewhere) >= (KIN if spoken else KIN_AMBIENT):
        return True
    if reading.strange and best >= KIN_STRANGE:
        return True
    if reading.strange > 1 and best >= KIN_LEAST and elsewhere >= KIN_ELSEWHERE:
        return True
    return reading.strange_words > 0 and best >= KIN_UNSURE


def _earlier_names(index: KeyIndex, earlier: Sequence[str]) -> list[NameMatch]:
    """The names of the latest earlier question that has any: what "its" and "they" speak of."""
    for text in reversed(earlier):
        found = index.names.find(words_of(text))
        if found:
            return [NameMatch(m.key, 0, 0, m.cost, m.coverage) for m in found]
    return []


def _is_valid(fact: Fact, now: float) -> bool:
    return (fact.valid_from is None or fact.valid_from <= now) and (
        fact.valid_until is None or now < fact.valid_until
    )


def _why(reading: Reading) -> dict[str, Any]:
    return {
        "asks": [" ".join(form).replace("\ufdd1", "…") for form in reading.forms],
        "names": [
            {"name": m.key, "slips": round(m.cost, 2), "coverage": round(m.coverage, 2)}
            for m in reading.matches
        ],
        "unknown_names": reading.strange + reading.strange_words,
    }
