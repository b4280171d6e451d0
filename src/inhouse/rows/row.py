"""One training row in its canonical shape, and how it is written down.

It knows nothing of the formats that rows come in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from inhouse.rows.calls import call_object, tool_object
from inhouse.schema import Message, Tool

NAMES = {"system": "system", "user": "question", "assistant": "answer"}
"""What a message of each role is called where a row is a question with its answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation that ends in a reply, and the line (or row number, from 1) it came from.

    Every message's content is a string, or None beside calls; only assistant messages may carry a weight. Calls are of
    tools that the row offers, and each is followed by its result, or by the row's end.
    """

    line: int
    messages: tuple[Message, ...]
    format: str = "messages"
    """The name of the shape it came in, one of rows.FORMATS."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """What else it says of a fact, as rows.FACT_LABELS names it: for a memory, never trained on."""
    tools: tuple[Tool, ...] = ()
    """What its replies may call. The prompt tells of them, as serving does."""
    parallel_tool_calls: bool | None = None
    """Whether a reply may make several calls, where the row says so. No token of the prompt depends on it."""

    def to_object(self) -> dict[str, Any]:
        """The row as canonical JSON: {"messages": [...]}, and "tools" where it has some, absent fields left out.

        One that says more of a fact keeps that, in the shape that may: {"question", "answer", ...}.
        """
        if self.labels:
            texts = {NAMES[m.role]: m.text for m in self.messages}
            return {**texts, **self.labels}
        told: dict[str, Any] = {"messages": [_message_object(message) for message in self.messages]}
        if self.tools:
            told["tools"] = [tool_object(tool) for tool in self.tools]
        if self.parallel_tool_calls is not None:
            told["parallel_tool_calls"] = self.parallel_tool_calls
        return told

    def to_line(self) -> bytes:
        """The row as one line of canonical JSONL, newline included."""
        text = json.dumps(self.to_object(), ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"


def _message_object(message: Message) -> dict[str, Any]:
    told = message.model_dump(exclude_none=True, exclude_defaults=True, exclude={"tool_calls"})
    if message.tool_calls:
        told["tool_calls"] = [call_object(call) for call in message.tool_calls]
    return told


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
