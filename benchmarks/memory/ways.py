"""The fact bank behind an engine, in this process: the exam's answers, each way alone and all together.

It knows the engine and the bank as the served house puts them together, without sockets and SQL.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.memory.rivals import NEW_TOKENS, Base
from benchmarks.memory.world import Fact as Taught
from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.engine.memory import Banks as EngineBanks
from inhouse.errors import NotFound
from inhouse.memory.bank import Banks
from inhouse.memory.router import Router
from inhouse.memory.router_store import SHIPPED, open_router, word_table
from inhouse.model.decoder import Decoder
from inhouse.model.weights import folder_digest
from inhouse.schema import Bank, EngineRequest, Fact, MemoryMode, MemoryOutcome, MemoryUse, Message, Sampling
from inhouse.settings import Settings
from inhouse.tune.expert_file import to_bytes
from inhouse.tune.experts import ExpertSettings, ExpertTask, train_experts

WAYS: tuple[MemoryMode, ...] = ("auto", "exact", "retrieval", "expert")
BANK = "bank"


@dataclass(slots=True)
class Shelf:
    """A bank's facts in memory, as the engine's source of them."""

    base_digest: str
    facts: dict[str, Fact] = field(default_factory=dict)
    experts: dict[str, bytes] = field(default_factory=dict)
    revision: int = 1
    changed: dict[str, int] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)

    def put(self, facts: Iterable[Fact]) -> None:
        """Adds or replaces, as one revision."""
        self.revision += 1
        for fact in facts:
            self.facts[fact.id] = fact
            self.changed[fact.id] = self.revision

    def forget(self, ids: Iterable[str]) -> None:
        """Takes facts away, as one revision."""
        self.revision += 1
        for fact_id in ids:
            del self.facts[fact_id]
            self.forgotten[fact_id] = self.revision

    def bank(self, bank_id: str) -> Bank:
        return Bank(
            id=bank_id, project="p", base="seedling", base_digest=self.base_digest, revision=self.revision
        )

    def all(self) -> list[Fact]:
        return list(self.facts.values())

    def changed_since(self, bank_id: str, revision: int) -> tuple[list[Fact], list[str]]:
        newer = [f for f in self.facts.values() if self.changed.get(f.id, 0) > revision]
        return newer, [i for i, at in self.forgotten.items() if at > revision]

    def expert(self, fact_id: str, version: int) -> bytes | None:
        return self.experts.get(fact_id)


class _Source:
    """The shelf as the bank's Protocol calls it."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def bank(self, bank_id: str) -> Bank:
        return self.shelf.bank(bank_id)

    def facts(self, bank_id: str) -> list[Fact]:
        return self.shelf.all()

    def changed_since(self, bank_id: str, revision: int) -> tuple[list[Fact], list[str]]:
        return self.shelf.changed_since(bank_id, revision)

    def expert(self, fact_id: str, version: int) -> bytes | None:
        return self.shelf.expert(fact_id, version)


def as_facts(taught: Sequence[Taught], *, with_subject: bool = False) -> list[Fact]:
    """The exam's facts as a bank holds them. The subject is left to be seen from the question, as in most files."""
    return [
        Fact(
            id=f"fact-{i}",
            bank=BANK,
            revision=1,
            question=fact.wordings[0],
            wordings=fact.wordings[1:],
            answer=fact.answer,
            subject=fact.subject.text if with_subject else None,
        )
        for i, fact in enumerate(taught)
    ]


class Memory:
    """One base with one bank."""

    def __init__(self, base: Base, routers: Path, decoder: Decoder | None = None) -> None:
        self.base = base
        self.decoder = decoder or base.to_serve()
        self.digest = folder_digest(base.folder)
        self.shelf = Shelf(self.digest)
        self.adapters: dict[str, Path] = {}
        """Folder by what a request calls the adapter."""
        self._routers = routers

    @cached_property
    def router(self) -> Router:
        """The base's; made now where there is none."""
        return open_router(
            self.decoder, self.base.tokenizer, self.digest, self._routers, base_folder=self.base.folder
        )

    @property
    def router_digest(self) -> str:
        """Of its file, so that results tell which one they are of."""
        assert self.router is not None
        files = (self.base.folder / SHIPPED, self._routers / f"{self.digest}.safetensors")
        file = next(file for file in files if file.is_file())
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]

    def add_experts(self, taught: Mapping[str, Taught]) -> dict[str, Any]:
        """An expert for each fact, by its id, on the shelf; what that cost."""
        work = [
            ExpertTask(fact_id, tuple(self.base.example(text, fact.answer) for text in fact.wordings))
            for fact_id, fact in taught.items()
        ]
        began = time.process_time()
        *_, progress = train_experts(self.base.to_serve(), work, ExpertSettings())
        cpu_s = time.process_time() - began
        blobs = {
            fact_id: to_bytes(result, self.digest, fact_id, 1)
            for fact_id, result in progress.results.items()
            if result.is_exact
        }
        self.shelf.experts |= blobs
        return {
            "experts": len(blobs),
            "expert_cpu_s": round(cpu_s / len(taught), 3),
            "expert_bytes": round(mean(len(blob) for blob in blobs.values())),
        }

    def banks(self) -> Banks:
        """The shelf as an engine asks it."""
        return Banks(_Source(self.shelf), lambda: self.router, self.digest)

    @property
    def words(self) -> Any:
        return word_table(self.decoder, self.base.tokenizer)

    def engine(self, *, max_running: int = 32, banks: EngineBanks | None = None) -> Engine:
        """An idle engine on the bank, or on others that are given."""

        def folder(digest: str) -> Path:
            if digest not in self.adapters:
                raise NotFound(f"There is no adapter {digest}.")
            return self.adapters[digest]

        return build(
            self.decoder,
            self.base.tokenizer,
            self.base.template,
            base_digest=self.digest,
            adapter_folder=folder,
            settings=Settings(max_running=max_running, cache_tokens=32_768),
            banks=banks or self.banks(),
        )

    def ask(
        self,
        texts: Sequence[str],
        mode: MemoryMode | None = "auto",
        *,
        adapter: str | None = None,
        engine: Engine | None = None,
        new_tokens: int = NEW_TOKENS,
    ) -> tuple[list[str], list[MemoryOutcome | None]]:
        """Replies and what the memory did, greedy and in one batch; mode None asks the base itself."""
        engine = engine or self.engine()
        use = (
            None
            if mode is None
            else MemoryUse(bank=BANK, revision=self.shelf.revision, mode=mode, sees_all=True)
        )
        replies = [""] * len(texts)
        outcomes: list[MemoryOutcome | None] = [None] * len(texts)

        def take(frames: Iterable[Any]) -> None:
            for reply in frames:
                assert reply.frame.fault is None, reply.frame.fault
                if (delta := reply.frame.delta) is not None:
                    i = int(reply.request_id)
                    replies[i] += delta.text
                    outcomes[i] = delta.memory or outcomes[i]

        for i, text in enumerate(texts):
            call = EngineRequest(
                id=str(i),
                messages=(Message(role="user", content=text),),
                adapter=adapter,
                memory=use,
                sampling=Sampling(temperature=0.0, max_new_tokens=new_tokens),
            )
            take(engine.add(engine.intake.prepare(call, call.id)))
        while engine.has_work:
            take(engine.step())
        return replies, outcomes

    def route_ms(self, texts: Sequence[str]) -> float:
        """Milliseconds of this core a request for routing, everything loaded."""
        bank = self.banks().at(MemoryUse(bank=BANK, revision=self.shelf.revision, sees_all=True))
        asked = [[Message(role="user", content=text)] for text in texts]
        bank.route(asked[0], groups=None, now=0.0)
        began = time.process_time()
        for messages in asked:
            bank.route(messages, groups=None, now=0.0)
        return 1000 * (time.process_time() - began) / len(asked)


def decisions(outcomes: Sequence[MemoryOutcome | None]) -> dict[str, int]:
    """How many replies each way gave."""
    return dict(Counter(outcome.decision if outcome else "none" for outcome in outcomes))
