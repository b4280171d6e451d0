"""Tools that a row offers, the calls that its replies make, and their results: read, and checked against each other.

It knows OpenAI's shapes, the older one of functions too. How a base writes a call is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from inhouse.rows.fields import BadRow, refuse_unknown, shown, text_of
from inhouse.rows.strict_json import Unparsable, parse_object, short
from inhouse.schema import MAX_TOOLS, MOST_CALLS, TOOL_NAME, Message, Tool, ToolCall

_TOOL = 'Write {"type": "function", "function": {"name": ..., "parameters": {...}}}.'
_CALL = 'Write {"id": ..., "type": "function", "function": {"name": ..., "arguments": "{...}"}}.'
_NAMED = "Use up to 64 letters, digits, '_' and '-'."
_JSON = 'Write a JSON object as a text: "{\\"city\\": \\"Rome\\"}".'


def tools_of(row: Mapping[str, Any]) -> tuple[Tool, ...]:
    """What a row offers, as `tools` or as the older `functions`. Raises BadRow."""
    if "functions" in row and "tools" in row:
        raise BadRow("functions", "stands beside tools, which mean the same.", "Leave functions out.")
    if "functions" in row:
        given = _list(row["functions"], "functions")
        tools = [_function(each, f"functions[{i}]") for i, each in enumerate(given)]
    else:
        given = _list(row["tools"], "tools") if "tools" in row else []
        tools = [_tool(each, f"tools[{i}]") for i, each in enumerate(given)]
    field = "functions" if "functions" in row else "tools"
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            raise BadRow(
                f"{field}[{i}]", f"is a second tool called {short(tool.name)}.", "Give each its own name."
            )
        names.add(tool.name)
    return tuple(tools)


def parallel_of(row: Mapping[str, Any], tools: Sequence[Tool]) -> bool | None:
    """Whether a reply may make several calls, where the row says so. Raises BadRow.

    It is no part of any prompt, so it changes nothing that is trained: replies must only keep to it.
    """
    parallel = row.get("parallel_tool_calls")
    if parallel is None or isinstance(parallel, bool):
        if parallel is not None and not tools:
            raise BadRow("parallel_tool_calls", "says nothing without tools.", "Remove it.")
        return parallel
    raise BadRow("parallel_tool_calls", f"is {shown(parallel)}.", "Write true or false, or leave it out.")


def calls_of(turn: Mapping[str, Any], where: str, number: int) -> tuple[ToolCall, ...]:
    """The calls of one message, the `number`-th, as `tool_calls` or as the older `function_call`. Raises BadRow."""
    if "function_call" in turn:
        at = f"{where}.function_call"
        if "tool_calls" in turn:
            raise BadRow(at, "stands beside tool_calls, which mean the same.", "Leave function_call out.")
        return (_call(_mapping(turn["function_call"], at, _CALL), at, id=id_of_function_call(number)),)
    if "tool_calls" not in turn:
        return ()
    at = f"{where}.tool_calls"
    calls = []
    for i, given in enumerate(_list(turn["tool_calls"], at, MOST_CALLS)):
        here = f"{at}[{i}]"
        call = _mapping(given, here, _CALL)
        refuse_unknown(call, {"id", "type", "function"}, here)
        _is_function(call, here, _CALL)
        function = _mapping(call.get("function"), f"{here}.function", _CALL)
        calls.append(_call(function, f"{here}.function", id=call_id(call.get("id"), f"{here}.id")))
    return tuple(calls)


def id_of_function_call(number: int) -> str:
    """The id of the call that the `number`-th message makes by `function_call`, which has none."""
    return f"call{number:05d}"


def call_id(value: Any, where: str) -> str:
    id = text_of(value, where)
    if not 1 <= len(id) <= 128:
        raise BadRow(where, f"has {len(id)} characters.", "Give 1 to 128.")
    return id


def check_calls(
    messages: Sequence[Message], tools: Sequence[Tool], parallel: bool | None, field: str
) -> None:
    """Raises BadRow where calls and tools, or results and calls, do not belong together."""
    names = {tool.name for tool in tools}
    waiting: dict[str, str] = {}
    for i, message in enumerate(messages):
        where = f"{field}[{i}]"
        if message.role == "tool":
            name = waiting.pop(message.tool_call_id or "", None)
            if name is None:
                raise BadRow(
                    f"{where}.tool_call_id",
                    f"{short(message.tool_call_id)} is no call that waits for its result.",
                    "Give it the id of a call in the reply before it, each call once.",
                )
            if message.name not in (None, name):
                raise BadRow(
                    f"{where}.name", f"is not {short(name)}, which was called.", "Mend it, or leave it out."
                )
            continue
        if waiting:
            raise BadRow(
                where,
                f"stands before the result of the call {short(next(iter(waiting)))}.",
                'Put its result before it: {"role": "tool", "tool_call_id": ..., "content": ...}.',
            )
        if parallel is False and len(message.tool_calls) > 1:
            raise BadRow(
                f"{where}.tool_calls",
                f"are {len(message.tool_calls)}, and parallel_tool_calls is false.",
                "Make one call a reply, or leave parallel_tool_calls out.",
            )
        for call in message.tool_calls:
            if call.name not in names:
                reason = f"{short(call.name)} is called and is none of the row's tools."
                raise BadRow(f"{where}.tool_calls", reason, "Add it to tools, or mend the name.")
            if call.id in waiting:
                reason = f"two calls have the id {short(call.id)}."
                raise BadRow(f"{where}.tool_calls", reason, "Give each its own.")
            waiting[call.id] = call.name


def tool_object(tool: Tool) -> dict[str, Any]:
    """A tool as canonical JSON has it: OpenAI's own shape, absent fields left out."""
    return {"type": "function", "function": tool.model_dump(exclude_none=True)}


def call_object(call: ToolCall) -> dict[str, Any]:
    """A call as canonical JSON has it: OpenAI's own shape."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _tool(given: Any, where: str) -> Tool:
    tool = _mapping(given, where, _TOOL)
    refuse_unknown(tool, {"type", "function"}, where)
    _is_function(tool, where, _TOOL)
    return _function(tool.get("function"), f"{where}.function")


def _function(given: Any, where: str) -> Tool:
    """A function; `strict` may be said, and changes nothing: arguments keep to the parameters in any case."""
    function = _mapping(given, where, _TOOL)
    refuse_unknown(function, {"name", "description", "parameters", "strict"}, where)
    if not isinstance(function.get("strict", False), bool):
        raise BadRow(f"{where}.strict", f"is {shown(function['strict'])}.", "Write true or false.")
    about = function.get("description")
    return Tool(
        name=_name(function.get("name"), f"{where}.name"),
        description=None if about is None else text_of(about, f"{where}.description"),
        parameters=_parameters(function.get("parameters"), f"{where}.parameters"),
    )


def _parameters(given: Any, where: str) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or given.get("type") != "object":
        raise BadRow(
            where, "are no JSON schema of an object.", 'Write {"type": "object", "properties": ...}.'
        )
    return _as_json(given, where)


def _call(function: Mapping[str, Any], where: str, *, id: str) -> ToolCall:
    refuse_unknown(function, {"name", "arguments"}, where)
    name = _name(function.get("name"), f"{where}.name")
    arguments = function.get("arguments")
    at = f"{where}.arguments"
    if not isinstance(arguments, str):
        reason = "are missing." if arguments is None else f"are {short(arguments)}, not a text."
        raise BadRow(at, reason, _JSON)
    try:
        _as_json(parse_object(text_of(arguments, at).encode()), at)
    except Unparsable as e:
        raise BadRow(at, f"are no JSON object: the text {e.reason}", _JSON) from e
    return ToolCall(id=id, name=name, arguments=arguments)


def _as_json(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The value as JSON would give it back."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
        found: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as e:  # half a surrogate pair is a ValueError, too
        raise BadRow(where, "hold a value that is not JSON.", "Use texts, numbers, lists and objects.") from e
    return found


def _name(value: Any, where: str) -> str:
    name = text_of(value, where)
    if not re.fullmatch(TOOL_NAME, name):
        raise BadRow(where, f"is {short(name)}.", _NAMED)
    return name


def _is_function(given: Mapping[str, Any], where: str, cure: str) -> None:
    if given.get("type") != "function":
        raise BadRow(
            f"{where}.type", f"is {shown(given.get('type'))}; functions are all that can be called.", cure
        )


def _mapping(value: Any, where: str, cure: str) -> dict[str, Any]:
    """An object without the keys that are null, which count as absent."""
    if not isinstance(value, Mapping):
        raise BadRow(where, "is missing." if value is None else f"is {short(value)}, not an object.", cure)
    return {key: each for key, each in value.items() if each is not None}


def _list(value: Any, where: str, most: int = MAX_TOOLS) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadRow(where, f"is {short(value)}, not a list.", "Give a list, or leave it out.")
    if not value:
        raise BadRow(where, "is empty.", "Leave it out.")
    if len(value) > most:
        raise BadRow(where, f"holds {len(value)}, over the limit of {most}.", "Keep those that matter.")
    return value
