"""A memory's report, as a page and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from inhouse.client.report import report_markdown, report_picture_svg

from .scripted import scripted
from .test_facts import FACT, facts_of, ok

REPORT: dict[str, Any] = {
    "base": "seedling",
    "facts": 1000,
    "wordings": 3000,
    "seconds": {"reading": 1.25, "keys": 20.0},
    "bytes_per_fact": 812,
    "taught": {"right": 1000, "wrong": 0, "refused": 0, "of": 1000},
    "unseen": {"right": 9999, "wrong": 1, "refused": 0, "of": 10000},
    "noisy": {"right": 950, "wrong": 10, "refused": 40, "of": 1000},
    "unknown": {
        "far": {"invented": 0, "of": 500},
        "near": {"invented": 5, "of": 500},
        "look_alike": {"invented": 20, "of": 500},
    },
    "general": {"untouched": 400, "of": 400},
    "experts": None,
    "retrieval_only": [
        {"id": "fact_1", "reason": "two facts | ask the same"},
        {"id": "fact_2", "reason": "r"},
    ],
    "curve": [{"seconds": s, "loss": 2.1 / (s + 1), "recall": s / 20} for s in range(21)],
    "made_at": 1750000000,
}


def test_the_page_has_every_table_with_counts() -> None:
    page = report_markdown(REPORT, model="ft:m", questions={"fact_1": "Who\nsigns?"}, picture="report.svg")
    assert page.startswith(
        "# ft:m: what it recalls\n\n1,000 facts, 3,000 wordings, base `seedling`, made 2025-"
    )
    assert "| taught wordings | 1,000 (100.0 %) | 0 (0.0 %) | 0 (0.0 %) | 1000 |" in page
    assert "| noisy wordings | 950 (95.0 %) | 10 (1.0 %) | 40 (4.0 %) | 1000 |" in page
    assert "| a known name, asked what it was not taught | 5 (1.0 %) | 500 |" in page
    assert "400 (100.0 %) of 400 were left to the base as they are." in page
    assert "| bytes a fact | 812 |" in page
    assert r"| `fact_1` | Who signs? | two facts \| ask the same |" in page
    assert "| `fact_2` | (forgotten since) | r |" in page
    assert "![Recall and loss over time](report.svg)" in page
    assert "## Experts" not in page


def test_a_share_is_never_rounded_up_to_all_nor_down_to_none() -> None:
    assert "| unseen wordings | 9,999 (over 99.9 %) | 1 (under 0.1 %) |" in report_markdown(REPORT)


def test_what_was_not_measured_is_said_and_not_invented() -> None:
    page = report_markdown({"facts": 2})
    assert "Not measured." in page
    assert "%" not in page
    assert "None: each one is." in page
    assert report_picture_svg({}).count("not measured") == 2


def test_the_picture_is_one_well_formed_file_with_two_curves_and_labelled_axes() -> None:
    picture = report_picture_svg(REPORT)
    root = ElementTree.fromstring(picture)
    space = {"s": "http://www.w3.org/2000/svg"}
    curves = root.findall("s:polyline", space)
    assert [c.get("class") for c in curves] == ["recall", "loss"]
    assert all(len((c.get("points") or "").split()) == 21 for c in curves)
    texts = [t.text for t in root.findall("s:text", space)]
    assert texts.count("CPU seconds") == 2 and {"0 %", "100 %", "0", "2.5"} <= set(texts)
    assert "prefers-color-scheme: dark" in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_higher_recall_is_drawn_higher_and_points_stay_inside() -> None:
    root = ElementTree.fromstring(report_picture_svg(REPORT))
    for curve in root.findall("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, p.split(","))) for p in (curve.get("points") or "").split()]
        assert all(0 <= x <= 720 and 44 <= y <= 224 for x, y in points)
        rises = points[-1][1] < points[0][1]
        assert rises == (curve.get("class") == "recall")


def test_numbers_that_are_none_are_left_out_of_the_picture() -> None:
    curve = [
        {"seconds": 0.0, "loss": None, "recall": 0.5},
        {"seconds": 1.0, "loss": float("nan"), "recall": 1.0},
    ]
    picture = report_picture_svg({"curve": curve, "facts": 1})
    assert "nan" not in picture and picture.count("not measured") == 1


def test_save_report_writes_page_numbers_and_picture_with_the_questions(tmp_path: Path) -> None:
    missing = b'{"error": {"message": "No.", "code": "resource_not_found"}}'
    with scripted(ok(REPORT), ok(FACT), (404, {}, missing)) as script:
        paths = facts_of(script).save_report(tmp_path / "out")
    assert [p.name for p in paths] == ["report.md", "report.json", "report.svg"]
    assert "Who signs off travel?" in paths[0].read_text() and "(forgotten since)" in paths[0].read_text()
    assert json.loads(paths[1].read_text()) == REPORT
    assert paths[2].read_text().startswith("<svg")
