"""One rival: the base's weights tuned on the facts by our own loop, within a budget of CPU-seconds, and examined.

    lora      LoRA on the taught wordings
    abstain   LoRA on the taught wordings, on questions answered "I don't know.", and on general text again
    full      every weight, on the taught wordings
    base      nothing at all

Training sees four wordings a fact. Its questions without an answer share no (subject, relation) with the exam's.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import measure, wordings, world
from benchmarks.memory.measure import Answer, Question
from benchmarks.memory.unknowns import unknowns
from benchmarks.memory.world import Fact
from inhouse import device as devices
from inhouse.data.examples import Example
from inhouse.data.loader import Epochs
from inhouse.data.pack import pack, split
from inhouse.engine.build import build
from inhouse.errors import NotFound
from inhouse.model.adapters import Adapter, LoadedLora, TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Packed
from inhouse.model.weights import load_base, save_base
from inhouse.schema import EngineRequest, Message, Sampling
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.loop import train
from inhouse.tune.recipe import MICRO_TOKENS, Recipe
from inhouse.tune.validation import evaluate
from inhouse.worker.base import serving_dtype
from recipes.seedling.stream import Pieces, pieces

METHODS = ("lora", "abstain", "full")
ABSTENTION = "I don't know."
BATCH_ROWS = 16
"""What our own recipe takes for so many rows."""
REPLAY_TOKENS = 64
"""Of a piece of general text: every one of its tokens is trained, and a fact's row has about eight that are."""
HELD_OUT_PIECES = 60
NEW_TOKENS = 48
CURVE_POINTS = 8
CURVE_FACTS = 50
TOKENS_PER_CPU_S = {"lora": 1900, "abstain": 1750, "full": 1300}
"""What one core of our machine (AMD EPYC, bfloat16, batches of 16 rows) trains when it is left alone: the fastest
tenth of 40 steps. A budget is paid out in tokens at this speed, so that a run is the same however busy the machine
is; the CPU seconds that it really took stand beside it."""
MOST_FACTS = 300
"""Of a larger bank a sample is examined; unknowns are made against all of it."""
DIGEST = "b" * 64


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, decided."""

    phase: str
    """search, report or random (answers of 32 random characters)"""
    method: str
    n: int
    seed: int
    rate: float
    rank: int
    """0 where there is no adapter."""
    budget_cpu_s: float


class Base:
    """The base's folder, and the general text that is read again or held out."""

    def __init__(self, folder: Path, corpus: Path, cache: Path) -> None:
        self.folder = folder
        self.tokenizer = Tokenizer.load(folder)
        self.template = ChatTemplate.load(folder, self.tokenizer)
        self.text = pieces(corpus, self.tokenizer, held_out=False, cache=cache)
        held_out = pieces(corpus, self.tokenizer, held_out=True, cache=cache)
        step = max(1, len(held_out) // HELD_OUT_PIECES)
        self.held_out = [held_out[i] for i in range(0, len(held_out), step)][:HELD_OUT_PIECES]

    def to_train(self) -> Decoder:
        """A fresh one in the type that our tuning chooses on this processor, the fastest."""
        device = devices.pick("cpu")
        return load_base(self.folder, device=device.torch_device, dtype=device.dtype("auto"))

    def to_serve(self, folder: Path | None = None) -> Decoder:
        """The base, or the model in `folder`, in what it would be served in."""
        folder, device = folder or self.folder, devices.pick("cpu")
        dtype = serving_dtype(folder, device, "auto")
        return load_base(folder, device=device.torch_device, dtype=dtype)

    def example(self, question: str, answer: str) -> Example:
        ids, trained = self.template.example(
            [Message(role="user", content=question), Message(role="assistant", content=answer)]
        )
        return Example(tuple(ids), tuple(trained))


def run(plan: Plan, base: Base) -> dict[str, Any]:
    """Trains and examines; what it found, ready for JSON."""
    began = time.perf_counter()
    make = world.random_facts if plan.phase == "random" else world.make_facts
    facts = make(plan.n, plan.seed)
    asked = (
        _taught_alone(facts)
        if plan.phase == "random"
        else examination(facts, plan.seed, plan.phase == "search")
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        decoder, lora = base.to_serve(), None
        if plan.method != "base":
            found, decoder, lora = _tuned(plan, facts, asked, base, Path(folder))
        loss = evaluate(decoder, lora, base.held_out, micro_tokens=MICRO_TOKENS).loss  # type: ignore[arg-type]
        examined = time.process_time()
        answer = answerer(decoder, Path(folder) if lora is not None else None, base)
        replies = answer([question.text for question in asked])
    table = measure.tabulate(asked, replies)
    return {
        **{field: getattr(plan, field) for field in Plan.__slots__},
        **found,
        "perplexity": round(math.exp(loss), 3),
        "exam_cpu_s": round(time.process_time() - examined, 1),
        "wall_s": round(time.perf_counter() - began, 1),
        **table.plain(),
        "failures": [
            [q.group, q.text, q.wanted, reply]
            for q, reply in table.failures[:: max(1, len(table.failures) // 8)][:8]
        ],
    }


def _tuned(
    plan: Plan, facts: Sequence[Fact], asked: Sequence[Question], base: Base, folder: Path
) -> tuple[dict[str, Any], Decoder, LoadedLora | None]:
    """(what training came to, the decoder to serve, its adapter), by way of files as a model that is published."""
    rows = training_rows(plan.method, facts, asked, base, plan.seed)
    steps = affordable_steps(plan, rows)
    decoder = base.to_train()
    lora = _lora(plan, decoder)
    found = _train(plan, decoder, lora, rows, steps, facts, base)
    if lora is None:
        save_base(decoder, folder, like=base.folder)
        return found, base.to_serve(folder), None
    lora.adapter().write(folder, decoder.config, base="base")
    served = base.to_serve()
    return found, served, LoadedLora(Adapter.read(folder, served), served)


# ── the exam ──────────────────────────────────────────────────────────────────────────────────────────────


def examination(facts: Sequence[Fact], seed: int, is_search: bool = False) -> list[Question]:
    """The common exam, but of the near questions only those that training must not use (`_is_for_exam`); a search
    makes do with fewer questions."""
    asked = measure.questions(
        facts,
        seed=seed,
        unseen_per_fact=1 if is_search else 2,
        noisy_questions=0 if is_search else 200,
        unknown_questions=0,
        most_facts=MOST_FACTS,
    )
    for unknown in unknowns(facts, seed, 60 if is_search else 200):
        if unknown.group != "near" or _is_for_exam(unknown.subject, unknown.relation.name):
            detail = unknown.change or unknown.relation.name
            asked.append(Question(unknown.text, unknown.group, None, detail))
    return asked


def _taught_alone(facts: Sequence[Fact]) -> list[Question]:
    return [Question(fact.question, "taught", fact.answer) for fact in facts]


def _is_for_exam(subject: str, relation: str) -> bool:
    return zlib.crc32(f"{subject}|{relation}".encode()) % 2 == 1


def answerer(decoder: Decoder, adapter: Path | None, base: Base) -> Answer:
    """The model behind the engine, greedy and in batches. The decoder is the engine's from here on."""

    def adapter_folder(digest: str) -> Path:
        if adapter is None or digest != DIGEST:
            raise NotFound(f"There is no adapter {digest}.")
        return adapter

    def answer(texts: list[str]) -> list[str]:
        engine = build(
            decoder,
            base.tokenizer,
            base.template,
            base_digest=DIGEST,
            adapter_folder=adapter_folder,
            settings=Settings(max_running=32, cache_tokens=16_384),
        )
        replies = {str(i): "" for i in range(len(texts))}
        for i, text in enumerate(texts):
            call = EngineRequest(
                id=str(i),
                messages=(Message(role="user", content=text),),
                adapter=None if adapter is None else DIGEST,
                sampling=Sampling(temperature=0.0, max_new_tokens=NEW_TOKENS),
            )
            for reply in engine.add(engine.intake.prepare(call, call.id)):
                assert reply.frame.fault is None, "a question that the engine refuses"
        while engine.has_work:
            for reply in engine.step():
                assert reply.frame.fault is None, reply.frame.fault
                if reply.frame.delta is not None:
                    replies[reply.request_id] += reply.frame.delta.text
        return [replies[str(i)] for i in range(len(texts))]

    return answer


# ── the training ──────────────────────────────────────────────────────────────────────────────────────────


def training_rows(
    method: str, facts: Sequence[Fact], asked: Sequence[Question], base: Base, seed: int
) -> list[Example]:
    """Four rows a fact; for `abstain` also one unknown a fact, and a piece of general text for every two facts."""
    rows = [base.example(text, fact.answer) for fact in facts for text in fact.wordings]
    if method == "abstain":
        rows += [base.example(text, ABSTENTION) for text in unknown_questions(facts, asked, seed)]
        rows += _replay(base.text, len(facts) // 2, seed)
    return rows


def unknown_questions(facts: Sequence[Fact], asked: Sequence[Question], seed: int) -> list[str]:
    """In taught frames; far, near and look-alike in equal parts as far as there are enough, none as in the exam."""
    rng = random.Random(f"abstentions {seed}")
    each = len(facts) // 3
    in_exam = {question.text for question in asked}
    found = []
    for unknown in unknowns(facts, 50_000 + seed, 3 * each):
        relation, subject = unknown.relation, unknown.subject
        ways = wordings.taught(relation.kind, relation.name, subject)
        ways_of_exam = {*ways, *wordings.unseen(relation.kind, relation.name, subject)}
        if ways_of_exam & in_exam or (unknown.group == "near" and _is_for_exam(subject, relation.name)):
            continue
        found.append((unknown.group, rng.choice(ways)))
    return [
        text for group in ("far", "near", "look-alike") for text in [t for g, t in found if g == group][:each]
    ]


def _replay(text: Pieces, count: int, seed: int) -> list[Example]:
    chosen = random.Random(f"replay {seed}").sample(range(len(text)), count)
    cut = [text[i].ids[:REPLAY_TOKENS] for i in chosen]
    return [Example(ids, (True,) * len(ids)) for ids in cut if len(ids) > 1]


def _lora(plan: Plan, decoder: Decoder) -> TrainedLora | None:
    if plan.method == "full":
        return None
    return TrainedLora(decoder, rank=plan.rank, alpha=2.0 * plan.rank, seed=plan.seed)


def _recipe(plan: Plan, steps: int) -> Recipe:
    return Recipe(
        method="full" if plan.method == "full" else "lora",
        epochs=1,
        batch_size=BATCH_ROWS,
        learning_rate=plan.rate,
        warmup_steps=max(1, min(100, steps // 20)),
        rank=plan.rank,
        alpha=2.0 * plan.rank,
        weight_decay=0.01 if plan.method == "full" else 0.0,
        clip=1.0,
        checkpoint_every=1_000_000,
        seed=plan.seed,
    )


class _Budgeted(Epochs):
    """Epochs without end, cut after so many steps."""

    def __init__(self, rows: Sequence[Example], steps: int, seed: int) -> None:
        super().__init__(rows, batch_size=BATCH_ROWS, epochs=1, seed=seed)
        self.steps = steps


def affordable_steps(plan: Plan, rows: Sequence[Example]) -> int:
    """How many steps the budget pays for."""
    tokens_per_step = BATCH_ROWS * sum(len(row.ids) for row in rows) / len(rows)
    return max(10, int(plan.budget_cpu_s * TOKENS_PER_CPU_S[plan.method] / tokens_per_step))


def _train(
    plan: Plan,
    decoder: Decoder,
    lora: TrainedLora | None,
    rows: list[Example],
    steps: int,
    facts: Sequence[Fact],
    base: Base,
) -> dict[str, Any]:
    """Trains in place to the last step; looks at recall on the way, on a clock that is stopped."""
    source = _Budgeted(rows, steps, plan.seed)
    shown = random.Random(plan.seed).sample(list(facts), min(CURVE_FACTS, len(facts)))
    taught = [base.example(fact.wordings[i % 4], fact.answer) for i, fact in enumerate(shown)]
    unseen = [base.example(fact.unseen[i % len(fact.unseen)], fact.answer) for i, fact in enumerate(shown)]
    curve: list[dict[str, float]] = []
    tokens, looked_s, recent = 0, 0.0, [0.0] * 0
    began_cpu, began_wall = time.process_time(), time.perf_counter()
    step = 0
    for done in train(decoder, lora, source, _recipe(plan, steps)):
        tokens, step = tokens + done.tokens, done.step
        recent = [*recent[-49:], done.loss]
        used = time.process_time() - began_cpu - looked_s
        if step == steps or step % max(1, -(-steps // CURVE_POINTS)) == 0:
            look = time.process_time()
            curve.append(
                {
                    "cpu_s": round(used, 1),
                    "step": step,
                    "loss": round(sum(recent) / len(recent), 4),
                    "taught": recall(decoder, lora, taught),
                    "unseen": recall(decoder, lora, unseen),
                }
            )
            looked_s += time.process_time() - look
    return {
        "cpu_s": round(time.process_time() - began_cpu - looked_s, 1),
        "train_wall_s": round(time.perf_counter() - began_wall, 1),
        "steps": step,
        "rows": len(rows),
        "epochs": round(step * BATCH_ROWS / len(rows), 2),
        "tokens": tokens,
        "trained_weights": sum(t.numel() for _, t in (lora or decoder).named_tensors()),
        "curve": curve,
    }


def recall(decoder: Decoder, lora: TrainedLora | None, examples: Sequence[Example]) -> float:
    """The share of replies that greedy decoding would write exactly, without decoding: each token is the likeliest."""
    hits = 0
    with torch.no_grad():
        for part in split(examples, MICRO_TOKENS):
            batch = pack(part)
            hidden = decoder.forward(batch.tokens, batch.positions, Packed(batch.lengths), lora, batch.rows)
            right = (decoder.logits(hidden).argmax(-1) == batch.targets).tolist()
            for example in part:
                hits += all(right[: example.loss_tokens])
                del right[: example.loss_tokens]
    return round(hits / len(examples), 4)
