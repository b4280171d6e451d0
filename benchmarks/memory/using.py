"""Facts in use, each way alone: letters, JSON objects, comparisons and SQL conditions on the embedded base.

    python -m benchmarks.memory using --corpus FILE --routers FOLDER --out FILE

Every finished run is one JSON line of the output file; what stands there is not run again. Each way is asked with the
router that a house would use, and once more with the right facts *told*: what a router that never misses would find.
Routing misses are counted apart. The exam's instructions are in words that no adapter was trained on ("unseen"); a way
with the task adapter is also asked in instructions of the kind that it was trained on ("own"). One thread.

A task adapter learns on tasks about another world's subjects whose prompts carry records as the engine lays them out,
beside the needed fact often another one of the same subject: that is what routing finds. It is trained once, and
asked on every seed: nothing of it depends on the exam's facts. It sees no task twice, so the loss of its last steps
chooses its rate.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.memory import uses, world
from benchmarks.memory.instructions import reworded
from benchmarks.memory.measure import student
from benchmarks.memory.rivals import BATCH_ROWS, TOKENS_PER_CPU_S, Base
from benchmarks.memory.uses import SORTS, Use
from benchmarks.memory.ways import BANK, Memory, as_facts
from benchmarks.memory.weights import SEEDLING, append, read
from benchmarks.memory.world import Fact as Taught
from inhouse.data.examples import Example
from inhouse.data.loader import Epochs
from inhouse.engine.memory import LAYOUT, record, with_records
from inhouse.memory.routing import FOR_A_NAME, Decision, Hit
from inhouse.model.adapters import TrainedLora
from inhouse.schema import Fact, MemoryMode, MemoryUse, Message
from inhouse.tune.loop import train
from inhouse.tune.recipe import Recipe

SEARCH_SEED = 1
REPORT_SEEDS = (21, 22, 23)
FACTS = 100
TASKS = 100
"""Of each sort, where the bank's facts allow for so many different ones."""
RATES = (1.5e-3, 4e-3)
RANK = 16
SEARCH_CPU_S, REPORT_CPU_S = 30.0, 180.0
NEW_TOKENS = 96
"""Of a reply: the longest letter has about seventy."""
RUNNING = 100
"""Tasks in a batch."""
BESIDE = 0.6
"""How often a training prompt carries another fact of the subject, too."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing a task."""

    name: str
    has_adapter: bool
    mode: MemoryMode | None
    """None asks without the memory."""


WAYS = (
    Way("base", False, None),
    Way("base + retrieval", False, "retrieval"),
    Way("task adapter", True, None),
    Way("task adapter + retrieval", True, "retrieval"),
    Way("task adapter + expert", True, "expert"),
)
ROUTES = ("told", "router")
PLAN = (
    ("told", "unseen", "task adapter + retrieval", 100),
    ("told", "own", "task adapter + retrieval", 50),
    ("router", "unseen", "task adapter + retrieval", 50),
    ("told", "unseen", "task adapter + expert", 25),
    ("told", "unseen", "base + retrieval", 25),
    ("told", "unseen", "task adapter", 25),
    ("told", "unseen", "base", 25),
)
"""(route, words, way, tasks of each sort and seed), in the order they are run: what matters most comes first, and is
asked most."""
KEY = ("phase", "seed", "way", "route", "words", "rate")


def using(corpus: Path, routers: Path, out: Path, *, routes: Sequence[str] = ROUTES) -> None:
    """Runs what is not in `out` yet: the search, then every way on every seed that is reported."""
    torch.set_num_threads(1)
    base = Base(SEEDLING, corpus, out.parent / "memory-pieces")
    bench = Bench(base, routers, out)
    for rate in RATES:
        bench.adapter(rate, SEARCH_CPU_S)
    rate = chosen(read(out))
    bench.adapter(rate, REPORT_CPU_S)
    ways = {way.name: way for way in WAYS}
    if "router" in routes:
        for seed in (SEARCH_SEED, *REPORT_SEEDS):
            bench.routing(seed)
    for route, words, name, count in PLAN:
        if route not in routes:
            continue
        for seed in REPORT_SEEDS:
            bench.run(seed, ways[name], route, words, rate, count)


def chosen(lines: Sequence[dict[str, Any]]) -> float:
    """The task adapter's rate: the one that comes lowest within the search's budget."""
    searched = [line for line in lines if line["phase"] == "adapter" and line["budget"] == SEARCH_CPU_S]
    return float(min(searched, key=lambda line: float(line["loss"]))["rate"])


class Bench:
    """Keeps what several runs share: the base, task adapters and a seed's bank."""

    def __init__(self, base: Base, routers: Path, out: Path) -> None:
        self.base, self.routers, self.out = base, routers, out
        self._memories: dict[int, tuple[Memory, list[Use]]] = {}

    def run(self, seed: int, way: Way, route: str, words: str, rate: float, count: int = TASKS) -> None:
        """One way on one seed's tasks, unless it is done."""
        phase = "choice" if seed == SEARCH_SEED else "report"
        line: dict[str, Any] = {"phase": phase, "seed": seed, "way": way.name, "route": route}
        line |= {"words": words, "rate": rate}
        if any(all(done.get(key) == line[key] for key in KEY) for done in read(self.out)):
            return
        memory, tasks = self._memory(seed)
        tasks = [task for sort in SORTS for task in [t for t in tasks if t.sort == sort][:count]]
        tasks = reworded(tasks, seed) if words == "own" else tasks
        adapter = None
        if way.has_adapter:
            folder = self.adapter(rate, REPORT_CPU_S)
            adapter, memory.adapters[folder.name] = folder.name, folder
        if way.mode == "expert" and not memory.shelf.experts:
            line |= self._experts(tasks, memory)
        began = time.process_time()
        told = Told.of(memory, tasks)
        if route == "router":
            line["router"] = memory.router_digest
        engine = memory.engine(max_running=RUNNING, banks=told if route == "told" else None)
        replies, outcomes = memory.ask(
            [task.prompt for task in tasks], way.mode, adapter=adapter, engine=engine, new_tokens=NEW_TOKENS
        )
        right = [task.is_right(reply) for task, reply in zip(tasks, replies, strict=True)]
        needed = told.needed
        routed = [
            way.mode is not None
            and outcome is not None
            and needed[task.prompt] <= {citation.id for citation in outcome.facts}
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]
        line |= {
            "share": sum(right) / len(right),
            "sorts": {sort: _count(tasks, right, sort) for sort in SORTS},
            "routed": {sort: _count(tasks, routed, sort) for sort in SORTS},
            "right_where_routed": _ratio([r for r, found in zip(right, routed, strict=True) if found]),
            "decisions": dict(Counter(o.decision if o else "none" for o in outcomes)),
            "exam_cpu_s": round(time.process_time() - began, 1),
            "failures": [
                [task.sort, task.prompt, task.reply, reply, found]
                for task, reply, is_right, found in zip(tasks, replies, right, routed, strict=True)
                if not is_right
            ][:: 1 if phase != "report" else 10],
        }
        append(self.out, line)
        print(_sentence(line), flush=True)

    def routing(self, seed: int) -> None:
        """Which tasks' facts the router does not find, by sort and instruction; none is answered."""
        line: dict[str, Any] = {"phase": "routing", "seed": seed}
        if any(done["phase"] == "routing" and done["seed"] == seed for done in read(self.out)):
            return
        memory, tasks = self._memory(seed)
        needed = Told.of(memory, tasks).needed
        bank = memory.banks().at(MemoryUse(bank=BANK, revision=memory.shelf.revision, sees_all=True))
        found: dict[str, list[bool]] = {}
        kinds: Counter[str] = Counter()
        missed = []
        for task in tasks:
            decision = bank.route([Message(role="user", content=task.prompt)], groups=None, now=0.0)
            kinds[decision.kind] += 1
            is_hit = needed[task.prompt] <= {hit.fact.id for hit in decision.hits}
            found.setdefault(task.sort, []).append(is_hit)
            found.setdefault(f"{task.sort}: {instruction(task)}", []).append(is_hit)
            if not is_hit:
                wanted = [f"{fact.subject.text} {fact.relation.name}" for fact in task.facts]
                shown = [hit.fact.question for hit in decision.hits]
                missed.append([task.sort, task.prompt, wanted, decision.kind, shown])
        line |= {
            "decisions": dict(kinds),
            "found": {name: [sum(hits), len(hits)] for name, hits in sorted(found.items())},
            # Of a seed that is reported nobody may learn what to mend.
            "missed": missed if seed == SEARCH_SEED else [],
        }
        append(self.out, line)
        shares = {name: f"{sum(hits)}/{len(hits)}" for name, hits in found.items() if ":" not in name}
        print(f"routing seed={seed}: {shares}, {dict(kinds)}", flush=True)

    def _memory(self, seed: int) -> tuple[Memory, list[Use]]:
        if seed not in self._memories:
            facts = world.make_facts(FACTS, seed)
            memory = Memory(self.base, self.routers)
            memory.shelf.put(as_facts(facts))
            self._memories = {seed: (memory, tasks_of(facts, seed))}
        return self._memories[seed]

    # ── the task adapter ──────────────────────────────────────────────────────────────────────────────────

    def adapter(self, rate: float, budget_cpu_s: float) -> Path:
        """Folder of a task adapter as it is served, trained now where it was not yet."""
        name = f"{rate:g}-{budget_cpu_s:g}-{layout_digest()}"
        folder = self.out.parent / "memory-task-adapters" / name
        if not (folder / "inhouse.json").is_file():
            self._train(rate, budget_cpu_s, folder)
        return folder

    def _train(self, rate: float, budget_cpu_s: float, folder: Path) -> None:
        """A task adapter from records, within the budget as `rivals` pays it out."""
        sample = examples(reworded(uses.training(200, SEARCH_SEED), SEARCH_SEED), SEARCH_SEED, self.base)
        tokens = BATCH_ROWS * mean(len(example.ids) for example in sample)
        steps = max(10, int(budget_cpu_s * TOKENS_PER_CPU_S["lora"] / tokens))
        apart_from = [f for seed in (SEARCH_SEED, *REPORT_SEEDS) for f in world.make_facts(FACTS, seed)]
        tasks = uses.training(steps * BATCH_ROWS, SEARCH_SEED, apart_from=apart_from)
        rows = examples(reworded(tasks, SEARCH_SEED), SEARCH_SEED, self.base)
        decoder = self.base.to_train()
        lora = TrainedLora(decoder, rank=RANK, alpha=2.0 * RANK, seed=SEARCH_SEED)
        recipe = Recipe(
            method="lora",
            epochs=1,
            batch_size=BATCH_ROWS,
            learning_rate=rate,
            warmup_steps=max(1, steps // 20),
            rank=RANK,
            alpha=2.0 * RANK,
            weight_decay=0.0,
            clip=1.0,
            checkpoint_every=1_000_000,
            seed=SEARCH_SEED,
        )
        began, began_wall, recent = time.process_time(), time.perf_counter(), [0.0] * 0
        done = None
        for done in train(decoder, lora, Epochs(rows, batch_size=BATCH_ROWS, epochs=1, seed=1), recipe):
            recent = [*recent[-19:], done.loss]
            if done.step % 50 == 0:
                print(f"step {done.step} of {done.steps}: loss {mean(recent):.4f}", flush=True)
        cpu_s = time.process_time() - began
        lora.adapter().write(folder, decoder.config, base="base")
        line = {
            "phase": "adapter",
            "name": folder.name,
            "rate": rate,
            "budget": budget_cpu_s,
            "tasks": len(tasks),
            "steps": 0 if done is None else done.step,
            "cpu_s": round(cpu_s, 1),
            "wall_s": round(time.perf_counter() - began_wall, 1),
            "loss": round(mean(recent), 4),
        }
        append(self.out, line)
        print(line, flush=True)

    # ── experts ───────────────────────────────────────────────────────────────────────────────────────────

    def _experts(self, tasks: Sequence[Use], memory: Memory) -> dict[str, Any]:
        """An expert for each fact that the tasks need one of, on the shelf; what that cost."""
        ids = {fact.question: fact.id for fact in memory.shelf.all()}
        facts = {task.facts[0].question: task.facts[0] for task in tasks if len(task.facts) == 1}
        return memory.add_experts({ids[question]: fact for question, fact in facts.items()})


@dataclass(frozen=True, slots=True)
class Told:
    """Banks that are told which facts each task needs: what a router that never misses would find."""

    source: Any
    facts: Mapping[str, tuple[Fact, ...]]
    """By prompt."""
    revision: int
    unknown: Any = "base"

    @classmethod
    def of(cls, memory: Memory, tasks: Sequence[Use]) -> Told:
        known = {fact.question: fact for fact in memory.shelf.all()}
        facts = {task.prompt: tuple(known[fact.question] for fact in task.facts) for task in tasks}
        return cls(memory.banks().source, facts, memory.shelf.revision)

    @property
    def needed(self) -> dict[str, set[str]]:
        """Ids of the facts that a task cannot be done without, by prompt."""
        return {prompt: {fact.id for fact in facts} for prompt, facts in self.facts.items()}

    def at(self, use: MemoryUse) -> Told:
        return self

    def route(self, messages: Sequence[Message], *, groups: frozenset[str] | None, now: float) -> Decision:
        return Decision("use", tuple(Hit(fact, 1.0) for fact in self.facts[messages[-1].text]))


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────


def tasks_of(facts: Sequence[Taught], seed: int) -> list[Use]:
    """The exam of one seed: `TASKS` of each sort, or as many as there are."""
    drawn = uses.exam(facts, 3 * len(SORTS) * TASKS, seed)
    return [task for sort in SORTS for task in [t for t in drawn if t.sort == sort][:TASKS]]


def examples(tasks: Sequence[Use], seed: int, base: Base) -> list[Example]:
    """Training tasks whose prompts carry records as the engine lays them out, the needed ones among others."""
    rng = random.Random(f"records {seed}")
    known: dict[str, list[Taught]] = {}
    for fact in {f.question: f for task in tasks for f in task.facts}.values():
        known.setdefault(fact.subject.text, []).append(fact)
    rows = []
    for task in tasks:
        shown = list(task.facts)
        for fact in task.facts:
            others = [f for f in known[fact.subject.text] if f not in shown]
            if others and rng.random() < BESIDE:
                shown += rng.sample(others, min(FOR_A_NAME - 1, len(others)))
        rng.shuffle(shown)
        hits = [Hit(fact, 1.0) for fact in as_facts(shown)]
        asked = with_records([Message(role="user", content=task.prompt)], hits)
        ids, trained = base.template.example([*asked, Message(role="assistant", content=task.reply)])
        rows.append(Example(tuple(ids), tuple(trained)))
    return rows


def layout_digest() -> str:
    """Of how records are laid out and tasks are given: other ones ask for another adapter."""
    plain = as_facts(world.make_facts(20, SEARCH_SEED))
    shown = LAYOUT + "\n".join(record(fact) for fact in plain)
    shown += "".join(task.prompt for task in reworded(uses.training(40, SEARCH_SEED), SEARCH_SEED))
    return hashlib.sha256(shown.encode()).hexdigest()[:8]


def instruction(task: Use) -> str:
    """The instruction that a task was made from."""
    groups: dict[str, Sequence[str]] = {
        "letter": uses.LETTERS[1],
        "json": uses.OBJECTS[1],
        "comparison": [form for forms in uses.COMPARISONS[1].values() for form in forms],
        "sql": uses.CONDITIONS[1],
    }
    for form in groups[task.sort]:
        pieces = re.split(r"\{\w+\}", form)
        pattern = ".+".join(re.escape(p.replace("{{", "{").replace("}}", "}")) for p in pieces)
        if re.fullmatch(pattern, task.prompt):
            return form
    return "another"


# ── what it came to ───────────────────────────────────────────────────────────────────────────────────────


def _count(tasks: Sequence[Use], hits: Sequence[bool], sort: str) -> list[int]:
    """[hits, tasks] of a sort."""
    own = [hit for task, hit in zip(tasks, hits, strict=True) if task.sort == sort]
    return [sum(own), len(own)]


def _ratio(hits: Sequence[bool]) -> list[int]:
    return [sum(hits), len(hits)]


def _sentence(line: Mapping[str, Any]) -> str:
    sorts = ", ".join(f"{sort} {hits}/{total}" for sort, (hits, total) in line["sorts"].items())
    return (
        f"{line['phase']} seed={line['seed']} {line['way']} ({line['route']}, {line['words']}): {sorts}; "
        f"{line['decisions']}; {line['exam_cpu_s']} CPU-s"
    )


def summary(out: Path) -> str:
    """The reported runs as Markdown: percent of right uses, means over seeds with Student's 95 % intervals."""
    lines = [line for line in read(out) if line["phase"] == "report"]
    rows = ["| way | facts | instructions | " + " | ".join(SORTS) + " | mean | seeds |", "|" + "---|" * 9]
    groups: dict[tuple[str, str, str], list[list[float]]] = {}
    for line in lines:
        shares = [100 * hits / total for hits, total in line["sorts"].values()]
        groups.setdefault((line["way"], line["route"], line["words"]), []).append(shares)
    order = [way.name for way in WAYS]
    for (name, route, words), runs in sorted(groups.items(), key=lambda g: (order.index(g[0][0]), g[0])):
        has_facts = next(way for way in WAYS if way.name == name).mode is not None
        cells = [_interval([share[i] for share in runs]) for i in range(len(SORTS))]
        every = _interval([mean(share) for share in runs])
        facts = route if has_facts else "none"
        rows.append(f"| {name} | {facts} | {words} | {' | '.join(cells)} | {every} | {len(runs)} |")
    return "\n".join(rows)


def _interval(values: Sequence[float]) -> str:
    middle, low, high = student(values)
    return f"{middle:.1f}" if len(values) < 2 else f"{middle:.1f} ±{(high - low) / 2:.1f}"


def as_json(out: Path) -> str:
    """All finished runs without their examples of failures."""
    kept = [{k: v for k, v in line.items() if k not in ("failures", "missed")} for line in read(out)]
    return json.dumps(kept, indent=1)
