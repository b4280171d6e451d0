"""A tiny base with a few adapters, engines on it, and the plain way to the same answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from inhouse.engine.build import build
from inhouse.engine.engine import Engine, Reply
from inhouse.engine.memory import Banks
from inhouse.engine.request import Request
from inhouse.errors import NotFound
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.decoder import Decoder, greedy
from inhouse.model.weights import load_base
from inhouse.schema import (
    CallDelta,
    EngineDone,
    EngineFault,
    EngineRequest,
    MemoryOutcome,
    Sampling,
    TokenLogprob,
)
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests import tiny

BASE_DIGEST = "b" * 64


@dataclass(slots=True)
class Answer:
    """All that one request was told."""

    texts: dict[int, str] = field(default_factory=dict)
    finish: dict[int, str] = field(default_factory=dict)
    calls: dict[int, list[CallDelta]] = field(default_factory=dict)
    """News of tool calls, as they came."""
    logprobs: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    memory: dict[int, MemoryOutcome] = field(default_factory=dict)
    counted: int = 0
    done: EngineDone | None = None
    fault: EngineFault | None = None
    tokens: list[list[int]] = field(default_factory=list)
    """Generated tokens of each choice, from the request itself."""


class World:
    """A base's folder and the adapters beside it, by digest."""

    def __init__(self, folder: Path, family: str = "llama", **changes: Any) -> None:
        self.folder = tiny.base_folder(folder / "base", family, **changes)
        self.adapters = folder / "adapters"
        self.decoder = load_base(self.folder)
        self.tokenizer = Tokenizer.load(self.folder)
        self.template = ChatTemplate.load(self.folder, self.tokenizer)

    def adapter(self, digest: str, *, rank: int, seed: int, only: str = "", **notes: Any) -> str:
        """Writes an adapter that changes answers a lot. `only` restricts it to modules with that in their name."""
        tensors = random_adapter(self.decoder, rank=rank, seed=seed, only=only)
        Adapter(rank, 2.0 * rank, tensors, notes).write(
            self.adapters / digest, self.decoder.config, base="tiny"
        )
        return digest

    def adapter_folder(self, digest: str) -> Path:
        if not (self.adapters / digest).is_dir():
            raise NotFound(f"There is no artifact {digest}.")
        return self.adapters / digest

    def engine(
        self,
        *,
        token_budget: int = 64,
        banks: Banks | None = None,
        reuses_prefixes: bool = True,
        **settings: Any,
    ) -> Engine:
        chosen = Settings(**{"max_running": 8, "cache_tokens": 1024, **settings})
        return build(
            self.decoder,
            self.tokenizer,
            self.template,
            base_digest=BASE_DIGEST,
            adapter_folder=self.adapter_folder,
            settings=chosen,
            banks=banks,
            token_budget=token_budget,
            reuses_prefixes=reuses_prefixes,
        )

    def plainly(self, call: EngineRequest) -> list[int]:
        """What the unpaged, unbatched, one-adapter way generates greedily."""
        adapters = None
        if call.adapter is not None:
            adapters = LoadedLora(Adapter.read(self.adapter_folder(call.adapter), self.decoder), self.decoder)
        assert call.tokens is not None and call.sampling.max_new_tokens is not None
        prompt, count = list(call.tokens), call.sampling.max_new_tokens
        return greedy(self.decoder, prompt, count, adapters, self.template.stop_ids)


def random_adapter(
    decoder: Decoder, *, rank: int, seed: int, only: str = ""
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        part.name: (
            torch.randn(rank, linear.weight.shape[1], generator=generator) * 0.1,
            torch.randn(part.stop - part.start, rank, generator=generator) * 0.1,
        )
        for linear in decoder.linears()
        for part in linear.parts
        if only in part.name
    }


def call(name: str, tokens: Iterable[int] = range(40, 60), **fields: Any) -> EngineRequest:
    """A request of tokens; what is not a field of the request is one of its sampling. Greedy unless told."""
    sampling = {k: fields.pop(k) for k in list(fields) if k in Sampling.model_fields}
    sampling = {"temperature": 0.0, "max_new_tokens": 12, **sampling}
    prompt = {} if "prompt" in fields or "messages" in fields else {"tokens": tuple(tokens)}
    return EngineRequest(id=name, sampling=Sampling(**sampling), **prompt, **fields)


def start(engine: Engine, wanted: EngineRequest) -> tuple[Request, list[Reply]]:
    request = engine.intake.prepare(wanted, wanted.id)
    return request, engine.add(request)


def run(engine: Engine, *calls: EngineRequest) -> dict[str, Answer]:
    """Serves the calls together, to their ends; all memory must be back then."""
    requests: dict[str, Request] = {}
    replies: list[Reply] = []
    for wanted in calls:
        requests[wanted.id], first = start(engine, wanted)
        replies += first
    while engine.has_work:
        replies += engine.step()
        engine.scheduler.check_integrity()
    assert engine.scheduler.pages.free == engine.scheduler.pages.count
    answers = collect(replies)
    for name, request in requests.items():
        answers[name].tokens = [choice.tokens[choice.prompt_length :] for choice in request.choices]
    return answers


def collect(replies: Iterable[Reply]) -> dict[str, Answer]:
    """Folds frames as a client would, and checks their order: a choice ends once, a request ends last."""
    answers: dict[str, Answer] = {}
    for reply in replies:
        answer = answers.setdefault(reply.request_id, Answer())
        assert answer.done is None and answer.fault is None, "a frame behind the last one"
        delta = reply.frame.delta
        answer.done, answer.fault = reply.frame.done, reply.frame.fault
        if delta is None:
            continue
        assert delta.index not in answer.finish, "a delta behind the choice's last one"
        answer.texts[delta.index] = answer.texts.get(delta.index, "") + delta.text
        answer.calls.setdefault(delta.index, []).extend(delta.calls)
        answer.counted += delta.tokens
        answer.logprobs.setdefault(delta.index, []).extend(delta.logprobs or [])
        if delta.finish_reason is not None:
            answer.finish[delta.index] = delta.finish_reason
        if delta.memory is not None:
            assert delta.finish_reason is not None, "the memory's word before the choice's end"
            answer.memory[delta.index] = delta.memory
    return answers
