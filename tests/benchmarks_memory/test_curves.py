"""The picture of learning shows every run, where it was measured."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from benchmarks.memory import curves
from benchmarks.memory.table import router_curve


def run(method: str, n: int, cpu_s: float, taught: float) -> dict[str, Any]:
    curve = [
        {"cpu_s": cpu_s / 2, "taught": 0.0, "unseen": 0.0},
        {"cpu_s": cpu_s, "taught": taught, "unseen": 0.1},
    ]
    return {"method": method, "n": n, "cpu_s": cpu_s, "curve": curve}


def bank(n: int, unseen: float) -> dict[str, Any]:
    rows = {"taught right": {"share": 1.0}, "unseen right": {"share": unseen}}
    return {"n": n, "index_cpu_s": 1.0, "auto": {"rows": rows}}


def drawn(banks: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(colour, points) of every line."""
    picture = curves.picture(
        banks, tuned, [{"seconds": 5.0, "recall": 0.5}, {"seconds": 10.0, "recall": 0.9}]
    )
    lines = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}polyline")
    return [(line.attrib["stroke"], line.attrib["points"]) for line in lines]


def test_every_method_is_drawn_for_every_number_of_facts() -> None:
    tuned = [run(method, n, 40.0, 0.5) for method in ("lora", "full") for n in (100, 1000)]
    base = {"method": "base", "n": 100}  # it learns nothing, and has no curve
    lines = drawn([bank(100, 0.7), bank(1000, 0.6)], [*tuned, base])
    of_each = [colour for colour, _ in lines]
    assert of_each.count(curves.COLOURS["lora"]) == of_each.count(curves.COLOURS["memory"]) == 4
    assert of_each.count(curves.COLOURS["router"]) == 1


def test_a_line_ends_at_the_mean_of_its_runs() -> None:
    low, high = run("lora", 100, 40.0, 0.2), run("lora", 100, 40.0, 0.6)
    (_, taught), *_ = drawn([], [low, high])
    x, y = map(float, taught.split()[-1].split(","))
    assert x == curves.PANEL - 16 and abs(y - (curves.TOP + curves.PLOT * 0.6)) < 0.1


def test_the_shipped_router_tells_how_it_learnt() -> None:
    curve = router_curve()
    assert len(curve) > 3 and all(0 < at["recall"] < 1 and at["seconds"] > 0 for at in curve)
