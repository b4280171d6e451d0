"""Examines a bank that is about to be published, and writes down what it recalls: the report's numbers.

It knows the router and the examiner; it knows no store and no engine. A question counts as answered only where the
stored answer would be given word for word: what the model makes of records is not counted here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from inhouse.memory.examiner import Exam, examination, without
from inhouse.memory.index import KeyIndex
from inhouse.memory.router import Router
from inhouse.memory.routing import Decision, decide
from inhouse.schema import Fact, Message

MOST_CHECKED = 2000
"""Facts whose own wordings are asked; of more, a sample."""
TOLD_EVERY = 200
"""Facts between two words on how far it is."""


def own_wordings(
    index: KeyIndex, router: Router, *, told: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Facts that their own wordings do not lead to, and why: they are never answered word for word.

    `told` hears how many facts are done, and of how many. A reason names no other fact, which may be hidden from
    who reads it.
    """
    found: dict[str, str] = {}
    chosen = checked(index)
    for done, fact_id in enumerate(chosen):
        if told is not None and done and done % TOLD_EVERY == 0:
            told(done, len(chosen))
        entry = index.entries[fact_id]
        for text in (entry.fact.question, *entry.fact.wordings):
            decision = _ask(index, router, text)
            if _is_right(decision, fact_id, entry.fact):
                continue
            if any(hit.fact.id != fact_id and hit.gate >= router.high for hit in decision.hits):
                found[fact_id] = "One of its wordings means another fact as well; say what tells them apart."
            elif decision.kind == "use":
                found[fact_id] = "One of its wordings reads as a task rather than a question."
            elif decision.kind == "none" and "evidence" not in decision.why:
                found[fact_id] = "One of its wordings brings a text of its own, or is no question."
            else:
                found[fact_id] = (
                    "One of its own wordings is too unlike a question about its subject to be sure of."
                )
            break
    if told is not None:
        told(len(chosen), len(chosen))
    return found


def checked(index: KeyIndex) -> Sequence[str]:
    """The facts whose own wordings are asked, in the order of their ids."""
    ordered = sorted(index.entries)
    count = min(len(ordered), MOST_CHECKED)
    return [ordered[i * len(ordered) // count] for i in range(count)]


def examine(index: KeyIndex, router: Router, *, seed: int = 0) -> dict[str, Any]:
    """Shares by kind of question, as counts."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for exam in examination(index, seed=seed):
        counts[exam.group][_verdict(index, router, exam)] += 1
    return {
        **{group: _recall(counts[group]) for group in ("taught", "unseen", "noisy")},
        "unknown": {
            group: {"invented": counts[group]["invented"], "of": counts[group].total()}
            for group in ("far", "near", "look_alike")
        },
        "general": {"untouched": counts["general"]["untouched"], "of": counts["general"].total()},
    }


def _verdict(index: KeyIndex, router: Router, exam: Exam) -> str:
    asked = index.entries.get(exam.fact or "")
    if asked is not None and exam.without is not None:
        fact = asked.fact
        index.put([without(fact, exam.without)])
        decision = _ask(index, router, exam.text)
        index.put([fact])
    else:
        decision = _ask(index, router, exam.text)
    if exam.group == "general":
        return "untouched" if decision.kind == "none" else "touched"
    if exam.fact is None or asked is None:
        return "invented" if decision.kind == "exact" else "refused"
    if decision.kind != "exact":
        return "refused"
    return "right" if _is_right(decision, exam.fact, asked.fact) else "wrong"


def _is_right(decision: Decision, fact_id: str, fact: Fact) -> bool:
    answers = {hit.fact.answer for hit in decision.hits}
    return decision.kind == "exact" and (
        answers == {fact.answer} or fact_id in {h.fact.id for h in decision.hits}
    )


def _ask(index: KeyIndex, router: Router, text: str) -> Decision:
    return decide(index, router, [Message(role="user", content=text)], refuses=True, now=_ANY_TIME)


_ANY_TIME = 0.0
"""Validity is a matter of when somebody asks: facts are examined without it."""


def _recall(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("right", "wrong", "refused")} | {"of": counts.total()}


def timeless(facts: Iterable[Fact]) -> Sequence[Fact]:
    """The facts as if they were always valid."""
    return [fact.model_copy(update={"valid_from": None, "valid_until": None}) for fact in facts]
