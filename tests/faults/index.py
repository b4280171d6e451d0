"""The table of faults in docs/concepts/faults.md, and which tests stand behind each of its rows.

A test belongs to a fault when its docstring begins with the number: "Fault 13: ...", "Faults 2 and 16: ...".
`python -m tests.faults.index` writes the tests' names into the table; `tests/faults/test_index.py` checks them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "concepts" / "faults.md"
NUMBERS = range(1, 45)
NONE = "not automated: "
"""How a row without a test begins to say why it has none."""
_BELONGS = re.compile(r"Faults? (\d+(?:(?:, and |, | and )\d+)*)\b")
_ROW = re.compile(r"\| (\d+) \| (.+) \| (.+) \| (.*) \|")


@dataclass(frozen=True, slots=True)
class Row:
    """A fault: what it is, what happens, and the tests that show it."""

    number: int
    fault: str
    happens: str
    shown: str

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`([\w/]+\.py::\w+)`", self.shown)

    def __str__(self) -> str:
        return f"| {self.number} | {self.fault} | {self.happens} | {self.shown} |"


def numbers(docstring: str) -> list[int]:
    """The faults that a docstring begins with."""
    found = _BELONGS.match(docstring)
    return [] if found is None else [int(n) for n in re.findall(r"\d+", found[1])]


def tests_by_number(folder: Path = TESTS) -> dict[int, list[str]]:
    """For each fault the tests whose docstrings begin with it, as `faults/test_clock.py::test_name`."""
    found: dict[int, list[str]] = {}
    for name, docstring in _docstrings(folder):
        for number in numbers(docstring):
            found.setdefault(number, []).append(name)
    return found


def rows(text: str) -> list[Row]:
    """The table's rows, in its order."""
    matches = (_ROW.fullmatch(line) for line in text.splitlines())
    return [Row(int(m[1]), m[2], m[3], m[4]) for m in matches if m is not None]


def problems(table: list[Row], tests: dict[int, list[str]]) -> list[str]:
    """What the table says otherwise than the tests do; empty: it is true."""
    found = []
    by_number = {row.number: row for row in table}
    if [row.number for row in table] != [*NUMBERS]:
        found.append(f"the table has not each of {NUMBERS[0]} to {NUMBERS[-1]} once, in order")
    for number in NUMBERS:
        row = by_number.get(number)
        if row is None:
            continue
        there = tests.get(number, [])
        if not row.tests and not (row.shown.startswith(NONE) and len(row.shown) > len(NONE)):
            found.append(f"{number}: neither a test nor why there is none")
        found += [f"{number}: {name} is not there, or is not its" for name in row.tests if name not in there]
        found += [f"{number}: {name} is not named" for name in there if name not in row.tests]
    return found


def written(text: str, tests: dict[int, list[str]]) -> str:
    """The page with the tests that there are; a row without any keeps its words."""

    def filled(line: str) -> str:
        match = _ROW.fullmatch(line)
        if match is None or int(match[1]) not in tests:
            return line
        named = "<br>".join(f"`{name}`" for name in sorted(tests[int(match[1])]))
        return str(Row(int(match[1]), match[2], match[3], named))

    return "\n".join(map(filled, text.splitlines())) + "\n"


def _docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{file.relative_to(folder).as_posix()}::{node.name}", ast.get_docstring(node) or ""


def main() -> int:
    TABLE.write_text(written(TABLE.read_text(encoding="utf-8"), tests_by_number()), encoding="utf-8")
    for problem in (left := problems(rows(TABLE.read_text(encoding="utf-8")), tests_by_number())):
        sys.stderr.write(f"{problem}\n")
    return bool(left)


if __name__ == "__main__":
    sys.exit(main())
