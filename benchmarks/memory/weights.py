"""The rivals that tune weights, each with an equal budget of CPU-seconds and an equal search; resumable by runs.

    python -m benchmarks.memory weights --corpus FILE --out FILE [--n 100] [--only lora]

Every finished run is one JSON line of the output file; what stands there is not run again. The search (three tries
a method at N = 100, on seeds that are not reported) goes first; its choice is taken for every N. One thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.memory.measure import student
from benchmarks.memory.rivals import METHODS, Base, Plan, run

SEEDLING = Path(__file__).parents[2] / "src/inhouse/bases/seedling"
SEARCH_SEEDS = (1,)
REPORT_SEEDS = (11, 12, 13)
BUDGET_CPU_S = {100: 60.0, 1000: 180.0}
TRIES: dict[str, tuple[tuple[float, int], ...]] = {
    "lora": ((1.5e-3, 16), (4e-3, 16), (4e-3, 32)),
    "abstain": ((1.5e-3, 16), (4e-3, 16), (4e-3, 32)),
    "full": ((1.5e-4, 0), (5e-4, 0), (1.5e-3, 0)),
}
"""(rate, rank): three for each method."""
MANY = 1000
"""The larger bank, and that of the paper's own test: answers of 32 random characters."""
KEY = ("phase", "method", "n", "seed", "rate", "rank")


def weights(corpus: Path, out: Path, *, sizes: Sequence[int] = (), only: str | None = None) -> None:
    """Runs what is not in `out` yet, and says what each run came to."""
    torch.set_num_threads(1)
    base = Base(SEEDLING, corpus, out.parent / "memory-pieces")
    methods = [only] if only else ["base", *METHODS]
    for plan in plans(out, methods, sizes or tuple(BUDGET_CPU_S)):
        line = run(plan, base)
        append(out, line)
        print(_sentence(line), flush=True)


def append(out: Path, line: dict[str, Any]) -> None:
    """Adds a finished run, on a line of its own even behind one that was cut off."""
    is_torn = out.is_file() and out.stat().st_size and not out.read_bytes().endswith(b"\n")
    with out.open("a", encoding="utf-8") as f:
        f.write(("\n" if is_torn else "") + json.dumps(line) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """The runs that are finished. A line cut off by a kill is no run."""
    lines = []
    for text in out.read_text(encoding="utf-8").splitlines() if out.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def plans(out: Path, methods: Sequence[str], sizes: Sequence[int]) -> Iterator[Plan]:
    """What is left to do, the search first; each is decided when its turn comes."""
    tuned = [method for method in methods if method != "base"]
    for seed in SEARCH_SEEDS:
        for turn in range(3):
            for method in tuned:
                rate, rank = TRIES[method][turn]
                yield from _unless_done(out, Plan("search", method, 100, seed, rate, rank, BUDGET_CPU_S[100]))
    # Seed by seed, so that what is finished early says something about everything.
    for seed in REPORT_SEEDS if 100 in sizes else ():
        yield from _reported(out, methods, "report", 100, seed)
    for seed in REPORT_SEEDS if MANY in sizes else ():
        yield from _reported(out, methods, "report", MANY, seed)
    if MANY in sizes:
        yield from _reported(out, tuned, "random", MANY, REPORT_SEEDS[0])


def _reported(out: Path, methods: Sequence[str], phase: str, n: int, seed: int) -> Iterator[Plan]:
    for method in methods:
        rate, rank = (0.0, 0) if method == "base" else choice(read(out), method)
        budget = 0.0 if method == "base" else BUDGET_CPU_S[n]
        yield from _unless_done(out, Plan(phase, method, n, seed, rate, rank, budget))


def _unless_done(out: Path, plan: Plan) -> Iterator[Plan]:
    if not any(all(line[k] == getattr(plan, k) for k in KEY) for line in read(out)):
        yield plan


def choice(lines: Sequence[dict[str, Any]], method: str) -> tuple[float, int]:
    """(rate, rank) with the best mean score over the search seeds."""
    scores: dict[tuple[float, int], list[float]] = {}
    for line in lines:
        if line["phase"] == "search" and line["method"] == method:
            scores.setdefault((line["rate"], line["rank"]), []).append(score(line))
    return max(scores, key=lambda tried: mean(scores[tried]))


def score(line: dict[str, Any]) -> float:
    """What the search goes by, the same for all: recall in taught and in unseen wordings, and not inventing."""
    return _share(line, "taught right") + _share(line, "unseen right") + 1 - mean(_inventions(line))


def _inventions(line: dict[str, Any]) -> list[float]:
    return [_share(line, f"{group} invented") for group in ("far", "near", "look-alike")]


def _share(line: dict[str, Any], row: str) -> float:
    return float(line["rows"][row]["share"])


def _sentence(line: dict[str, Any]) -> str:
    rows = ", ".join(f"{name} {row['share']:.3f}" for name, row in line["rows"].items())
    return (
        f"{line['phase']} {line['method']} n={line['n']} seed={line['seed']} rate={line['rate']} rank={line['rank']}: "
        f"{line.get('cpu_s', 0)} CPU-s, {line['wall_s']} s wall, {line.get('steps', 0)} steps; {rows}; "
        f"perplexity {line['perplexity']}"
    )


SHOWN = (
    "taught right",
    "unseen right",
    "taught wrong",
    "unseen wrong",
    "unseen abstained",
    "noise right",
    "noise wrong",
    "far invented",
    "near invented",
    "look-alike invented",
)


def summary(out: Path) -> str:
    """The reported runs as Markdown: means over seeds with Student's 95 % intervals, in percent."""
    lines = read(out)
    tables = []
    for phase, shown in (("report", SHOWN), ("random", ("taught right", "taught wrong"))):
        head = ["method", "N", "seeds", *shown, "perplexity", "CPU-s", "epochs"]
        tables.append(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)])
        groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for line in lines:
            if line["phase"] == phase:
                groups.setdefault((line["n"], line["method"]), []).append(line)
        for (n, method), found in sorted(groups.items()):
            cells = [method, str(n), str(len(found))]
            cells += [_interval([100 * _share(line, row) for line in found]) for row in shown]
            cells.append(_interval([line["perplexity"] for line in found]))
            cells += [f"{mean(line.get(key, 0) for line in found):.1f}" for key in ("cpu_s", "epochs")]
            tables[-1].append("| " + " | ".join(cells) + " |")
    chosen = [f"{m}: rate, rank = {choice(lines, m)}" for m in METHODS if _is_searched(lines, m)]
    return "\n\n".join(
        ["\n".join(table) for table in tables] + ["Chosen by the search: " + "; ".join(chosen)]
    )


def _is_searched(lines: Sequence[dict[str, Any]], method: str) -> bool:
    return any(line["phase"] == "search" and line["method"] == method for line in lines)


def _interval(values: Sequence[float]) -> str:
    middle, low, high = student(values)
    return f"{middle:.1f}" if len(values) < 2 else f"{middle:.1f} ±{(high - low) / 2:.1f}"
