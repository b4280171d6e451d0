"""Rows that teach calls of tools: what is taken, what it becomes, and each fault with its field, reason and cure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inhouse import rows
from inhouse.rows import Row, RowProblem, prompts
from inhouse.rows.facts import from_rows, looks_like_facts

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
ASKED = {"role": "user", "content": "Rome?"}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."}
SAID = {"role": "assistant", "content": "It is sunny."}


def call(name: str = "weather", arguments: Any = '{"city":"Rome"}', id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls or (call(),)), **more}


def row(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), "tools": [WEATHER, NOW], **more}


def problem(given: dict[str, Any]) -> RowProblem:
    (found,) = rows.read([given])
    assert isinstance(found, RowProblem), found
    assert found.reason and found.cure
    return found


GOOD = [
    row(ASKED, calling()),
    row(ASKED, calling(), RESULT, SAID),
    row(ASKED, calling(content="Let me see."), RESULT, calling(call("now", "{}", "call_2"))),
    row(ASKED, calling(call(), call("now", "{}", "b")), {**RESULT, "tool_call_id": "b"}, RESULT, SAID),
    row(ASKED, calling(weight=0), {**RESULT, "name": "weather"}, {**SAID, "weight": 1}),
    row(ASKED, calling(), parallel_tool_calls=False),
    row(ASKED, calling(), RESULT, calling(), RESULT, SAID, parallel_tool_calls=True),
    row(ASKED, SAID),
]


@pytest.mark.parametrize("given", GOOD)
def test_what_openai_trains_is_taken_and_written_back_word_for_word(given: dict[str, Any]) -> None:
    (found,) = rows.load([given])
    assert json.loads(found.to_line()) == given
    assert rows.load([found.to_object()]) == [found]
    assert rows.load([found])[0] == found, "a row that is given again keeps its tools"


def test_calls_and_tools_are_read() -> None:
    (found,) = rows.load([GOOD[3]])
    assert [tool.name for tool in found.tools] == ["weather", "now"]
    assert [(c.id, c.name, c.arguments) for c in found.messages[1].tool_calls] == [
        ("call_1", "weather", '{"city":"Rome"}'),
        ("b", "now", "{}"),
    ]
    assert [m.tool_call_id for m in found.messages] == [None, None, "b", "call_1", None]


def test_the_older_shape_of_functions_becomes_tools() -> None:
    older = {
        "messages": [
            ASKED,
            {"role": "assistant", "function_call": call()["function"]},
            {"role": "function", "name": "weather", "content": "Sunny."},
            SAID,
        ],
        "functions": [WEATHER["function"]],
    }
    (found,) = rows.load([older])
    id = found.messages[1].tool_calls[0].id
    result = {"role": "tool", "name": "weather", "content": "Sunny.", "tool_call_id": id}
    assert found.to_object() == row(ASKED, calling(call(id=id)), result, SAID, tools=[WEATHER])
    assert rows.load([found.to_object()]) == [found]


def function(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **changes}}


@pytest.mark.parametrize(
    ("given", "field", "word"),
    [
        (row(ASKED, SAID, tools=[]), "tools", "empty"),
        (row(ASKED, SAID, tools={}), "tools", "not a list"),
        (row(ASKED, SAID, tools=["f"]), "tools[0]", "not an object"),
        (row(ASKED, SAID, tools=[function()] * 2), "tools[1]", "second tool called 'f'"),
        (row(ASKED, SAID, tools=[function(name=f"f{i}") for i in range(129)]), "tools", "limit of 128"),
        (row(ASKED, SAID, tools=[{"type": "web_search"}]), "tools[0].type", "functions are all"),
        (row(ASKED, SAID, tools=[{"type": "function"}]), "tools[0].function", "missing"),
        (row(ASKED, SAID, tools=[function(name="a b")]), "tools[0].function.name", "'a b'"),
        (row(ASKED, SAID, tools=[function(name="f\n")]), "tools[0].function.name", "is"),
        (row(ASKED, SAID, tools=[function(colour=1)]), "tools[0].function.colour", "unknown"),
        (row(ASKED, SAID, tools=[function(strict="yes")]), "tools[0].function.strict", "'yes'"),
        (
            row(ASKED, SAID, tools=[function(parameters={"type": "array"})]),
            "tools[0].function.parameters",
            "no JSON schema of an object",
        ),
        (
            row(ASKED, SAID, tools=[function(parameters={"type": "object", "default": float("nan")})]),
            "tools[0].function.parameters",
            "not JSON",
        ),
        (row(ASKED, SAID, functions=[]), "functions", "beside tools"),
        ({"messages": [ASKED, SAID], "parallel_tool_calls": True}, "parallel_tool_calls", "without tools"),
        (row(ASKED, SAID, parallel_tool_calls="no"), "parallel_tool_calls", "'no'"),
        ({"input": "a", "output": "b", "tools": [NOW]}, "tools", "without messages"),
        (row(ASKED, calling(call("forecast"))), "messages[1].tool_calls", "none of the row's tools"),
        ({"messages": [ASKED, calling()]}, "messages[1].tool_calls", "none of the row's tools"),
        (row(ASKED, calling(call(), call("now", "{}"))), "messages[1].tool_calls", "two calls have the id"),
        (
            row(ASKED, calling(call(), call(id="b")), parallel_tool_calls=False),
            "messages[1].tool_calls",
            "parallel_tool_calls is false",
        ),
        (
            row(ASKED, calling(*[call(id=str(i)) for i in range(17)])),
            "messages[1].tool_calls",
            "limit of 16",
        ),
        (row(ASKED, calling(call(id=""))), "messages[1].tool_calls[0].id", "0 characters"),
        (row(ASKED, calling({**call(), "type": "custom"})), "messages[1].tool_calls[0].type", "'custom'"),
        (row(ASKED, {"role": "assistant"}), "messages[1].content", "missing"),
        (row(ASKED, {"role": "assistant", "tool_calls": []}), "messages[1].tool_calls", "empty"),
        (row({**ASKED, "tool_calls": [call()]}, SAID), "messages[0].tool_calls", "user message"),
        (row({**ASKED, "tool_call_id": "x"}, SAID), "messages[0].tool_call_id", "user message"),
        (
            row(ASKED, calling(), {"role": "tool", "content": "a"}, SAID),
            "messages[2].tool_call_id",
            "missing",
        ),
        (
            row(ASKED, calling(), {**RESULT, "tool_call_id": "call_9"}, SAID),
            "messages[2].tool_call_id",
            "'call_9' is no call",
        ),
        (row(ASKED, calling(), RESULT, RESULT, SAID), "messages[3].tool_call_id", "no call that waits"),
        (row(ASKED, calling(), {**RESULT, "name": "now"}, SAID), "messages[2].name", "'weather'"),
        (row(ASKED, calling(), SAID), "messages[2]", "before the result of the call 'call_1'"),
        (row(ASKED, calling(), ASKED, SAID), "messages[2]", "before the result"),
        (row(ASKED, calling(), RESULT), "messages[2]", "not a reply"),
        (row(ASKED, calling(weight=0)), "messages", "weight 0"),
        (
            row(ASKED, {**calling(), "function_call": {"name": "now", "arguments": "{}"}}),
            "messages[1].function_call",
            "beside tool_calls",
        ),
    ],
)
def test_a_row_whose_calls_are_wrong_names_its_field_and_reason(
    given: dict[str, Any], field: str, word: str
) -> None:
    found = problem(given)
    assert (found.line, found.field) == (1, field), found
    assert word in found.reason


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (None, "missing"),
        ({"city": "Rome"}, "not a text"),
        ("", "no JSON object"),
        ("Rome", "no JSON object"),
        ('["Rome"]', "no JSON object"),
        ('{"city": NaN}', "no JSON object"),
        ('{"city": 1, "city": 2}', "no JSON object"),
        ('{"city": "\\ud800"}', "not JSON"),
        ('{"a":' * 40 + "1" + "}" * 40, "no JSON object"),
    ],
)
def test_arguments_are_a_json_object_as_a_text(arguments: Any, word: str) -> None:
    found = problem(row(ASKED, calling(call(arguments=arguments))))
    assert found.field == "messages[1].tool_calls[0].function.arguments"
    assert word in found.reason


def test_a_row_with_tools_is_no_fact() -> None:
    found = rows.load([row(ASKED, SAID)])
    (told,) = from_rows(found, name="rows").problems
    assert "tools" in told.reason
    assert looks_like_facts(found)[0] is False
    without = [Row(1, found[0].messages)]
    assert looks_like_facts(without)[0] is True, "the control: the same row without tools"


def test_a_row_with_tools_is_asked_with_them_and_without_its_reply() -> None:
    (asked,) = prompts.read([row(ASKED, calling(), parallel_tool_calls=False)])
    assert asked.problem is None
    assert asked.body == {"messages": [ASKED], "tools": [WEATHER, NOW], "parallel_tool_calls": False}
    assert json.loads(asked.expected or "") == [call()]
    (asked,) = prompts.read([row(ASKED, calling(), RESULT, SAID)])
    assert asked.body["messages"] == [ASKED, calling(), RESULT]
    assert asked.expected == SAID["content"]
