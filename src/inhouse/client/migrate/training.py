"""A training file of OpenAI's, judged row by row: what is trained as it is, what changes, what cannot be trained.

It knows the few things that OpenAI allows in a row and that say nothing; all else is judged by `rows`, as every
training file is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

from inhouse.errors import MOST_PROBLEMS, RowProblem
from inhouse.rows.fields import BadRow
from inhouse.rows.formats import conversation
from inhouse.rows.reading import Item, items

Kind = Literal["supervised", "preference", "reinforcement", "batch"]

_PREFERENCE = frozenset({"preferred_output", "non_preferred_output", "chosen", "rejected"})
_SAYS_NOTHING_EMPTY = ("tools", "functions")


@dataclass(frozen=True, slots=True)
class Change:
    """A row that is trained in another form than it had, and what was done to it."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a look at every row of a file found. Lists hold at most MOST_PROBLEMS, counts count all."""

    path: Path
    kind: Kind
    rows: int
    """How many can be trained."""
    changed: tuple[Change, ...] = ()
    changed_count: int = 0
    problems: tuple[RowProblem, ...] = ()
    """Rows that cannot be trained, with the cure."""
    problem_count: int = 0
    formats: tuple[str, ...] = ()

    @property
    def is_sent_as_it_is(self) -> bool:
        return not self.changed_count and not self.problem_count


def judge(path: Path) -> Judged:
    """Reads a file through, in bounded memory."""
    kind: Kind = "supervised"
    changed: list[Change] = []
    problems: list[RowProblem] = []
    counts = {"rows": 0, "changed": 0, "problems": 0}
    formats: dict[str, None] = {}
    for number, found in enumerate(items(path)):
        if isinstance(found, Item) and number == 0:
            kind = kind_of(found.value)
        row = _row(found)
        if isinstance(row, RowProblem):
            counts["problems"] += 1
            problems += [row] if len(problems) < MOST_PROBLEMS else []
            continue
        counts["rows"] += 1
        formats[row.format] = None
        if row.change:
            counts["changed"] += 1
            changed += [row.change] if len(changed) < MOST_PROBLEMS else []
    if not counts["rows"] and not problems:
        problems = [
            RowProblem(
                1, None, "the file holds no rows.", "Give the file as OpenAI has it: download it again."
            )
        ]
        counts["problems"] = 1
    return Judged(
        path=path,
        kind=kind,
        rows=counts["rows"],
        changed=tuple(changed),
        changed_count=counts["changed"],
        problems=tuple(problems),
        problem_count=counts["problems"],
        formats=tuple(formats),
    )


def kind_of(row: Any) -> Kind:
    """What a file is for, told by its first row."""
    if not isinstance(row, Mapping):
        return "supervised"
    if _PREFERENCE & row.keys():
        return "preference"
    if {"custom_id", "url"} <= row.keys():
        return "batch"
    messages = row.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], Mapping):
        has_more = bool(row.keys() - {"messages", "tools", "parallel_tool_calls", "functions"})
        if messages[-1].get("role") in ("user", "developer", "system") and has_more:
            return "reinforcement"
    return "supervised"


def write_trainable(path: Path, target: Path) -> None:
    """The rows of a file that can be trained, in the form in which they are; written whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    with unfinished.open("wb") as stream:
        for found in items(path):
            row = _row(found)
            if not isinstance(row, RowProblem):
                stream.write(json.dumps(row.value, ensure_ascii=False).encode() + b"\n")
    unfinished.replace(target)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class _Good:
    value: Mapping[str, Any]
    format: str
    change: Change | None


def _row(found: Item | RowProblem) -> _Good | RowProblem:
    if isinstance(found, RowProblem):
        return found
    value, what = _mended(found.value)
    try:
        row = conversation(value)
    except BadRow as e:
        return RowProblem(found.line, e.field, e.reason, e.cure)
    return _Good(value, row.format, Change(found.line, "; ".join(what)) if what else None)


def _mended(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The row without what says nothing, and what that was."""
    mended, what = dict(row), []
    for name in _SAYS_NOTHING_EMPTY:
        if mended.get(name) == []:
            del mended[name]
            what.append(f"an empty {name} left out")
    if "parallel_tool_calls" in mended and not (mended.get("tools") or mended.get("functions")):
        del mended["parallel_tool_calls"]
        what.append("parallel_tool_calls left out, which says nothing without tools")
    messages = mended.get("messages")
    if isinstance(messages, list):
        empty = [
            i for i, turn in enumerate(messages) if isinstance(turn, Mapping) and turn.get("tool_calls") == []
        ]
        if empty:
            mended["messages"] = [
                {k: v for k, v in turn.items() if k != "tool_calls"} if i in empty else turn
                for i, turn in enumerate(messages)
            ]
            what.append("empty tool_calls left out")
    return (mended, what) if what else (row, [])
