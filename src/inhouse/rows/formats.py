"""The shapes a row may come in, and how each becomes a conversation.

It knows keys and roles; it knows neither files nor lines. A key that would be ignored is refused instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, get_args

from inhouse.rows.calls import call_id, calls_of, check_calls, id_of_function_call, parallel_of, tools_of
from inhouse.rows.fields import HARMLESS, BadRow, refuse_unknown, shown, text_of
from inhouse.rows.row import Row
from inhouse.rows.strict_json import short
from inhouse.schema import ROLES, FactKind, Message, ToolCall

FORMATS = ("messages", "input/output", "prompt/completion", "question/answer", "sharegpt", "alpaca")

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
_WITH_MESSAGES = frozenset({"tools", "functions", "parallel_tool_calls"})
"""Keys that say what replies may call, beside messages only."""
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


def conversation(row: Mapping[str, Any], line: int = 0) -> Row:
    """One row, whatever shape it has, in its canonical one. Raises BadRow."""
    given = {key: value for key, value in row.items() if value is not None and key not in HARMLESS}
    _refuse_later_features(given)
    if "messages" in given:
        return _canonical(given, line)
    if misplaced := next((key for key in given if key in _WITH_MESSAGES), None):
        raise BadRow(
            misplaced, "stands without messages.", f"Write the row as messages, or remove {misplaced}."
        )
    if "conversations" in given:
        return Row(line, _sharegpt(given), "sharegpt")
    if "instruction" in given:
        return Row(line, _alpaca(given), "alpaca")
    for name, (asked, reply) in _PAIRS.items():
        if asked in given or reply in given:
            labels = _labels(row) if name == "question/answer" else {}
            return Row(line, _pair(given, asked, reply), name, labels)
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


def _canonical(given: Mapping[str, Any], line: int) -> Row:
    refuse_unknown(given, {"messages", *_WITH_MESSAGES})
    tools = tools_of(given)
    parallel = parallel_of(given, tools)
    turns = _list(given["messages"], "messages")
    messages = _checked([_message(turn, f"messages[{i}]", i) for i, turn in enumerate(turns)], "messages")
    check_calls(messages, tools, parallel, "messages")
    return Row(line, messages, tools=tools, parallel_tool_calls=parallel)


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
            raise BadRow(f"{where}.from", f"is {shown(role)}.", "Use system, human or gpt.")
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


def _message(turn: Any, where: str, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise BadRow(where, f"is {short(turn)}, not an object.", 'Write {"role": ..., "content": ...}.')
    given = {key: value for key, value in turn.items() if value is not None}
    refuse_unknown(
        given,
        {"role", "content", "name", "weight", "tool_calls", "function_call", "tool_call_id"},
        where,
    )
    if given.get("role") == "function":  # the older role: the result of the function_call before it
        given |= {"role": "tool", "tool_call_id": id_of_function_call(number - 1)}
    role = given.get("role")
    if role is None:
        raise BadRow(f"{where}.role", "is missing.", "Use system, user, assistant or tool.")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRow(f"{where}.role", f"is {shown(role)}.", "Use system, user, assistant or tool.")
    _refuse_of_other_roles(given, role, where)
    name = given.get("name")
    if name is not None:
        name = text_of(name, f"{where}.name")
    calls = calls_of(given, where, number)
    weight = _weight(given, role, where)
    if calls and "content" not in given:
        return _build(role, None, where, name=name, weight=weight, calls=calls)
    content = _content(given.get("content"), f"{where}.content")
    id = call_id(given.get("tool_call_id"), f"{where}.tool_call_id") if role == "tool" else None
    return _build(role, content, where, name=name, weight=weight, calls=calls, answers=id)


def _refuse_of_other_roles(given: Mapping[str, Any], role: str, where: str) -> None:
    owners = {"tool_calls": "assistant", "function_call": "assistant", "tool_call_id": "tool"}
    for key, owner in owners.items():
        if key in given and role != owner:
            raise BadRow(
                f"{where}.{key}", f"stands on a {role} message.", f"Only the role {owner} has it: remove it."
            )


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
        raise BadRow(f"{where}.weight", f"is {shown(weight)}.", "Use 0 (read only) or 1 (train).")
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
    if not any(m.text.strip() or m.tool_calls for m in replies):
        raise BadRow(field, "every trained reply is empty.", "Write the reply.")
    return tuple(messages)


def _build(
    role: str,
    content: str | None,
    where: str,
    *,
    name: str | None = None,
    weight: int | None = None,
    calls: tuple[ToolCall, ...] = (),
    answers: str | None = None,
) -> Message:
    assert role in ROLES, f"{where}: roles are checked before a message is built"
    return Message(
        role=role, content=content, name=name, weight=weight, tool_calls=calls, tool_call_id=answers
    )


def _list(value: Any, where: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadRow(where, f"is {short(value)}, not a list.", "Give a list of messages.")
    if not value:
        raise BadRow(where, "is empty.", "Give a question and its reply.")
    return value


def _names(row: Mapping[str, Any]) -> str:
    names = [short(key) for key in islice(row, 9)]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
