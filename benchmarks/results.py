"""Writes a benchmark's numbers as JSON and as a table. It judges nothing: a goal stands beside what was measured."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from inhouse import device as devices

FOLDER = Path(__file__).with_name("results")


def machine() -> dict[str, object]:
    """What the numbers were taken on."""
    device = devices.discover().devices[-1]
    return {
        "cpu": device.name,
        "matrix_unit": device.capabilities.matrix_unit,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "inhouse": version("inhouse"),
    }


def spread(name: str, values: Sequence[float], unit: str, goal: str | None = None) -> dict[str, object]:
    """Median, 95th percentile and range of repeated measurements."""
    ordered = sorted(values)
    return {
        "what": name,
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3),
        "least": round(ordered[0], 3),
        "most": round(ordered[-1], 3),
        "repeats": len(ordered),
        "unit": unit,
        "goal": goal,
    }


def write(name: str, found: dict[str, object]) -> None:
    """Keeps results/NAME.json and prints the table."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(found))


def table(found: dict[str, object]) -> str:
    """The rows as Markdown."""
    lines = ["| what | median | p95 | range | repeats | goal |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:  # type: ignore[attr-defined]
        goal = f"at most {row['goal']} {row['unit']}" if row["goal"] else ""
        lines.append(
            f"| {row['what']} | {row['median']} {row['unit']} | {row['p95']} | {row['least']} to {row['most']} "
            f"| {row['repeats']} | {goal} |"
        )
    return "\n".join(lines)
