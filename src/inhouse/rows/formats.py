"""The shapes a row may come in, and how each becomes a conversation.

It knows keys and roles; it knows neither files nor lines. A key that would be ignored is refused instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any, NoReturn, get_args

from inhouse.rows.strict_json import has_lone_surrogate, short
from inhouse.schema import ROLES, FactKind, Message

FORMATS = ("messages", "input/output", "prompt/completion", "question/answer", "sharegpt", "alpaca")

HARMLESS = frozenset({"id", "metadata", "source"})
"""Keys that only label a row: allowed beside every format, never trained on."""

FACT_LABELS = (
    "wordings",
    "subject",
    "aliases",
    "kind",
    "source",
    "span",
    "access",
    "valid_from",
    "valid_until",
)
"""Keys that say more of a fact, beside question and answer only: for a memory, never trained on."""
KINDS = get_args(FactKind)
_NUMBER = re.compile(r"-?\d{1,15}(\.\d+)?")
_LISTS = frozenset({"wordings", "aliases", "access"})
_TIMES = frozenset({"valid_from", "valid_until"})

_PAIRS = {
    "input/output": ("input", "output"),
    "prompt/completion": ("prompt", "completion"),
    "question/answer": ("question", "answer"),
}
_PREFERENCE = frozenset({"preferred_output", "non_preferred_output", "chosen", "rejected"})
_TOOLS = frozenset(
    {"tools", "functions", "parallel_tool_calls", "tool_calls", "tool_call_id", "function_call"}
)
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
}
_SHAPES = (
    'Use {"messages": [...]}, {"input", "output"}, {"prompt", "completion"}, {"question", "answer"}, '
    '{"conversations": [...]} or {"instruction", "input", "output"}.'
)


class BadRow(ValueError):
    """What is wrong with one row: the field, the reason and the cure."""

    def __init__(self, field: str | None, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
        self.cure = cure


def conversation(row: Mapping[str, Any]) -> tuple[str, tuple[Message, ...], dict[str, Any]]:
    """The format's name, the canonical messages and the labels of one row. Raises BadRow."""
    given = {key: value for key, value in row.items() if value is not None and key not in HARMLESS}
    _refuse_later_features(given)
    if "messages" in given:
        return "messages", _canonical(given), {}
    if "conversations" in given:
        return "sharegpt", _sharegpt(given), {}
    if "instruction" in given:
        return "alpaca", _alpaca(given), {}
    for name, (asked, reply) in _PAIRS.items():
        if asked in given or reply in given:
            if name == "question/answer":
                return name, _pair(given, asked, reply), _labels(row)
            return name, _pair(given, asked, reply), {}
    if not row:
        raise BadRow(None, "the row is an empty object.", _SHAPES)
    raise BadRow(None, f"no known row format has the keys {_names(row)}.", _SHAPES)


def _refuse_later_features(given: Mapping[str, Any]) -> None:
    for key in given:
        if key in _PREFERENCE:
            raise BadRow(
                key,
                "preference rows (DPO) cannot be tuned on yet; only supervised rows can.",
                'Give the preferred reply alone, as {"input": ..., "output": ...}.',
            )
        if key in _TOOLS:
            raise BadRow(key, "tool calls cannot be tuned on yet.", f"Remove {short(key)}.")


def _canonical(given: Mapping[str, Any]) -> tuple[Message, ...]:
    refuse_unknown(given, {"messages"})
    turns = _list(given["messages"], "messages")
    return _checked([_message(turn, f"messages[{i}]") for i, turn in enumerate(turns)], "messages")


def _sharegpt(given: Mapping[str, Any]) -> tuple[Message, ...]:
    refuse_unknown(given, {"conversations", "system"})
    messages = _system(given)
    for i, turn in enumerate(_list(given["conversations"], "conversations")):
        where = f"conversations[{i}]"
        if not isinstance(turn, Mapping):
            raise BadRow(
                where, f"is {short(turn)}, not an object.", 'Write {"from": "human", "value": "..."}.'
            )
        refuse_unknown(turn, {"from", "value", "weight"}, where)
        role = turn.get("from")
        if not isinstance(role, str) or role not in _SHAREGPT_ROLES:
            raise BadRow(f"{where}.from", f"is {_shown(role)}.", "Use system, human or gpt.")
        role = _SHAREGPT_ROLES[role]
        value = text_of(turn.get("value"), f"{where}.value")
        messages.append(_build(role, value, where, weight=_weight(turn, role, where)))
    return _checked(messages, "conversations")


def _alpaca(given: Mapping[str, Any]) -> tuple[Message, ...]:
    refuse_unknown(given, {"instruction", "input", "output", "system"})
    asked = text_of(given["instruction"], "instruction")
    if more := text_of(given.get("input", ""), "input"):
        asked = f"{asked}\n\n{more}"
    return _asked_and_replied(given, asked, "instruction", "output")


def _pair(given: Mapping[str, Any], asked: str, reply: str) -> tuple[Message, ...]:
    refuse_unknown(given, {asked, reply, "system", *(FACT_LABELS if asked == "question" else ())})
    if asked not in given:
        raise BadRow(asked, "is missing.", f"Add {asked!r} with what is asked.")
    return _asked_and_replied(given, text_of(given[asked], asked), asked, reply)


def _labels(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of its fact, empty fields left out. A source that is no text only labels the row."""
    found: dict[str, Any] = {}
    for key in FACT_LABELS:
        value = row.get(key)
        if value is None or value in ("", [], ()) or (key == "source" and not isinstance(value, str)):
            continue
        if key in _LISTS:
            found[key] = _texts(value, key)
        elif key in _TIMES:
            found[key] = _time(value, key)
        else:
            found[key] = text_of(value, key)
    if found.get("kind", KINDS[0]) not in KINDS:
        raise BadRow("kind", f"is {short(found['kind'])}.", f"Use one of {', '.join(KINDS)}.")
    return found


def _texts(value: Any, where: str) -> list[str]:
    """A list of texts; in a table's cell, texts with | between them."""
    if isinstance(value, str):
        value = [part for part in value.split("|") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise BadRow(where, f"is {short(value)}, not a list.", "Give a list of texts.")
    texts = [text_of(text, f"{where}[{i}]").strip() for i, text in enumerate(value)]
    if "" in texts:
        raise BadRow(f"{where}[{texts.index('')}]", "is empty.", "Remove it.")
    return list(dict.fromkeys(texts))


def _time(value: Any, where: str) -> float:
    """Unix seconds, from a number or a date; a date without a zone is UTC."""
    try:
        if isinstance(value, str):
            return float(value) if _NUMBER.fullmatch(value.strip()) else _seconds(value.strip())
        if isinstance(value, date):  # a table's column of dates
            return _seconds(value.isoformat())
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise BadRow(
        where, "is no time.", "Give Unix seconds, or a date such as 2031-01-31 or 2031-01-31T12:00Z."
    )


def _seconds(written: str) -> float:
    read = datetime.fromisoformat(written)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _asked_and_replied(given: Mapping[str, Any], asked: str, field: str, reply: str) -> tuple[Message, ...]:
    if reply not in given:
        raise BadRow(reply, "is missing, so nothing would be trained.", f"Add {reply!r} with the reply.")
    replied = text_of(given[reply], reply)
    if not asked.strip():
        raise BadRow(field, "is empty.", "Write what is asked.")
    if not replied.strip():
        raise BadRow(reply, "is empty, so nothing would be trained.", "Write the reply.")
    return (*_system(given), _build("user", asked, field), _build("assistant", replied, reply))


def _system(given: Mapping[str, Any]) -> list[Message]:
    text = text_of(given.get("system", ""), "system")
    return [_build("system", text, "system")] if text else []


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise BadRow(where, f"is {short(turn)}, not an object.", 'Write {"role": ..., "content": ...}.')
    given = {key: value for key, value in turn.items() if value is not None}
    for key in given:
        if key in _TOOLS:
            raise BadRow(f"{where}.{key}", "tool calls cannot be tuned on yet.", "Leave this row out.")
    refuse_unknown(given, {"role", "content", "name", "weight"}, where)
    role = given.get("role")
    if role is None:
        raise BadRow(f"{where}.role", "is missing.", "Use system, user or assistant.")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRow(f"{where}.role", f"is {_shown(role)}.", "Use system, user or assistant.")
    if role == "tool":
        raise BadRow(f"{where}.role", "tool messages cannot be tuned on yet.", "Leave this row out.")
    name = given.get("name")
    if name is not None:
        name = text_of(name, f"{where}.name")
    content = _content(given.get("content"), f"{where}.content")
    return _build(role, content, where, name=name, weight=_weight(given, role, where))


def _content(value: Any, where: str) -> str:
    """A string, or a list of text parts joined into one."""
    if isinstance(value, str):
        return text_of(value, where)
    if value is None:
        raise BadRow(where, "is missing.", "Give the message's text.")
    if not isinstance(value, (list, tuple)):
        raise BadRow(where, f"is {short(value)}, not text.", "Give a string.")
    texts = []
    for i, part in enumerate(value):
        here = f"{where}[{i}]"
        if not isinstance(part, Mapping) or part.get("type") != "text":
            raise BadRow(
                here, "is not a text part.", 'Text is all that is trained: {"type": "text", "text": ...}.'
            )
        refuse_unknown(part, {"type", "text"}, here)
        texts.append(text_of(part.get("text"), f"{here}.text"))
    return "".join(texts)


def _weight(given: Mapping[str, Any], role: str, where: str) -> int | None:
    weight = given.get("weight")
    if weight is None:
        return None
    if type(weight) is not int or weight not in (0, 1):
        raise BadRow(f"{where}.weight", f"is {_shown(weight)}.", "Use 0 (read only) or 1 (train).")
    if role != "assistant":
        raise BadRow(
            f"{where}.weight", f"stands on a {role} message.", "Only replies are trained: remove it."
        )
    return weight


def _checked(messages: list[Message], field: str) -> tuple[Message, ...]:
    """The conversation, if its order makes sense and something in it is trained."""
    if not any(m.role == "assistant" for m in messages):
        raise BadRow(field, "no assistant message, so nothing would be trained.", "Add the reply.")
    turned = False
    for i, message in enumerate(messages):
        where = f"{field}[{i}]"
        if message.role in ("system", "developer"):
            if turned:
                raise BadRow(
                    where, f"a {message.role} message stands after the first turn.", "Move it to the front."
                )
        elif message.role == "assistant" and not turned:
            raise BadRow(where, "a reply stands before anything was asked.", "Begin with a user message.")
        else:
            turned = True
        if message.role == "user" and not message.text.strip():
            raise BadRow(where, "the user message is empty.", "Write what is asked.")
    if messages[-1].role != "assistant":
        raise BadRow(
            f"{field}[{len(messages) - 1}]", "the last message is not a reply.", "End with the reply."
        )
    replies = [m for m in messages if m.role == "assistant" and m.weight != 0]
    if not replies:
        raise BadRow(
            field, "every reply has weight 0, so nothing would be trained.", "Give one reply weight 1."
        )
    if not any(m.text.strip() for m in replies):
        raise BadRow(field, "every trained reply is empty.", "Write the reply.")
    return tuple(messages)


def _build(
    role: str, content: str, where: str, *, name: str | None = None, weight: int | None = None
) -> Message:
    assert role in ROLES, f"{where}: roles are checked before a message is built"
    return Message(role=role, content=content, name=name, weight=weight)


def text_of(value: Any, where: str) -> str:
    if not isinstance(value, str):
        missing = value is None
        raise BadRow(where, "is missing." if missing else f"is {short(value)}, not text.", "Give a string.")
    if has_lone_surrogate(value):
        raise BadRow(
            where, "holds half of a surrogate pair, which is not text.", "Remove the broken character."
        )
    return value


def _list(value: Any, where: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadRow(where, f"is {short(value)}, not a list.", "Give a list of messages.")
    if not value:
        raise BadRow(where, "is empty.", "Give a question and its reply.")
    return value


def refuse_unknown(
    given: Mapping[str, Any],
    known: Collection[str],
    where: str = "",
    *,
    labels: Collection[str] | None = None,
) -> None:
    """Raises BadRow for a key that is not known. It lists those that are, a whole row's labels among them."""
    labels = labels if labels is not None else () if where else HARMLESS
    for key in given:
        if key not in known:
            field = f"{where}.{key}" if where else str(key)
            _refuse_key(field[:80], key, {*known, *labels})


def _refuse_key(field: str, key: Any, known: set[str]) -> NoReturn:
    shown = ascii(field)[1:-1]
    meant = get_close_matches(str(key)[:80], known, 1)
    cure = f"Did you mean '{meant[0]}'?" if meant else f"Remove it. Known: {', '.join(sorted(known))}."
    raise BadRow(shown, f"the key {short(key)} is unknown here.", cure)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int)) and abs(value) < 10**9 else short(value)


def _names(row: Mapping[str, Any]) -> str:
    names = [short(key) for key in islice(row, 9)]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
