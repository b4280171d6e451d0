"""Keeps a benchmark's numbers as JSON and as a table. It judges nothing: a goal stands beside what was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inhouse import device as devices

FOLDER = Path(__file__).with_name("results")
PAGE = Path(__file__).with_name("RESULTS.md")


def machine(*packages: str) -> dict[str, Any]:
    """What the numbers were taken on, with the versions of packages that matter to them."""
    device = devices.discover().devices[-1]
    return {
        "cpu": device.name,
        "matrix_unit": device.capabilities.matrix_unit,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "inhouse", *packages)},
    }


def command(module: str) -> str:
    """The command that is running, as one would type it; where a machine keeps its files is nobody else's matter."""
    arguments = (Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:])
    return " ".join([f"python -m {module}", *arguments])


def spread(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> dict[str, Any]:
    """Median and range of repeated measurements, beside the goal where there is one."""
    median = statistics.median(values)
    row: dict[str, Any] = {
        "what": name,
        "median": round(median, 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
        "repeats": len(values),
        "unit": unit,
    }
    if at_most is not None:
        row |= {"goal": f"at most {at_most:g} {unit}", "is_met": median <= at_most}
    if at_least is not None:
        row |= {"goal": f"at least {at_least:g} {unit}", "is_met": median >= at_least}
    return row


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def write(name: str, found: dict[str, Any]) -> None:
    """Keeps results/NAME.json, puts its table into RESULTS.md and prints it."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    shown = f"`{found['command']}`: {place(found['machine'])}\n\n{table(found)}"
    put(name, shown)
    print(shown)


def put(name: str, shown: str) -> None:
    """Puts text between a benchmark's two marks in RESULTS.md."""
    page = PAGE.read_text(encoding="utf-8")
    between = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    page, places = between.subn(lambda m: f"{m[1]}{shown}\n{m[2]}", page)
    assert places == 1, f"RESULTS.md has {places} places for {name}; it needs one"
    PAGE.write_text(page, encoding="utf-8")


def table(found: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = ["| what | median | range | repeats | goal |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        goal = f"{row['goal']}: {'met' if row['is_met'] else '**missed**'}" if "goal" in row else ""
        extent = f"{_short(row['least'])} to {_short(row['most'])}" if row["repeats"] > 1 else ""
        lines.append(
            f"| {row['what']} | {_short(row['median'])} {row['unit']} | {extent} | {row['repeats']} | {goal} |"
        )
    return "\n".join(lines)


def place(machine: dict[str, Any]) -> str:
    """The machine and versions, as a sentence."""
    versions = [f"{name} {at}" for name, at in machine.items() if name not in ("cpu", "matrix_unit", "cores")]
    return f"{machine['cpu']} ({machine['matrix_unit']}), {machine['cores']} cores; {', '.join(versions)}."


def _short(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
