"""One training row in its canonical shape, and how it is written down.

It knows nothing of the formats that rows come in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from inhouse.schema import Message

NAMES = {"system": "system", "user": "question", "assistant": "answer"}
"""What a message of each role is called where a row is a question with its answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation that ends in a reply, and the line (or row number, from 1) it came from.

    Every message's content is a string; only assistant messages may carry a weight.
    """

    line: int
    messages: tuple[Message, ...]
    format: str = "messages"
    """The name of the shape it came in, one of rows.FORMATS."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """What else it says of a fact, as rows.FACT_LABELS names it: for a memory, never trained on."""

    def to_object(self) -> dict[str, Any]:
        """The row as canonical JSON: {"messages": [...]}, absent fields left out.

        One that says more of a fact keeps that, in the shape that may: {"question", "answer", ...}.
        """
        if self.labels:
            texts = {NAMES[m.role]: m.text for m in self.messages}
            return {**texts, **self.labels}
        return {"messages": [m.model_dump(exclude_none=True, exclude_defaults=True) for m in self.messages]}

    def to_line(self) -> bytes:
        """The row as one line of canonical JSONL, newline included."""
        text = json.dumps(self.to_object(), ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"


def write_jsonl(rows: Iterable[Row], target: Path | BinaryIO) -> int:
    """Write canonical JSONL, a row a line; returns how many rows were written."""
    if isinstance(target, Path):
        with target.open("wb") as stream:
            return write_jsonl(rows, stream)
    count = 0
    for row in rows:
        target.write(row.to_line())
        count += 1
    return count
