"""Puts finished runs into results/memory.json and their tables into RESULTS.md. It measures nothing.

python -m benchmarks.memory table --bank FILE --weights FILE
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from safetensors import safe_open

from benchmarks.memory import curves
from benchmarks.memory.measure import student
from benchmarks.memory.weights import SEEDLING, read
from benchmarks.results import FOLDER, PAGE, machine
from inhouse.memory.router_store import SHIPPED

COLUMNS = (
    ("taught right", "taught wording"),
    ("unseen right", "unseen wording"),
    ("unseen wrong", "unseen, wrong"),
    ("noise right", "typos, case, filler"),
    ("noise wrong", "the same, wrong"),
    ("far invented", "invented: far"),
    ("near invented", "near"),
    ("look-alike invented", "look-alike"),
)
GOALS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "taught right": ("≥ 99.5", lambda x: x >= 99.5),
    "unseen right": ("≥ 98", lambda x: x >= 98),
    "unseen wrong": ("≤ 1", lambda x: x <= 1),
    "noise right": ("≥ 95", lambda x: x >= 95),
    "noise wrong": ("≤ 1", lambda x: x <= 1),
    "far invented": ("≤ 1", lambda x: x <= 1),
    "near invented": ("≤ 2", lambda x: x <= 2),
    "look-alike invented": ("≤ 5", lambda x: x <= 5),
}
NAMES = {
    "auto": "**memory, all ways together**",
    "exact": "memory, stored answer alone",
    "retrieval": "memory, records in the prompt alone",
    "expert": "memory, experts alone",
    "base": "the base, nothing taught",
    "lora": "LoRA",
    "abstain": 'LoRA with "I don\'t know" rows and replay',
    "full": "full tuning",
}


def write(bank: Path, weights: Path) -> None:
    """Both files' finished runs, as one page."""
    banks = [line for line in read(bank) if line["phase"] == "bank"]
    experts = [line for line in read(bank) if line["phase"] == "experts"]
    tuned = [line for line in read(weights) if line["phase"] == "report"]
    randoms = [line for line in (*read(bank), *read(weights)) if line["phase"] == "random"]
    searched = [line for line in read(weights) if line["phase"] == "search"]
    found = {
        "machine": machine(),
        "bank": banks,
        "experts": experts,
        "weights": [_lean(line) for line in tuned],
        "random": [_lean(line) for line in randoms],
        "search": [_lean(line) for line in searched],
        "wordings": [line for line in read(bank) if line["phase"].startswith("wordings")],
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "memory.json").write_text(json.dumps(_rounded(found), indent=1) + "\n", encoding="utf-8")
    (FOLDER / "memory-curves.svg").write_text(curves.picture(banks, tuned, router_curve()), encoding="utf-8")
    shown = "\n\n".join(
        [
            _recall([*banks, *experts], tuned),
            "![Recall over CPU-seconds of learning](results/memory-curves.svg)",
            _costs(banks),
            _wordings(found["wordings"]),
            _randoms(randoms),
        ]
    )
    page = PAGE.read_text(encoding="utf-8")
    place = re.compile(r"(<!-- memory: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    page, places = place.subn(lambda m: f"{m[1]}{shown}\n{m[2]}", page)
    assert places == 1, f"RESULTS.md has {places} places for memory; it needs one"
    PAGE.write_text(page, encoding="utf-8")
    print(shown)


def router_curve() -> list[dict[str, float]]:
    """How the embedded base's router learnt: seconds, loss and recall of relations it had not seen."""
    with safe_open(SEEDLING / SHIPPED, framework="pt") as opened:
        notes = json.loads(opened.metadata()["router"])
    curve: list[dict[str, float]] = notes["about"]["curve"]
    return curve


def _recall(banks: Sequence[Mapping[str, Any]], tuned: Sequence[Mapping[str, Any]]) -> str:
    goals = " | ".join(f"goal {GOALS[key][0]}" for key, _ in COLUMNS)
    lines = [
        "| N | method | seeds | " + " | ".join(name for _, name in COLUMNS) + " |",
        "|" + "---|" * (len(COLUMNS) + 3),
        f"| | | | {goals} |",
    ]
    for n in sorted({line["n"] for line in (*banks, *tuned)}):
        rows: list[tuple[str, list[Mapping[str, Any]]]] = []
        mine = [line for line in banks if line["n"] == n]
        for way in ("auto", "exact", "retrieval", "expert"):
            rows.append((way, [line[way]["rows"] for line in mine if way in line]))
        for method in ("base", "lora", "abstain", "full"):
            rows.append((method, [t["rows"] for t in tuned if (t["n"], t["method"]) == (n, method)]))
        for name, tables in rows:
            if tables:
                cells = [
                    _cell([100 * t[key]["share"] for t in tables], key, name == "auto") for key, _ in COLUMNS
                ]
                lines.append(f"| {n} | {NAMES[name]} | {len(tables)} | " + " | ".join(cells) + " |")
    return "Percent; means over seeds with Student's 95 % intervals.\n\n" + "\n".join(lines)


def _cell(values: Sequence[float], key: str, is_judged: bool) -> str:
    middle, low, high = student(values)
    text = f"{middle:.1f}" if len(values) < 2 else f"{middle:.1f} ±{(high - low) / 2:.1f}"
    return text + (": met" if GOALS[key][1](middle) else ": **missed**") if is_judged else text


def _costs(banks: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| N | index, CPU-s | distinct keys | bytes of keys a fact | routing, CPU-ms a request "
        "| general prompts untouched "
        "| same reply as without | 1 % edited: new answers | old answers | forgotten answers | others changed |",
        "|" + "---|" * 11,
    ]
    for n in sorted({line["n"] for line in banks}):
        mine = [line for line in banks if line["n"] == n]

        def total(key: str, mine: Sequence[Mapping[str, Any]] = mine) -> str:
            return f"{sum(line[key][0] for line in mine)} of {sum(line[key][1] for line in mine)}"

        general = [line["general"] for line in mine]
        of = sum(g["of"] for g in general)
        lines.append(
            f"| {n} | {mean(line['index_cpu_s'] for line in mine):.2f} | {mean(line['keys'] for line in mine):.0f} "
            f"| {mean(line['key_bytes'] for line in mine) / n:.0f} | {mean(line['route_ms'] for line in mine):.2f} "
            f"| {sum(g['untouched'] for g in general)} of {of} | {sum(g['same_reply'] for g in general)} of {of} "
            f"| {total('new_answers')} | {total('old_answers')} | {total('forgotten_answers')} "
            f"| {total('others_changed')} |"
        )
    return "\n".join(lines)


def _wordings(lines: Sequence[Mapping[str, Any]]) -> str:
    shown = [key for key, _ in COLUMNS]
    head = "| wordings in the bank (N = 100, seed 1) | " + " | ".join(name for _, name in COLUMNS) + " |"
    rows = [
        f"| {line['phase'].split()[1]} | " + " | ".join(f"{100 * line['rows'][k]:.1f}" for k in shown) + " |"
        for line in lines
    ]
    return "\n".join([head, "|" + "---|" * (len(shown) + 1), *rows])


def _randoms(randoms: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for line in randoms:
        if "right" in line:
            parts.append(f"memory {line['right']} of {line['of']}")
        else:
            share = line["rows"]["taught right"]
            parts.append(
                f"{NAMES[line['method']]} {share['hits']} of {share['total']} in {line['cpu_s']:.0f} CPU-s"
            )
    return "1,000 answers of 32 random characters, asked as taught: " + "; ".join(parts) + "."


def _lean(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in ("failures", "details")}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items() if key != "details"}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
