"""A small fact bank for the engine's tests: it knows a fact by its very question, and what a message wants by its
first word. It stands behind the same face as the real one, and holds real facts and real experts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from inhouse.errors import NotFound
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.decoder import Decoder, greedy
from inhouse.model.layers import Linear
from inhouse.schema import EngineRequest, Fact, MemoryMode, MemoryOutcome, MemoryUse, Message, UnknownPolicy
from tests.engine.world import BASE_DIGEST, World, call, random_adapter

BANK = "bank_1"
Kind = Literal["exact", "several", "use", "refused", "none"]


def fact(id: str, question: str, answer: str, **fields: Any) -> Fact:
    return Fact(id=id, bank=BANK, revision=1, question=question, answer=answer, **fields)


@dataclass(frozen=True, slots=True)
class BookHit:
    fact: Fact
    gate: float


@dataclass(frozen=True, slots=True)
class BookDecision:
    kind: Kind
    hits: tuple[BookHit, ...] = ()
    why: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Book:
    """A bank. Of a message it looks at the last line:

    QUESTION            exact
    Maybe: QUESTION     several, unsure
    Both: Q | Q         several, each of them sure
    Task: Q | Q         a task that uses them
    Zzz...              refused
    Break!              the bank itself breaks
    Wait!               it takes its time: until `awaited` is set
    Odd!                it says why in what is no JSON
    """

    facts: list[Fact]
    revision: int = 1
    unknown: UnknownPolicy = "refuse"
    asked_by: list[frozenset[str] | None] = field(default_factory=list)
    settled: dict[str, BookDecision] = field(default_factory=dict)
    """Decisions for whole messages."""
    awaited: threading.Event = field(default_factory=threading.Event)

    def route(
        self, messages: Sequence[Message], *, groups: frozenset[str] | None, now: float
    ) -> BookDecision:
        self.asked_by.append(groups)
        text = messages[-1].text
        if text == "Wait!":
            assert self.awaited.wait(20), "nobody let it go on"
            return BookDecision("none")
        if text in self.settled:
            return self.settled[text]
        if text == "Break!":
            raise KeyError(text)
        if text == "Odd!":
            return BookDecision("none", why={"odd": torch.zeros(1)})
        if text.startswith("Zzz"):
            return BookDecision("refused", why={"reason": "nobody knows"})
        word, _, rest = text.partition(": ")
        ways: dict[str, tuple[Kind, float]] = {
            "Maybe": ("several", 0.6),
            "Both": ("several", 0.99),
            "Task": ("use", 0.7),
        }
        kind, gate = ways.get(word, ("exact", 0.99)) if rest else ("exact", 0.99)
        questions = (rest if word in ways and rest else text).split(" | ")
        hits = tuple(
            BookHit(known, gate)
            for question in questions
            for known in self.facts
            if known.question == question
            and (groups is None or not known.access or groups & set(known.access))
        )
        return BookDecision(kind, hits, {"text": len(text)}) if hits else BookDecision("none")


@dataclass(slots=True)
class Books:
    """The banks of a base, and the source of their experts."""

    book: Book
    experts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, use: MemoryUse) -> Book:
        if use.bank != BANK:
            raise NotFound(f"There is no bank {use.bank}.")
        return self.book

    @property
    def source(self) -> Books:
        return self

    def expert(self, fact_id: str, version: int) -> bytes | None:
        with self.lock:
            return self.experts.get((fact_id, version))


def use(mode: MemoryMode = "auto", **fields: Any) -> MemoryUse:
    return MemoryUse(**{"bank": BANK, "revision": 1, "mode": mode, **fields})


def ask(name: str, text: str, mode: MemoryMode = "auto", **fields: Any) -> EngineRequest:
    """A question to the bank, greedy and 12 tokens long unless told."""
    memory = fields.pop("memory", use(mode))
    return call(name, messages=(Message(role="user", content=text),), memory=memory, **fields)


def expert_tensors(decoder: Decoder, *, seed: int, rank: int = 1) -> dict[str, tuple[Tensor, Tensor]]:
    return random_adapter(decoder, rank=rank, seed=seed, only="mlp")


def expert_blob(
    decoder: Decoder, fact_id: str, version: int, *, seed: int, rank: int = 1, **notes: str
) -> bytes:
    """An expert that changes answers, as the bank keeps it."""
    tensors = {}
    for name, (a, b) in expert_tensors(decoder, seed=seed, rank=rank).items():
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a.contiguous(), b.contiguous()
    return save(tensors, {**expert_notes(fact_id, version, rank), **notes})


def expert_notes(fact_id: str, version: int, rank: int = 1) -> dict[str, str]:
    return {
        "rank": str(rank),
        "alpha": str(3.0 * rank),
        "base_digest": BASE_DIGEST,
        "fact": fact_id,
        "version": str(version),
    }


def expert(decoder: Decoder, *, seed: int, rank: int = 1) -> Adapter:
    """The same expert for the plain way."""
    return Adapter(rank, 3.0 * rank, expert_tensors(decoder, seed=seed, rank=rank), {})


class Together:
    """Adapters applied one after the other to every token: the plain oracle of rows that use two."""

    def __init__(self, decoder: Decoder, *adapters: Adapter) -> None:
        self.loaded = [LoadedLora(adapter, decoder) for adapter in adapters]

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        for lora in self.loaded:
            y = y + (lora(linear, x) - linear.product(x))
        return y


def plainly(world: World, wanted: EngineRequest, *adapters: Adapter) -> list[int]:
    """What the unpaged, unbatched way generates greedily for a conversation, as it is asked."""
    assert wanted.messages is not None and wanted.sampling.max_new_tokens is not None
    prompt = world.template.prompt(wanted.messages)
    together = Together(world.decoder, *adapters) if adapters else None
    with torch.no_grad():
        return greedy(
            world.decoder, prompt, wanted.sampling.max_new_tokens, together, world.template.stop_ids
        )


PRICE = "What is the price of X?"
COLOUR = "Which colour is X?"
FACTS = [
    fact("f1", PRICE, "42 euros", subject="X", source="prices.pdf", span="X costs 42 euros.", version=3),
    fact("f2", COLOUR, "dark green"),
    fact("f3", "Who owns X?", "Ann"),
    fact("f4", "Who owns X?", "Bob"),
    fact("f5", "Secret?", "Q7-XY", access=("bosses",)),
    fact("f6", "Long?", "a long story", status="retrieval_only", reason="its words were refused"),
    fact("f7", "Sevens?", "77777"),
]


def mixed_calls(**fields: Any) -> list[EngineRequest]:
    """Every way at once, with and without an adapter, beside requests that name no memory."""
    long = {"max_new_tokens": 16, **fields}
    return [
        call("base", range(30, 50), **long),
        call("adapter", range(31, 52), adapter="small", **long),
        ask("none", "Hello", **long),
        ask("exact", PRICE, **long),
        ask("refused", "Zzz?", **long),
        ask("expert", PRICE, "expert", **long),
        ask("expert, adapter", COLOUR, "expert", adapter="large", **long),
        ask("the same expert", PRICE, "expert", adapter="small", **long),
        ask("expert in a task", f"Task: {COLOUR}", "expert", **long),
        ask("retrieval", f"Maybe: {PRICE}", **long),
        ask("task", f"Task: {PRICE} | {COLOUR}", adapter="attention", **long),
    ]


def decisions(outcomes: dict[int, MemoryOutcome]) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    return [
        (outcome.decision, [(c.id, c.mode, c.verified) for c in outcome.facts])
        for _, outcome in sorted(outcomes.items())
    ]
