"""What memory experts cost and keep, by where they sit, their rank and their rate: one arm after the other.

    python -m benchmarks.memory.experts [--facts 128] [--core N] [--arms NAME ...]

Every arm teaches the same invented facts, four wordings each, to the embedded base, on one core with one thread, and is
then asked in wordings that training never saw, with the right expert switched on: how a question finds its expert is
the router's matter. `spills` is the other side: questions of somebody else that must not be answered from this expert,
asked all the same. Every question is read with the expert as it is kept, from its bytes, by the plain path.

Rows are written as they come; those of arms that are not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import inhouse.bases
from benchmarks.core import pin
from benchmarks.memory.world import Fact, make_facts, random_facts
from benchmarks.results import FOLDER, command, machine
from inhouse.data.examples import Example
from inhouse.data.pack import pack
from inhouse.model.adapters import LoadedLora
from inhouse.model.decoder import Decoder, greedy
from inhouse.model.weights import load_base
from inhouse.schema import Message
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.expert_file import from_bytes, to_bytes
from inhouse.tune.experts import ExpertSettings, ExpertTask, train_experts
from inhouse.tune.loss import supervised

SEED = 31
"""Of the world. No other measurement uses it, for defaults were chosen here."""
UNSEEN, OTHERS, NEGATIVES = 2, 2, 4
"""Questions a fact: in other wordings, and somebody else's; and negatives where an arm trains with them."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training. The facts are the same for all but those of random answers."""

    what: str
    settings: ExpertSettings
    share: float = 1.0
    """Of the facts: slow arms take fewer."""
    has_negatives: bool = False
    is_random: bool = False


PLAIN = ExpertSettings(
    layers=1, modules=frozenset(["gate", "up", "down"]), ranks=(1, 4), learning_rate=0.04, noise=0.6
)
WIDE = frozenset(["q", "v", "out", "gate", "up", "down"])
TWO_WIDE = replace(PLAIN, layers=2, modules=WIDE)
ARMS = {
    "plain": Arm("last layer; gate, up, down; rank 1; rate 0.04; noise 0.6", PLAIN),
    "no-noise": Arm("noise 0", replace(PLAIN, noise=0.0)),
    "few": Arm("as in the first row, on as many facts as those below", PLAIN, share=0.25),
    "rank-4": Arm("rank 4", replace(PLAIN, ranks=(4,)), share=0.25),
    "up-down": Arm("up, down", replace(PLAIN, modules=frozenset(["up", "down"])), share=0.25),
    "wide": Arm("q, v, out, gate, up, down", replace(PLAIN, modules=WIDE), share=0.25),
    "all": Arm("q, k, v, out, gate, up, down", replace(PLAIN, modules=WIDE | {"k"}), share=0.25),
    "two": Arm("last two layers", replace(PLAIN, layers=2), share=0.25),
    "two-wide": Arm("last two layers; q, v, out, gate, up, down", TWO_WIDE, share=0.25),
    "rate-0.01": Arm("rate 0.01", replace(PLAIN, learning_rate=0.01), share=0.25),
    "rate-0.02": Arm("rate 0.02", replace(PLAIN, learning_rate=0.02), share=0.25),
    "rate-0.08": Arm("rate 0.08", replace(PLAIN, learning_rate=0.08), share=0.25),
    "alone": Arm("one at a time instead of 64 side by side", replace(PLAIN, side_by_side=1), share=0.25),
    "negatives": Arm("with four negatives", PLAIN, share=0.125, has_negatives=True),
    "two-wide-negatives": Arm(
        "with four negatives; last two layers; q, v, out, gate, up, down",
        TWO_WIDE,
        share=0.125,
        has_negatives=True,
    ),
    "random": Arm("answers of 32 random characters", PLAIN, share=0.125, is_random=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory.experts")
    parser.add_argument("--facts", type=int, default=128)
    parser.add_argument("--core", type=int, help="the one that everything runs on; default: the last")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, default=FOLDER / "memory-experts.json")
    options = parser.parse_args()
    pin(options.core)
    torch.set_num_threads(1)
    school = School()
    rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if options.out.is_file() else []
    found = {"machine": machine(), "seed": SEED}
    asked = command("benchmarks.memory.experts")
    for name in options.arms:
        row = {"arm": name, "command": asked} | school.examine(ARMS[name], options.facts)
        print(json.dumps(row), flush=True)
        rows = [r for r in rows if r["arm"] != name] + [row]
        rows.sort(key=lambda r: list(ARMS).index(r["arm"]))
        options.out.write_text(json.dumps(found | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


class School:
    """The embedded base, and what is asked of its experts."""

    def __init__(self) -> None:
        folder = Path(inhouse.bases.__path__[0]) / "seedling"
        self.decoder: Decoder = load_base(folder)
        self.template = ChatTemplate.load(folder, Tokenizer.load(folder))
        self._own: dict[str, Example] = {}

    def examine(self, arm: Arm, count: int) -> dict[str, Any]:
        """Trains an arm's experts and asks them."""
        count = max(8, round(count * arm.share))
        facts = (random_facts if arm.is_random else make_facts)(count, SEED)
        tasks = [self.task(i, facts, arm) for i in range(count)]
        began = time.process_time()
        *_, progress = train_experts(self.decoder, tasks, arm.settings)
        cpu_s = time.process_time() - began
        taught, unseen, kept, spilled, sizes = [], [], [], [], []
        for i, fact in enumerate(facts):
            result = progress.results[str(i)]
            if not result.is_exact:
                taught += [False] * 4
                unseen += [False] * UNSEEN
                continue
            blob = to_bytes(result, "0" * 64, str(i), 1)
            sizes.append(len(blob))
            expert = LoadedLora(from_bytes(blob, self.decoder), self.decoder)
            others = self.others(i, facts, first=NEGATIVES)
            asked = [self.example(q, fact.answer) for q in (*fact.wordings, *fact.unseen[:UNSEEN])]
            own = [self.own(q) for q in others]
            told = [self.example(q, fact.answer) for q in others]
            right = self.read([*asked, *own, *told], expert)
            taught += right[:4]
            unseen += right[4 : 4 + UNSEEN]
            kept += right[4 + UNSEEN :][:OTHERS]
            spilled += right[4 + UNSEEN + OTHERS :]
        results = list(progress.results.values())
        return {
            "what": arm.what,
            "facts": count,
            "cpu_s_a_fact": round(cpu_s / count, 3),
            "bytes_a_fact": round(mean(sizes)) if sizes else None,
            "exact": sum(r.is_exact for r in results) / count,
            "at_rank_4": sum(r.is_exact and r.rank == 4 for r in results) / count,
            "in_float32": sum(
                r.is_exact and next(iter(r.tensors.values()))[0].dtype == torch.float32 for r in results
            )
            / count,
            "mean_steps": round(mean(r.steps for r in results), 1),
            "most_steps": max(r.steps for r in results),
            "taught": round(mean(taught), 3),
            "unseen": round(mean(unseen), 3),
            "keeps_own": round(mean(kept), 3) if kept else None,
            "spills": round(mean(spilled), 3) if spilled else None,
        }

    def task(self, i: int, facts: Sequence[Fact], arm: Arm) -> ExpertTask:
        negatives = self.others(i, facts, first=0)[:NEGATIVES] if arm.has_negatives else []
        return ExpertTask(
            str(i),
            tuple(self.example(q, facts[i].answer) for q in facts[i].wordings),
            tuple(tuple(self.template.prompt([Message(role="user", content=q)])) for q in negatives),
        )

    def others(self, i: int, facts: Sequence[Fact], *, first: int) -> list[str]:
        """Questions for other facts: those whose negatives are trained on come first, those that are asked later."""
        mine = facts[i]
        near = [f for f in facts if f.subject == mine.subject and f.relation != mine.relation]
        alike = [f for f in facts if f.relation == mine.relation and f.subject != mine.subject]
        far = [facts[(i + k * 7 + 3) % len(facts)] for k in range(8)]
        far = [f for f in far if f is not mine and f not in near and f not in alike]
        mixed = [f for trio in zip(_filled(near, far), _filled(alike, far), far, strict=False) for f in trio]
        distinct = list({f.question: f for f in mixed}.values())
        asked = distinct[first : first + max(OTHERS, NEGATIVES)]
        return [f.wordings[(i + k) % 4] for k, f in enumerate(asked)][: OTHERS if first else NEGATIVES]

    def example(self, question: str, answer: str) -> Example:
        ids, trained = self.template.example(
            [Message(role="user", content=question), Message(role="assistant", content=answer)]
        )
        return Example(tuple(ids), tuple(trained))

    def own(self, question: str) -> Example:
        """What the base says by itself."""
        if question in self._own:
            return self._own[question]
        prompt = self.template.prompt([Message(role="user", content=question)])
        answer = greedy(self.decoder, prompt, 24, stop=self.template.stop_ids)
        whole = Example((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))
        return self._own.setdefault(question, whole)

    def read(self, examples: Sequence[Example], expert: LoadedLora) -> list[bool]:
        """Whether greedy decoding with this expert gives each reply, end token included: whether every token of it
        is the likeliest behind those before it."""
        with torch.no_grad():
            _, _, is_best = supervised(self.decoder, expert, pack(examples), 1.0)  # type: ignore[arg-type]
        sizes = [example.loss_tokens for example in examples]
        return [bool(part.all()) for part in is_best.split(sizes)]


def _filled(few: list[Fact], others: list[Fact]) -> list[Fact]:
    return (few + others)[: max(3, len(few))]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The arms as Markdown."""
    head = (
        "| arm | facts | exact | of them at rank 4 | CPU-s a fact | bytes a fact | steps, mean (most) | taught "
        "wordings | unseen wordings | others keep the base's answer | others get this answer |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join(
        [
            head,
            *(
                f"| {r['what']} | {r['facts']} | {_percent(r['exact'])} | {_percent(r['at_rank_4'])} | "
                f"{r['cpu_s_a_fact']} | {r['bytes_a_fact'] or '–'} | {r['mean_steps']} ({r['most_steps']}) | "
                f"{_percent(r['taught'])} | {_percent(r['unseen'])} | {_percent(r['keeps_own'])} | "
                f"{_percent(r['spills'])} |"
                for r in rows
            ),
        ]
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    main()
