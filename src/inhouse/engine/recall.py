"""What the memory made of one request, and its word on what was written.

Pure: facts, text and the answer check. It knows no banks, no tokens and no torch; `engine.memory` decides, this
holds what was decided. A *held* reply leaves only after `settle` has looked at it whole: it says what is stored,
or it admits that it does not know, or something else leaves in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from inhouse.memory.check import admits, only_says, says
from inhouse.schema import Citation, Fact, MemoryOutcome, UnknownPolicy

REFUSAL = "I don't know."
NEAR = 0.05
"""Facts whose gate is so near the best one's are asked for as well as it."""

Way = Literal["exact", "retrieval", "expert", "refused", "none"]


class Found(Protocol):
    """A fact that a question may be about, as a bank finds it."""

    @property
    def fact(self) -> Fact: ...

    @property
    def gate(self) -> float:
        """Probability that the question asks for it."""
        ...


@dataclass(frozen=True, slots=True)
class Recall:
    """The way a request is answered, and the facts it rests on."""

    bank: str
    revision: int
    way: Way
    hits: tuple[Found, ...] = ()
    """Best first."""
    sure: tuple[Found, ...] = ()
    """Those of them that are surely asked for: their stored answers may stand for a reply."""
    is_held: bool = False
    """Whether the reply is kept back until it is finished and looked at."""
    unknown: UnknownPolicy = "refuse"
    """The bank's policy, where neither a stored answer nor a record can be given."""
    preset: str | None = None
    """The reply, where it needs no model."""
    delta_logprob: float | None = None
    """Experts: the stored answer's mean log-probability with the expert, less without it."""

    def settle(self, text: str) -> tuple[str, Way]:
        """What may leave in place of a finished reply, which may be that itself, and by which way."""
        if not self.is_held:
            return text, self.way
        if self._says_what_was_asked(text):
            return text, self.way
        if admits(text):
            return text, "refused"
        stored = quotable(self.sure)
        return (joined(stored), "exact") if stored else (REFUSAL, "refused")

    def outcome(self, text: str, way: Way) -> MemoryOutcome:
        """The memory's part of a choice's last delta; `text` is all that left, `way` is how."""
        return MemoryOutcome(
            bank=self.bank, revision=self.revision, decision=way, facts=tuple(self._citations(text, way))
        )

    def _citations(self, text: str, way: Way) -> list[Citation]:
        if way in ("refused", "none"):
            return []
        replaced = way == "exact" and self.way != "exact"
        is_said = _is_said if replaced or not self.is_held else _is_alone
        cited = [
            Citation(
                id=hit.fact.id,
                version=hit.fact.version,
                mode=way,
                source=hit.fact.source,
                span=hit.fact.span,
                gate=hit.gate,
                verified=is_said(hit, text),
                delta_logprob=self.delta_logprob if way == "expert" else None,
            )
            for hit in (quotable(self.sure) if replaced else self.hits)
        ]
        # A direct question's reply rests on what it says; a task was given them all, and may have left some out.
        return [c for c in cited if c.verified] if self.is_held and not replaced else cited

    def _says_what_was_asked(self, text: str) -> bool:
        """All facts that are surely asked for; where none is, one of those that most likely are."""
        if self.sure:
            return all(_is_alone(hit, text) for hit in self.sure)
        best = max((hit.gate for hit in self.hits), default=0.0)
        return any(_is_alone(hit, text) for hit in self.hits if hit.gate >= best - NEAR)


def joined(hits: tuple[Found, ...]) -> str:
    """Stored answers as one reply, each once."""
    return "; ".join(dict.fromkeys(hit.fact.answer for hit in hits))


def quotable(hits: tuple[Found, ...]) -> tuple[Found, ...]:
    """Those whose answers may be given word for word."""
    return tuple(hit for hit in hits if hit.fact.status == "live")


def _is_said(hit: Found, text: str) -> bool:
    return says(text, hit.fact.answer, hit.fact.kind)


def _is_alone(hit: Found, text: str) -> bool:
    """As a direct question's reply has to say it: not denied, and beside little else."""
    return only_says(text, hit.fact.answer, hit.fact.kind)
