"""Rows to be answered: what each of them asks, in the API's words, or why it cannot be asked.

It knows shapes of rows and OpenAI's batch lines. It knows no model and no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inhouse.errors import RowProblem
from inhouse.rows.fields import HARMLESS, BadRow, refuse_unknown, text_of
from inhouse.rows.formats import FACT_LABELS
from inhouse.rows.reading import Item, Source, items
from inhouse.rows.row import Row
from inhouse.rows.strict_json import short

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

_ASKED = ("prompt", "question", "input")
"""What a row may ask with."""
_REPLIES = ("completion", "answer", "output")
"""What its reply may be called, whatever it asks with."""
_TOOLS = ("tools", "parallel_tool_calls")
"""What a row of messages may call; it is asked with them."""
_LABELS = HARMLESS | {"custom_id"}
"""Keys that name or label a row, whatever it asks with."""
_BATCH = {"custom_id", "method", "url", "body"}
_SHAPES = (
    'Give a text, {"prompt"}, {"question"}, {"input"}, {"messages": [...]}, '
    'or a batch line {"custom_id", "method", "url", "body"}.'
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row as a request, or its problem."""

    line: int
    """The line of a file, or the number of an item, from 1."""
    given: Any = None
    """The row as it stands."""
    id: str | None = None
    """What the row calls itself: custom_id or id."""
    path: str = CHAT
    body: Mapping[str, Any] = field(default_factory=dict)
    """What it says itself; model and sampling may be missing."""
    expected: str | None = None
    """The reply that a row of a training file holds; of one that calls tools, its calls as JSON. It is never sent."""
    problem: RowProblem | None = None


def read(source: Source, *, name: str | None = None) -> Iterator[Prompt]:
    """Each row of a source, in order; those of a training file are asked without their replies.

    Raises InvalidRequest when a path cannot be opened.
    """
    for item in items(source, name=name):
        yield Prompt(item.line, problem=item) if isinstance(item, RowProblem) else _prompt(item)


def _prompt(item: Item) -> Prompt:
    value = item.value
    id = _id(value)
    try:
        path, body, expected = _asked(value)
        _check_sendable(body)
    except BadRow as e:
        return Prompt(item.line, value, id, problem=RowProblem(item.line, e.field, e.reason, e.cure))
    return Prompt(item.line, value, id, path, body, expected)


def _asked(value: Any) -> tuple[str, dict[str, Any], str | None]:
    """Path, body and known reply of one row. Raises BadRow."""
    if isinstance(value, str):
        return CHAT, {"messages": [_user(value, None)]}, None
    if isinstance(value, Row):
        value = value.to_object()
    if isinstance(value, (tuple, list)) and len(value) == 2:
        value = {"question": value[0], "answer": value[1]}
    if not isinstance(value, Mapping):
        raise BadRow(None, f"is {short(value)}, not a row.", _SHAPES)
    given = {key: found for key, found in value.items() if found is not None}
    if "body" in given:
        return _batch_line(given)
    given = {key: found for key, found in given.items() if key not in _LABELS}
    if "messages" in given:
        refuse_unknown(given, {"messages", *_TOOLS}, labels=_LABELS)
        messages, expected = _conversation(given["messages"])
        return CHAT, {"messages": messages, **{key: given[key] for key in _TOOLS if key in given}}, expected
    for asked in _ASKED:
        if asked in given:
            known = {asked, *_REPLIES, "system", *(FACT_LABELS if asked == "question" else ())}
            refuse_unknown(given, known, labels=_LABELS)
            system = text_of(given.get("system", ""), "system")
            before = [{"role": "system", "content": system}] if system else []
            return CHAT, {"messages": [*before, _user(given[asked], asked)]}, _known_reply(given)
    raise BadRow(None, "asks nothing.", _SHAPES)


def _known_reply(given: Mapping[str, Any]) -> str | None:
    """What a row of a training file holds as its reply."""
    reply, *more = [name for name in _REPLIES if name in given] or [""]
    if more:
        raise BadRow(more[0], f"is a second reply beside {reply!r}.", "Leave one of them out.")
    return text_of(given[reply], reply) if reply else None


def _user(content: Any, where: str | None) -> dict[str, str]:
    text = text_of(content, where or "the row")
    if not text.strip():
        raise BadRow(where, "is empty.", "Write what is asked.")
    return {"role": "user", "content": text}


def _conversation(messages: Any) -> tuple[list[Any], str | None]:
    """The turns to answer; a reply at the end is what a training file would teach."""
    if not isinstance(messages, (list, tuple)) or not messages:
        raise BadRow("messages", f"is {short(messages)}, not a list of messages.", "Give at least one.")
    *before, last = messages
    if before and isinstance(last, Mapping) and last.get("role") == "assistant":
        if last.get("tool_calls"):
            _check_sendable({"tool_calls": last["tool_calls"]})
            return before, json.dumps(last["tool_calls"], ensure_ascii=False)
        return before, text_of(last.get("content"), f"messages[{len(before)}].content")
    return list(messages), None


def _batch_line(given: Mapping[str, Any]) -> tuple[str, dict[str, Any], None]:
    """A line of a file for OpenAI's batches: its body goes as it is."""
    refuse_unknown(given, _BATCH, labels=())
    path, body = given.get("url", CHAT), given["body"]
    if given.get("method", "POST") != "POST":
        raise BadRow("method", f"is {short(given['method'])}.", "Write POST.")
    if path not in (CHAT, COMPLETIONS):
        raise BadRow("url", f"is {short(path)}.", f"Write {CHAT} or {COMPLETIONS}.")
    if not isinstance(body, Mapping):
        raise BadRow("body", f"is {short(body)}, not an object.", "Give the request's body.")
    if body.get("stream"):
        raise BadRow("body.stream", "asks for a stream.", "Leave it out: a row gets its reply whole.")
    many = body.get("prompt") if path == COMPLETIONS else None
    is_list = isinstance(many, Sequence) and not isinstance(many, str)
    if (body.get("n") or 1) != 1 or (is_list and not all(type(token) is int for token in many or ())):
        raise BadRow(
            "body", "asks for several replies; a row gets one.", "Write a row for each, with n left out."
        )
    return path, dict(body), None


def _id(value: Any) -> str | None:
    """What a row calls itself, where that is a text or a number."""
    if not isinstance(value, Mapping):
        return None
    id = value.get("custom_id", value.get("id"))
    return str(id) if isinstance(id, (str, int)) and not isinstance(id, bool) else None


def _check_sendable(body: Mapping[str, Any]) -> None:
    """Raises BadRow for what JSON cannot carry: dates, NaN, half of a surrogate pair."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as e:
        raise BadRow(None, "holds half of a surrogate pair, which is not text.", "Remove it.") from e
    except (TypeError, ValueError, RecursionError) as e:
        raise BadRow(None, "holds a value that is not JSON.", "Use texts, numbers, lists and dicts.") from e
