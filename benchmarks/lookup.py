"""What prompt look-up saves on real text: the embedded base, one conversation at a time, with guesses and without.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.lookup [--repeats 6] [--write]

Three kinds of text. *Chat*: the examples' questions, which say nothing twice. *Fields*: a sentence and a JSON schema
whose field names the grammar forces. *Passages*: passages of this repository's own documents, gone on with from
their first half: prose that repeats names and phrases as prose does. Replies are greedy and the same either way; that
is checked. Both ways take turns, each first in every other repeat, every prompt is read whole, and the figure is tokens
a CPU-second, reading included.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from statistics import median
from typing import Any

import torch

from benchmarks import results
from benchmarks.generate import EXAMPLES, bare_engine, questions
from inhouse.engine.engine import Engine
from inhouse.schema import EngineRequest, Message, Sampling, Structure

ROOT = EXAMPLES.parent
SCHEMA = {
    "type": "object",
    "properties": {
        "question_asked": {"type": "string", "maxLength": 60},
        "department": {"enum": ["tickets", "timetable", "luggage", "vehicles", "other"]},
        "is_urgent": {"type": "boolean"},
    },
    "required": ["question_asked", "department", "is_urgent"],
    "additionalProperties": False,
}


def chats(count: int) -> list[dict[str, Any]]:
    return [{"messages": (Message(role="user", content=text),)} for text in questions(count)]


def fields(count: int) -> list[dict[str, Any]]:
    structure = Structure(param="structured_outputs", json_schema=SCHEMA)
    return [one | {"structure": structure} for one in chats(count)]


def passages(count: int) -> list[dict[str, Any]]:
    texts = [(ROOT / name).read_text() for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md")]
    found = (p for text in texts for p in text.split("\n\n") if 400 <= len(p) <= 1200)
    return [{"prompt": p[: len(p) // 2]} for p in islice(found, count)]


KINDS = {"chat": chats, "fields": fields, "passages": passages}


def served(engine: Engine, asked: list[dict[str, Any]], run: str) -> tuple[float, list[list[int]]]:
    """CPU seconds, and every reply's tokens."""
    made: list[list[int]] = []
    began = time.process_time()
    for i, one in enumerate(asked):
        call = EngineRequest(id=f"{run}-{i}", sampling=Sampling(temperature=0, max_new_tokens=64), **one)
        request = engine.intake.prepare(call, call.id)
        engine.add(request)
        while engine.has_work:
            engine.step()
        choice = request.choices[0]
        made.append(choice.tokens[choice.prompt_length :])
    return time.process_time() - began, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Repeats would find their prompts read.
    engines = {way: bare_engine(lookup=way, reuses_prefixes=False) for way in ("off", "on")}
    lines = [
        "| text | tokens a CPU-second without | with look-up | ratio | steps saved | guesses right |",
        "|---|---|---|---|---|---|",
    ]
    for kind, make in KINDS.items():
        asked = make(options.count)
        speeds: dict[str, list[float]] = {way: [] for way in engines}
        for repeat in range(-1, options.repeats):
            replies = {}
            before = {way: dict(one.stats) for way, one in engines.items()}
            for way in sorted(engines, reverse=bool(repeat % 2)):
                one = engines[way]
                cpu_s, replies[way] = served(one, asked, f"{kind}{repeat}")
                if repeat >= 0:
                    speeds[way].append(sum(map(len, replies[way])) / cpu_s)
            assert replies["on"] == replies["off"], "guesses changed a reply"
        told = {
            way: {name: one.stats[name] - before[way].get(name, 0) for name in one.stats}
            for way, one in engines.items()
        }
        guessed, right = (told["on"][f"{name}_total"] for name in ("guessed_tokens", "right_guesses"))
        ratios = [a / b for a, b in zip(speeds["on"], speeds["off"], strict=True)]
        saved = 1 - told["on"]["steps_total"] / told["off"]["steps_total"]
        lines.append(
            f"| {kind} | {median(speeds['off']):.0f} | {median(speeds['on']):.0f} | {median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {saved:.0%} | {right:.0f} of {guessed:.0f} |"
        )
    shown = "\n".join(lines)
    if options.write:
        place = results.place(results.machine())
        results.put("lookup", f"`{results.command('benchmarks.lookup')}`: {place}\n\n{shown}")
    print(shown)


if __name__ == "__main__":
    main()
