"""What experts cost on a larger base: its weights are random, for cost does not ask what a base knows.

    python -m benchmarks.memory larger

A Llama-like base of some 125 million parameters in bfloat16: CPU-seconds of training for as many steps as a fact takes
on the embedded base, bytes of an expert, and what eight experts, a different one in each of eight sequences, add to
a step that decodes a token for each. Nothing is learned here: a random base has no states to learn from.
One thread, CPU time, rounds with and without in turn.
"""

from __future__ import annotations

import json
import tempfile
import time
import zlib
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
from inhouse.tune.experts import ExpertResult, ExpertSettings, ExpertTask, train_experts
from inhouse.tune.grouped import places

SEED = 1
FACTS = 32
TRAINING_STEPS = 20
"""An expert's mean on the embedded base, about."""
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
    settings = ExpertSettings(ranks=(1,), max_steps=TRAINING_STEPS)
    *_, progress = train_experts(decoder, work, settings)
    cpu_s = time.process_time() - began
    shelf = Shelf(DIGEST, experts={task.fact: _random(decoder, task.fact) for task in work[:SEQUENCES]})
    shelf.put(as_facts(facts))
    plain, with_experts = _decoding(decoder, tokenizer, template, shelf)
    return {
        "parameters": decoder.parameters,
        "type": str(decoder.dtype).removeprefix("torch."),
        "facts": len(facts),
        "training_steps": progress.steps,
        "cpu_s_a_fact": round(cpu_s / len(facts), 2),
        "bytes_a_fact": round(mean(len(blob) for blob in shelf.experts.values())),
        "step_ms": round(median(plain), 2),
        "step_with_experts_ms": round(median(with_experts), 2),
        "extra_ms": round(median(with_experts) - median(plain), 2),
        "extra_of_the_fastest_tenths_ms": round(_tenth(with_experts) - _tenth(plain), 2),
        "steps": len(plain),
    }


def _random(decoder: Decoder, fact: str) -> bytes:
    """An expert in the shape that training gives, of small random numbers."""
    settings = ExpertSettings()
    generator = torch.Generator().manual_seed(zlib.crc32(fact.encode()))
    tensors = {}
    for place in places(decoder, len(decoder.blocks) - settings.layers, settings.modules):
        a = torch.randn(1, place.inputs, generator=generator) * 0.02
        b = torch.randn(place.outputs, 1, generator=generator) * 0.02
        tensors[place.name] = (a.bfloat16(), b.bfloat16())
    return to_bytes(ExpertResult(fact, 1, 1.0, tensors, 0.0, 0, True), DIGEST, fact, 1)


def _decoding(
    decoder: Decoder, tokenizer: Tokenizer, template: ChatTemplate, shelf: Shelf
) -> tuple[list[float], list[float]]:
    """(without, with experts): CPU milliseconds of each step."""
    chosen = [shelf.facts[name] for name in sorted(shelf.experts)[:SEQUENCES]]

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
    plain: list[float] = []
    with_experts: list[float] = []
    for _ in range(ROUNDS):
        plain += _round(engine, questions, False)
        with_experts += _round(engine, questions, True)
    return plain, with_experts


def _tenth(values: Sequence[float]) -> float:
    """Where the fastest tenth ends: least disturbed by others on the machine."""
    return sorted(values)[len(values) // 10]


def _round(engine: Engine, questions: Sequence[str], has_experts: bool) -> list[float]:
    """CPU milliseconds of the steps in which every sequence decodes."""
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
    passed_ms = []
    for _ in range(STEPS):
        began = time.process_time()
        engine.step()
        passed_ms.append(1000 * (time.process_time() - began))
    assert engine.stats["running"] == len(questions), "a sequence ended before its time"
    while engine.has_work:
        engine.step()
    return passed_ms
