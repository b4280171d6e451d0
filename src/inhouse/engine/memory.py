"""What a request's memory makes of it, decided before the first token.

It knows what a bank finds (`inhouse.memory` says what and how surely) and the ways to answer from it; it knows no
keys, no router and no queues. The ways, and when each is taken:

exact      one fact is asked for and the gate is sure: the stored answer is the reply, without the model.
retrieval  several facts, an unsure gate, a task that uses facts, an adapter (its tone, the memory's facts), or asked
           for: records of the facts stand before the question, and the model writes.
expert     asked for, and the fact has one: its LoRA joins the batch beside whatever adapter is named.
refused    the bank's kind of question without a fact: "I don't know.", where the bank's policy says so.
none       the request has nothing to do with the bank, and is served as if none were named.

A stored answer or a refusal leaves only where it keeps the format that a request asks for; else the model writes, with
the records if there are any.

The reply to a direct question that the model writes is held until it is finished and `Recall.settle` has looked at
it, unless it is in a format: then it is told like a task's, with what it says of the facts checked. A reply that was
settled without the model was not drawn, so it has no log-probabilities: who asks for them gets retrieval in place of
exact, and an empty list where a stored answer or a refusal leaves all the same.

How records are laid out was measured on the embedded base: see `record`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from inhouse.engine import experts
from inhouse.engine.library import Library
from inhouse.engine.recall import REFUSAL, Found, Recall, Way, joined, quotable
from inhouse.errors import InvalidRequest
from inhouse.schema import EngineRequest, Fact, MemoryUse, Message, UnknownPolicy

MOST_RECORDS = 8
"""Facts put before a question; each further one costs reading more than it brings."""
HIGH = 0.98
"""The gate's probability from which on each of several facts is surely asked for: no router asks for more before
it takes a single one for sure."""
LAYOUT = "{records}\n\n{question}"
"""How the user's last message is put together."""


class Decision(Protocol):
    """What a bank sees in a conversation."""

    @property
    def kind(self) -> Literal["exact", "several", "use", "refused", "none"]: ...

    @property
    def hits(self) -> tuple[Found, ...]:
        """Best first."""
        ...

    @property
    def why(self) -> dict[str, Any]:
        """For people: as JSON."""
        ...


class LoadedBank(Protocol):
    """A bank at one revision, ready to be asked by any thread."""

    @property
    def revision(self) -> int: ...

    @property
    def unknown(self) -> UnknownPolicy: ...

    def route(
        self, messages: Sequence[Message], *, groups: frozenset[str] | None, now: float
    ) -> Decision: ...


class Experts(Protocol):
    """Where facts' experts are."""

    def expert(self, fact_id: str, version: int) -> bytes | None:
        """The expert of a fact's version, if it has one."""
        ...


class Banks(Protocol):
    """The banks on this base."""

    @property
    def source(self) -> Experts: ...

    def at(self, use: MemoryUse) -> LoadedBank:
        """The bank, at the revision asked for or a later one. Raises NotFound or BadCheckpoint."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """Decides for requests. Safe to use from several threads."""

    banks: Banks
    library: Library
    clock: Callable[[], float] = time.time
    """Facts may be valid from a time on, or until one."""

    def recall(
        self, call: EngineRequest, use: MemoryUse, fits: Callable[[str], bool] | None = None
    ) -> Recall:
        """The way of a request. `fits` says whether a text keeps the format that the request asks for, if any.

        Raises InvalidRequest for what cannot be asked of a memory.
        """
        if call.messages is None or call.echo:
            raise InvalidRequest(
                "A memory answers conversations. Send messages, or name the base itself.", param="model"
            )
        wants_logprobs = call.sampling.logprobs is not None
        if use.mode == "exact" and wants_logprobs:
            raise InvalidRequest(
                "A stored answer has no log-probabilities. Leave logprobs out, or ask with mode retrieval.",
                param="logprobs",
            )
        if use.mode == "off":
            return Recall(use.bank, use.revision, "none")
        bank, decision = self._routed(call.messages, use)
        plain = Recall(use.bank, bank.revision, "none", unknown=bank.unknown)
        if decision.kind == "refused":
            refused = without_model(plain)
            return refused if _leaves(refused, fits) else plain
        if decision.kind == "none" or not decision.hits:
            return plain
        way = self._way(call, use, decision)
        found = replace(plain, way=way, hits=decision.hits[:MOST_RECORDS])
        if decision.kind != "use":
            is_sure = decision.kind == "exact"
            sure = tuple(hit for hit in found.hits if is_sure or hit.gate >= HIGH)
            # A reply in a format is no bare answer: it cannot be looked at as one, nor another leave in its place.
            found = replace(found, sure=sure, is_held=call.is_free)
        if way != "exact":
            return found
        settled = without_model(found)
        return settled if _leaves(settled, fits) else replace(found, way="retrieval")

    def explain(self, call: EngineRequest) -> dict[str, Any]:
        """What the bank sees in a conversation, and why."""
        if call.memory is None or call.messages is None:
            raise InvalidRequest("An explain call needs a memory and messages.", param="memory")
        bank, decision = self._routed(call.messages, call.memory)
        seen = {
            "decision": decision.kind,
            "hits": [{"id": hit.fact.id, "gate": hit.gate} for hit in decision.hits],
            "why": decision.why,
            "revision": bank.revision,
        }
        # What is no JSON fails here, where it is this call's fault and not its connection's.
        plain: dict[str, Any] = json.loads(json.dumps(seen))
        return plain

    def _routed(self, messages: Sequence[Message], use: MemoryUse) -> tuple[LoadedBank, Decision]:
        bank = self.banks.at(use)
        groups = None if use.sees_all else frozenset(use.groups)
        return bank, bank.route(messages, groups=groups, now=self.clock())

    def _way(self, call: EngineRequest, use: MemoryUse, decision: Decision) -> Way:
        """exact, retrieval or expert, for a decision that found facts."""
        if use.mode == "expert" and len(decision.hits) == 1:
            fact = decision.hits[0].fact
            if self.library.has_expert(fact.id, fact.version):
                return "expert"
        if use.mode == "exact":
            return "exact"
        may_quote = decision.kind == "exact" and quotable(decision.hits) == decision.hits
        wants_model = (
            call.adapter is not None or call.sampling.logprobs is not None or use.mode == "retrieval"
        )
        return "exact" if may_quote and not wants_model else "retrieval"


def _leaves(settled: Recall, fits: Callable[[str], bool] | None) -> bool:
    """Whether a reply that was settled without the model keeps the request's format."""
    return fits is None or settled.preset is None or fits(settled.preset)


def expert_of(recall: Recall) -> str | None:
    """Key of the expert that a request runs with."""
    if recall.way != "expert":
        return None
    fact = recall.hits[0].fact
    return experts.key_of(fact.id, fact.version)


def without_model(recall: Recall) -> Recall:
    """Stored answers where they are surely asked for, else what the bank's policy says."""
    stored = quotable(recall.sure)
    if stored:
        return replace(recall, way="exact", hits=stored, is_held=False, preset=joined(stored))
    settled = replace(recall, hits=(), sure=(), is_held=False)
    if recall.unknown == "base":
        return replace(settled, way="none")
    return replace(settled, way="refused", preset=REFUSAL)


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────


def with_records(messages: Sequence[Message], hits: Sequence[Found]) -> tuple[Message, ...]:
    """The conversation with the facts' records in front of what the user said last."""
    last = max((i for i, m in enumerate(messages) if m.role == "user"), default=None)
    if last is None:
        raise InvalidRequest("A memory answers a user's message. Send one.", param="messages")
    records = "\n".join(record(hit.fact) for hit in hits)
    told = LAYOUT.format(records=records, question=messages[last].text)
    return (
        *messages[:last],
        messages[last].model_copy(update={"content": told}),
        *messages[last + 1 :],
    )


_OPENER = re.compile(r"(what|who|whom|whose|which|when|where|why|how)\b", re.IGNORECASE)


def record(fact: Fact) -> str:
    """A fact as the model reads it best: "For SUBJECT, QUESTION: ANSWER.".

    Measured on the embedded base: 200 questions of the held-out side, with 1, 2 and 4 records of two subjects in the
    same relations, in random order; exact replies in percent. This form 98, 89, 74; "SUBJECT: QUESTION: ANSWER." 96,
    88, 70; "QUESTION: ANSWER." 96, 86, 70; "About SUBJECT: QUESTION? ANSWER." 94, 82, 57; a written sentence 98, 90,
    71. What stands between records and question hardly counts (five layouts, within 4 points).
    """
    question = fact.question.strip().rstrip("?.! ")
    if fact.subject:
        opens = _OPENER.match(question) is not None
        question = f"For {fact.subject}, {question[:1].lower() if opens else question[:1]}{question[1:]}"
    end = "" if fact.answer.endswith((".", "!", "?")) else "."
    return f"{question}: {fact.answer}{end}"
