"""What chat and plain completions answer alike: the choices as they fill, and an answer's fixed parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inhouse.schema import CallDelta, Delta, MemoryOutcome, TokenLogprob, Usage
from inhouse.server.calls import Call

LEAST_LOGPROB = -9999.0
"""What JSON gets for a token that cannot be, as OpenAI does; JSON has no infinity."""


@dataclass(slots=True)
class Choice:
    """One choice, gathered from its deltas."""

    text: list[str] = field(default_factory=list)
    calls: list[CallDelta] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    memory: MemoryOutcome | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.calls += delta.calls
        self.logprobs += delta.logprobs or ()
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.memory = delta.memory or self.memory


async def gather(call: Call, choices_each: int) -> list[Choice]:
    """The whole answer: the choices of all requests, in the order of the requests."""
    await call.start()
    choices = [Choice() for _ in range(choices_each * len(call.requests))]
    async for batch in call.deltas():
        for i, delta in batch:
            choices[i * choices_each + delta.index].add(delta)
    return choices


def frame(call: Call, id: str, object: str, created: int) -> dict[str, Any]:
    """The keys that every answer and every chunk of it begins with."""
    keys = {
        "id": id,
        "object": object,
        "created": created,
        "model": call.card.name,
        "system_fingerprint": call.fingerprint,
    }
    return keys | {"x_adapter": call.adapter} if call.adapter else keys


def usage_wire(usage: Usage) -> dict[str, Any]:
    """As OpenAI tells it: what was found computed is a detail of the prompt's tokens."""
    counted = usage.model_dump(exclude={"cached_tokens"})
    return counted | {"prompt_tokens_details": {"cached_tokens": usage.cached_tokens}}


def finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LEAST_LOGPROB)
