"""The journal as one JSON and one table: ours beside the limit and the best peer, with what was missed left in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import spread
from benchmarks.serve import checkpoints, environments
from benchmarks.serve.arms import KINDS
from benchmarks.serve.journal import Journal
from benchmarks.serve.limits import Limits
from benchmarks.serve.rows import OURS, Goal, Row

FIGURES = {
    "decode": "tokens decoded",
    "prefill": "prompt tokens read",
    "whole": "tokens, prompts included in the time",
    "first_p50": "seconds to the first token, p50",
    "first_p99": "seconds to the first token, p99",
    "head_p50": "seconds to the first token, p50, the adapters asked for most",
    "tail_p50": "seconds to the first token, p50, the rarer half",
    "valid": "share of the replies that ended which follow the schema",
    "ended": "share of replies that ended within their tokens",
    "cold_ms": "ms more than resident, adapter never seen",
    "host_ms": "ms more than resident, adapter on the host",
    "resident_ms": "ms more than the base, adapter resident",
    "stall_ms": "ms by which the longest step of others grows",
    "start_s": "seconds to the first token",
    "peak_mb": "MB of memory at most",
    "torch_mb": "MB of packages, torch's",
    "others_mb": "MB of packages, the others",
}
LESS_IS_BETTER = {name for name in FIGURES if name.endswith(("_p50", "_p99", "_ms", "_s", "_mb"))}


class Found:
    """What the journal says about some rows, in the words of the table."""

    def __init__(self, journal: Journal, rows: Iterable[Row]) -> None:
        self._journal = journal
        self._rows = {row.key: row for row in rows}

    def lines(self) -> list[dict[str, Any]]:
        """One for each figure of each row that we were measured in, or are absent from."""
        return [
            self._line(row, figure)
            for row in self._rows.values()
            for figure in row.figures
            if any(self._values(row, engine, figure) for engine in row.engines)
        ]

    def absences(self) -> list[dict[str, str]]:
        """Which engine is not in which rows, and why."""
        found = []
        for row in self._rows.values():
            for engine in row.engines:
                reason = self._journal.absent(row.key, engine)
                if reason is not None:
                    found.append({"row": row.key, "engine": engine, "reason": reason})
        return found

    def gates(self) -> list[dict[str, Any]]:
        """What the gate found of each engine in each row."""
        found = []
        for row in self._rows.values():
            for engine in row.engines:
                gate = self._journal.gate(row.key, engine)
                if gate is not None:
                    found.append({"row": row.key, "engine": engine, **gate})
        return found

    def _line(self, row: Row, figure: str) -> dict[str, Any]:
        engines = {
            engine: spread(engine, values, "")
            for engine in row.engines
            if (values := self._values(row, engine, figure))
        }
        best = self._best(row, figure)
        limit = self._limit(row, figure)
        ours = self._values(row, OURS, figure)
        line: dict[str, Any] = {"row": row.key, "what": row.what, "figure": figure, "engines": engines}
        line["limit"], line["best"] = limit, best
        done = [repeat for engine in engines for repeat in self._journal.repeats(row.key, engine)]
        line["sittings"] = len({repeat.get("sitting") for repeat in done})
        line["noisy"] = [
            e for e in engines if not all(r["is_quiet"] for r in self._journal.repeats(row.key, e))
        ]
        if ours and limit:
            line["share"] = median(ours) / limit
        if ours and best and (ratios := _ratios(ours, self._values(row, best, figure))):
            line["ratio"] = spread("ratio", ratios, "")
        line["goals"] = [
            judged
            for goal in row.goals
            if goal.figure == figure
            if (judged := self._judge(row, goal, ours, best))
        ]
        return line

    def _judge(self, row: Row, goal: Goal, ours: list[float], best: str | None) -> dict[str, Any] | None:
        """A goal with what was reached; None where there is nothing to hold it against."""
        if not ours:
            return None
        over: list[float]
        if goal.over == "":
            over, against = [1.0], ""
        elif goal.over == "limit":
            limit = self._limit(row, goal.figure)
            over, against = [limit] if limit else [], "of the limit"
        elif goal.over in self._rows:
            over, against = self._values(self._rows[goal.over], OURS, goal.figure), f"of {goal.over}"
        else:
            peer = best if goal.over == "peer" else goal.over
            over, against = self._values(row, peer, goal.figure) if peer else [], f"times {peer}"
        if not over:
            return None
        reached = median(ours) / median(over)
        is_met = reached >= goal.least if goal.least is not None else reached <= (goal.most or 0.0)
        bound = f"at least {goal.least:g}" if goal.least is not None else f"at most {goal.most:g}"
        return {"goal": f"{bound} {against}".strip(), "reached": reached, "is_met": is_met}

    def _values(self, row: Row, engine: str, figure: str) -> list[float]:
        gate = self._journal.gate(row.key, engine)
        if gate is not None and not gate["is_passed"]:
            return []
        done = self._journal.repeats(row.key, engine)
        return [entry["figures"][figure] for entry in done if figure in entry["figures"]]

    def _best(self, row: Row, figure: str) -> str | None:
        """The best peer; where the row says so, variants on our own decoder are peers."""
        medians = {
            engine: median(values)
            for engine in row.engines
            if not KINDS[engine].is_ours
            and (row.counts_variants or not KINDS[engine].is_variant)
            and (values := self._values(row, engine, figure))
        }
        if not medians:
            return None
        return (min if figure in LESS_IS_BETTER else max)(medians, key=lambda engine: medians[engine])

    def _limit(self, row: Row, figure: str) -> float | None:
        """What the machine allows for a figure, by what was measured beside the row."""
        found = self._journal.about(row.key, "limits")
        if found is None or figure not in ("decode", "prefill") or row.load.schema is not None:
            return None
        limits, shape, load = Limits(**found), checkpoints.SHAPES[row.load.base], row.load
        if figure == "prefill":
            return limits.prefill(shape, load.shared + load.prompt)
        ranks = [load.ranks[i % len(load.ranks)] for i in range(load.adapters)]
        middle = load.shared + load.prompt + load.new // 2
        batch = min(load.requests, row.opened.get("max_running", 32))
        return limits.decode(shape, row.precision, batch, middle, ranks)


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Repeat by repeat as far as both go; an engine that was measured less often is compared by its median. None where
    theirs is nothing, or less, as a difference of times may be."""
    if min(theirs) <= 0:
        return []
    if len(ours) == len(theirs):
        return [a / b for a, b in zip(ours, theirs, strict=True)]
    return [a / median(theirs) for a in ours]


def versions(folder: Path, rows: Iterable[Row]) -> dict[str, dict[str, str]]:
    """Of the peers whose environments are there."""
    found = {}
    for name in {KINDS[engine].environment for row in rows for engine in row.engines} - {None}:
        python = folder / "envs" / str(name) / "bin" / "python"
        if python.exists():
            found[str(name)] = environments.versions(python)
    return dict(sorted(found.items()))


def markdown(found: dict[str, Any]) -> str:
    """The table, and below it who is absent and what the gate found."""
    lines = [
        "| row | figure | limit | house | best peer | ratio | goal | others |",
        "|---|---|---|---|---|---|---|---|",
        *map(_markdown_line, found["lines"]),
    ]
    if found["absences"]:
        lines += ["", "Not there:", ""]
        reasons: dict[tuple[str, str], list[str]] = {}
        for absence in found["absences"]:
            reasons.setdefault((absence["engine"], absence["reason"]), []).append(absence["row"])
        lines += [f"- {engine} in {', '.join(rows)}: {reason}" for (engine, reason), rows in reasons.items()]
    failed = [gate for gate in found["gates"] if not gate["is_passed"]]
    judged = sum(gate["tokens"] for gate in found["gates"])
    others = sum(gate["others"] for gate in found["gates"])
    lines += [
        "",
        f"The gate looked at {judged} tokens; {others} were not the likeliest of the float32 reference.",
    ]
    lines += [
        f"**{gate['engine']} fails it in {gate['row']}**: up to {gate['worst']:.2f} of the logits' spread below, on "
        f"average {gate['mean']:.2f}; its figures are left out."
        for gate in failed
    ]
    return "\n".join(lines)


def _markdown_line(line: dict[str, Any]) -> str:
    engines = line["engines"]

    def shown(name: str | None) -> str:
        if name is None or name not in engines:
            return ""
        row = engines[name]
        mark = " (not alone)" if name in line["noisy"] else ""
        extent = (
            f" ({short(row['least'])} to {short(row['most'])}, {row['repeats']})"
            if row["repeats"] > 1
            else ""
        )
        return f"{short(row['median'])}{extent}{mark}"

    ours = shown(OURS) + (f", {line['share']:.0%} of the limit" if "share" in line else "")
    best = f"{line['best']}: {shown(line['best'])}" if line["best"] else ""
    others = "; ".join(
        f"{name} {short(row['median'])}" for name, row in engines.items() if name not in (OURS, line["best"])
    )
    ratio = ""
    if "ratio" in line:
        ratio = f"{short(line['ratio']['median'])} ({short(line['ratio']['least'])} to {short(line['ratio']['most'])})"
    goals = "; ".join(
        f"{goal['goal']}: {short(goal['reached'])}, {'met' if goal['is_met'] else '**missed**'}"
        for goal in line["goals"]
    )
    limit = short(line["limit"]) if line["limit"] else ""
    what = f"{line['row']}: {line['what']}"
    if line["sittings"] > 1:
        what += f" ({line['sittings']} sittings)"
    return (
        f"| {what} | {FIGURES[line['figure']]} | {limit} | {ours} | {best} | {ratio} | {goals} | {others} |"
    )


def short(value: float) -> str:
    """Three digits, or all of those before the point."""
    if math.isnan(value):
        return "no number"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def profile_table(profile: dict[str, Any]) -> str:
    """Where the time of a run went."""
    total = profile["s"]
    lines = ["Where the time of our own run goes:", "", "| function | share | calls |", "|---|---|---|"]
    lines += [f"| `{e['what']}` | {e['s'] / total:.1%} | {e['calls']} |" for e in profile["top"]]
    left = max(0.0, total - sum(e["s"] for e in profile["top"]))
    return "\n".join([*lines, f"| all others | {left / total:.1%} | |"])


def dump(found: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
