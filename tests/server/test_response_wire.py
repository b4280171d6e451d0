"""Responses and their events against OpenAI's own published description, where it is at hand."""

from __future__ import annotations

from typing import Any

import pytest

from .description import faults
from .house import House
from .test_responses import LOGPROBS, TOOL, ask, told


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "one two", **LOGPROBS, "instructions": "Be.", "user": "u", "metadata": {"a": "b"}},
        {"input": "one two three", "max_output_tokens": 1},
        {"input": "call weather", "tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}},
        {"input": "{}", "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}},
        {"input": "crash 2"},
    ],
)
def test_replies_and_events_are_as_openai_describes_them(served: House, fields: dict[str, Any]) -> None:
    if fields["input"] != "crash 2":
        whole = ask(served, **fields).json()
        assert faults("Response", whole) == []
        assert faults("Response", served.client().get(f"/v1/responses/{whole['id']}").json()) == []
    for event in told(ask(served, **fields, stream=True)):
        name = {
            "error": "ResponseErrorEvent",
            "response.output_text.delta": "ResponseTextDeltaEvent",
            "response.output_text.done": "ResponseTextDoneEvent",
        }.get(event["type"]) or "".join(
            word.title() for word in event["type"].replace(".", "_").split("_")
        ) + "Event"
        assert faults(name, event) == [], event
        assert faults("ResponseStreamEvent", event) == []


def test_lists_of_items_are_as_openai_describes_them(served: House) -> None:
    input = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    id = ask(served, input).json()["id"]
    listed = served.client().get(f"/v1/responses/{id}/input_items").json()
    assert len(listed["data"]) == 4 and faults("ResponseItemList", listed) == []


def test_control_the_description_finds_what_is_missing_or_wrong(served: House) -> None:
    whole = ask(served, "one").json()
    assert faults("Response", {**whole, "status": "done"}) != []
    assert faults("Response", {name: value for name, value in whole.items() if name != "tools"}) != []
    event = told(ask(served, "one", stream=True))[4]
    assert faults("ResponseStreamEvent", {**event, "delta": 5}) != []
