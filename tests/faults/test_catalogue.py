"""The catalogue of faults: each number has a test that says it, wherever it stands."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CLIENTS, SIGNALS, TEMPLATES, LOGS, DESCRIPTORS = range(20, 35), (35, 36), (41,), (42,), (44,)
NUMBERS = (*CLIENTS, *SIGNALS, *TEMPLATES, *LOGS, *DESCRIPTORS)
"""Of this part of the catalogue: clients and their inputs, signals, templates, logs, descriptors."""


@cache
def said(folder: Path) -> dict[int, list[str]]:
    """Fault → the tests whose own words begin with its number: "Fault 22: ...", "Faults 32 and 33: ..."."""
    found: dict[int, list[str]] = {}
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                begun = re.match(r"Faults? ([\d, and]+)", ast.get_docstring(node) or "")
                for number in re.findall(r"\d+", begun[1]) if begun else ():
                    found.setdefault(int(number), []).append(f"{file.name}::{node.name}")
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_a_fault_has_a_test_that_says_its_number(number: int) -> None:
    assert said(TESTS).get(number)


def test_the_search_finds_no_number_that_nobody_says(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text('def test_one() -> None:\n    """Faults 3 and 5: both."""\n')
    assert said(tmp_path) == {3: ["test_x.py::test_one"], 5: ["test_x.py::test_one"]}
