"""One line of bytes as a JSON object, strictly: no duplicate keys, no NaN, no deep nesting, valid UTF-8.

It knows nothing of what the object means. Its time and memory are linear in the line's length.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

MAX_DEPTH = 32
"""A row needs 5 levels; beyond this a parser's stack is somebody's toy."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
"""Strings (an unterminated one runs to the end, which keeps the search linear) and brackets."""


class Unparsable(ValueError):
    """Why a line is not a JSON object we take, and how to mend it."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cure = cure


def parse_object(line: bytes, *, offset: int = 0) -> dict[str, Any]:
    """The object on this line. Raises Unparsable; `offset` is where the line begins in its file."""
    text = decode(line, offset=offset)
    if _depth(line) > MAX_DEPTH:
        raise Unparsable(
            f"is nested deeper than {MAX_DEPTH} levels.", "Flatten it to one of the row formats."
        )
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as e:
        raise Unparsable(
            f"is not valid JSON ({e.msg.lower()} at column {e.colno}).", "Write one JSON object on each line."
        ) from e
    except Unparsable:
        raise
    except (ValueError, RecursionError) as e:  # a number of many thousand digits
        raise Unparsable("holds a value that cannot be read.", "Shorten its numbers.") from e
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a single value")
        raise Unparsable(f"holds {kind}, not an object.", 'Write one object a line: {"messages": [...]}.')
    return value


def decode(line: bytes, *, offset: int = 0) -> str:
    """The line's text. Raises Unparsable with the bad byte's place in the file."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Unparsable(
            f"is not valid UTF-8 (byte 0x{line[e.start]:02x} at offset {offset + e.start} of the file).",
            "Save the file as UTF-8.",
        ) from e


def has_lone_surrogate(text: str) -> bool:
    """Whether text holds half of a surrogate pair, which no encoding can carry."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _depth(line: bytes) -> int:
    """The deepest nesting of brackets outside strings."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for match in _TOKEN.finditer(line):
        first = match[0][:1]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif first in b"]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Unparsable(f"has the key {short(twice)} twice.", "Keep one of them.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise Unparsable(f"holds {name}, which is not JSON.", "Use a number, or null.")


def short(value: object, width: int = 40) -> str:
    """A value's repr for a message, cut to a readable length and safe to print."""
    shown = ascii(value[: width * 2] if isinstance(value, str) else type(value).__name__)
    return shown if len(shown) <= width else shown[: width - 1] + "…"
