"""The table of faults says what is tested, and nothing that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import index

CURE = "Write the names anew: python -m tests.faults.index"


def test_each_fault_names_its_tests_or_says_why_it_has_none() -> None:
    found = index.problems(index.rows(index.TABLE.read_text(encoding="utf-8")), index.tests_by_number())
    assert found == [], CURE


def test_a_docstring_begins_with_its_numbers() -> None:
    assert index.numbers("Fault 13: a clock.") == [13]
    assert index.numbers("Faults 2 and 16: killed.") == [2, 16]
    assert index.numbers("Faults 1, 2, and 3: all.") == [1, 2, 3]
    assert index.numbers("Fault 36, and the control of 35: cut.") == [36]
    assert index.numbers("The control of fault 3.") == index.numbers("") == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (("| 2 |", "| 3 |"), "once, in order"),
        (("test_there", "test_gone"), "test_gone is not there"),
        (("`a/test_a.py::test_there`<br>", ""), "test_there is not named"),
        (("not automated: no device", "not automated: "), "neither a test nor why"),
        (("`a/test_a.py::test_there`<br>`a/test_a.py::test_two`", ""), "neither a test nor why"),
        (("not automated: no device", "`a/test_a.py::test_there`"), "is not there, or is not its"),
    ],
)
def test_a_table_that_is_not_true_is_found_out(
    harm: tuple[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: each kind of untruth, planted."""
    monkeypatch.setattr(index, "NUMBERS", range(1, 3))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "test_a.py").write_text(
        'def test_there():\n    """Fault 1: x."""\n\n\ndef test_two():\n    """Fault 1: y."""\n'
    )
    tests = index.tests_by_number(tmp_path)
    bare = "# Faults\n\n| 1 | a fault | ends |  |\n| 2 | another | goes on | not automated: no device |\n"
    page = index.written(bare, tests)
    assert index.problems(index.rows(page), tests) == []
    spoilt = page.replace(*harm)
    assert spoilt != page
    assert any(said in problem for problem in index.problems(index.rows(spoilt), tests))
