"""What experts cost on a larger base: its weights are random, for cost does not ask what a base knows.

    python -m benchmarks.memory larger

A Llama-like base of some 125 million parameters in bfloat16. Bytes and CPU-seconds a fact of training, and what
eight experts, a different one in each of eight sequences, add to a step that decodes a token for each. One thread,
CPU time, rounds with and without in turn.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.memory import world
from benchmarks.memory.using import Told
from benchmarks.memory.ways import BANK, Shelf, as_facts
from benchmarks.memory.weights import SEEDLING
from inhouse import device as devices
from inhouse.data.examples import Example
from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.errors import NotFound
from inhouse.model.build import fresh
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import Decoder
from inhouse.schema import EngineRequest, MemoryUse, Message, Sampling
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.expert_file import to_bytes
from inhouse.tune.experts import ExpertSettings, ExpertTask, train_experts

SEED = 1
FACTS = 32
SEQUENCES = 8
STEPS, ROUNDS = 40, 7
DIGEST = "c" * 64
SHAPE = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 768,
    "intermediate_size": 2560,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 1024,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}


def larger() -> dict[str, Any]:
    """Trains, decodes, and says what both cost."""
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(SEEDLING)
    template = ChatTemplate.load(SEEDLING, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
        config = ModelConfig.load(Path(folder))
    decoder = fresh(config, SEED, dtype=devices.pick("cpu").dtype("auto"))
    facts = world.make_facts(FACTS, SEED)
    work = []
    for i, fact in enumerate(facts):
        rows = []
        for text in fact.wordings:
            asked, told = Message(role="user", content=text), Message(role="assistant", content=fact.answer)
            ids, trained = template.example([asked, told])
            rows.append(Example(tuple(ids), tuple(trained)))
        work.append(ExpertTask(f"fact-{i}", tuple(rows)))
    began = time.process_time()
    *_, progress = train_experts(decoder, work, ExpertSettings())
    cpu_s = time.process_time() - began
    exact = {name: result for name, result in progress.results.items() if result.is_exact}
    shelf = Shelf(DIGEST, experts={name: to_bytes(found, DIGEST, name, 1) for name, found in exact.items()})
    shelf.put(as_facts(facts))
    plain, with_experts = _decoding(decoder, tokenizer, template, shelf)
    return {
        "parameters": decoder.parameters,
        "type": str(decoder.dtype).removeprefix("torch."),
        "facts": len(facts),
        "exact": len(exact),
        "at_rank_1": sum(result.rank == 1 for result in exact.values()),
        "steps_a_fact": round(mean(result.steps for result in progress.results.values()), 1),
        "cpu_s_a_fact": round(cpu_s / len(facts), 2),
        "bytes_a_fact": round(mean(len(blob) for blob in shelf.experts.values())),
        "step_ms": round(median(plain), 2),
        "step_with_experts_ms": round(median(with_experts), 2),
        "extra_ms": round(median(b - a for a, b in zip(plain, with_experts, strict=True)), 2),
        "extra_least_most_ms": [
            round(pick(b - a for a, b in zip(plain, with_experts, strict=True)), 2) for pick in (min, max)
        ],
    }


def _decoding(
    decoder: Decoder, tokenizer: Tokenizer, template: ChatTemplate, shelf: Shelf
) -> tuple[list[float], list[float]]:
    """(without, with experts): CPU milliseconds a step, one number a round."""
    chosen = [shelf.facts[name] for name in sorted(shelf.experts)[:SEQUENCES]]
    assert len(chosen) == SEQUENCES, "too few experts came out exact to fill a batch"

    def no_adapters(digest: str) -> Path:
        raise NotFound(f"There is no adapter {digest}.")

    engine = build(
        decoder,
        tokenizer,
        template,
        base_digest=DIGEST,
        adapter_folder=no_adapters,
        settings=Settings(max_running=SEQUENCES, cache_tokens=8192),
        banks=Told(shelf, {fact.question: (fact,) for fact in chosen}, shelf.revision),
    )
    questions = [fact.question for fact in chosen]
    _round(engine, questions, True)
    rounds = [(_round(engine, questions, False), _round(engine, questions, True)) for _ in range(ROUNDS)]
    return [plain for plain, _ in rounds], [experts for _, experts in rounds]


def _round(engine: Engine, questions: Sequence[str], has_experts: bool) -> float:
    """CPU milliseconds of a step in which every sequence decodes."""
    never_ends = dict.fromkeys(engine.intake.stop_ids, -100.0)
    for i, question in enumerate(questions):
        call = EngineRequest(
            id=str(i),
            messages=(Message(role="user", content=question),),
            memory=MemoryUse(bank=BANK, revision=1, mode="expert", sees_all=True) if has_experts else None,
            sampling=Sampling(temperature=0.0, max_new_tokens=STEPS + 2, logit_bias=never_ends),
        )
        request = engine.intake.prepare(call, call.id)
        assert (request.expert is not None) == has_experts, "a sequence runs without its expert"
        request.recall = None  # what is said does not matter here
        engine.add(request)
    engine.step()  # prompts
    began = time.process_time()
    for _ in range(STEPS):
        engine.step()
    passed_ms = 1000 * (time.process_time() - began)
    assert engine.stats["running"] == len(questions), "a sequence ended before its time"
    while engine.has_work:
        engine.step()
    return passed_ms / STEPS
