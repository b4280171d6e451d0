"""Responses over HTTP: what is asked and answered, whole and streamed, and what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest

from inhouse.server.openai.response_output import Output

from .house import ADAPTER, TUNED, House

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}


def ask(made: House, input: Any, key: str | None = None, **fields: Any) -> httpx2.Response:
    headers = fields.pop("headers", {})
    body = {"model": "seedling", "input": input, **fields}
    return made.client(key).post("/v1/responses", json=body, headers=headers)


def told(reply: httpx2.Response) -> list[dict[str, Any]]:
    """A stream's events, each checked for its name and its number."""
    assert reply.status_code == 200, reply.text
    found = []
    for frame in reply.text.rstrip("\n").split("\n\n"):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def count(made: House, table: str) -> int:
    """How many rows a table has."""
    with made.db.read() as conn:
        return int(conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def unlike(value: Any) -> Any:
    """The value without what differs from one response to the next: ids and times."""
    if isinstance(value, dict):
        changing = ("id", "item_id", "created_at", "completed_at")
        return {name: unlike(part) for name, part in value.items() if name not in changing}
    return [unlike(part) for part in value] if isinstance(value, list) else value


def text_of(response: dict[str, Any]) -> str:
    return str(response["output"][0]["content"][0]["text"])


def test_a_reply_has_every_key_that_clients_read(served: House) -> None:
    body = ask(served, "hello there friend", user="u", metadata={"a": "b"}, temperature=0).json()
    assert body["id"].startswith("resp_") and body["object"] == "response"
    assert abs(body["created_at"] - time.time()) < 60 and abs(body["completed_at"] - time.time()) < 60
    (item,) = body["output"]
    assert item["id"].startswith("msg_")
    assert unlike(body) == {
        "object": "response",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "seedling",
        "output": [
            {
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": "hello there friend",
                        "annotations": [],
                        "logprobs": [],
                    }
                ],
            }
        ],
        "store": True,
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 6,
        },
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "temperature": 0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": "u",
    }


def test_a_tuned_model_answers_with_its_adapter_named(served: House) -> None:
    assert ask(served, "hi", model=TUNED).json()["x_adapter"] == ADAPTER
    assert told(ask(served, "hi", model=TUNED, stream=True))[-1]["response"]["x_adapter"] == ADAPTER
    assert ask(served, "wrong adapter", model=TUNED).status_code == 500


@pytest.mark.parametrize(
    ("input", "fields"),
    [
        ("one two three", {}),
        ("one two three", LOGPROBS),
        ("one two three", {"max_output_tokens": 2}),
        ("", {}),
        ("call weather", {"tools": [TOOL]}),
        ("call weather now", {"tools": [TOOL, TOOL | {"name": "now"}], "tool_choice": "required"}),
    ],
)
def test_a_stream_says_the_same_as_the_whole_reply(served: House, input: str, fields: dict[str, Any]) -> None:
    whole = ask(served, input, **fields).json()
    reply = ask(served, input, **fields, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = told(reply)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert all(e["response"]["status"] == "in_progress" and e["response"]["output"] == [] for e in events[:2])
    assert events[-1]["type"] == f"response.{whole['status']}"
    assert unlike(events[-1]["response"]) == unlike(whole)
    assert len({e["response"]["id"] for e in events if "response" in e}) == 1
    for at, item in enumerate(events[-1]["response"]["output"]):
        own = [e for e in events if e.get("output_index") == at]
        assert own[0]["type"] == "response.output_item.added"
        assert own[0]["item"]["status"] == "in_progress" and own[0]["item"]["id"] == item["id"]
        assert (own[-1]["type"], own[-1]["item"]) == ("response.output_item.done", item)
        said = "".join(e["delta"] for e in own if e["type"].endswith(".delta"))
        if item["type"] == "message":
            (part,) = item["content"]
            assert said == part["text"] and own[1]["type"] == "response.content_part.added"
            done, part_done = own[-3:-1]
            assert (done["type"], done["text"]) == ("response.output_text.done", part["text"])
            assert (part_done["type"], part_done["part"]) == ("response.content_part.done", part)
            assert [t for e in own if e["type"].endswith("text.delta") for t in e["logprobs"]] == part[
                "logprobs"
            ]
        else:
            assert said == item["arguments"] == json.dumps({"place": at})
            assert own[-2]["type"] == "response.function_call_arguments.done"
            assert (own[-2]["arguments"], own[-2]["name"]) == (item["arguments"], item["name"])


def test_a_limit_on_tokens_is_told_as_incomplete(served: House) -> None:
    body = ask(served, "one two three", max_output_tokens=2).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (text_of(body), body["output"][0]["status"]) == ("one two ", "incomplete")
    assert body["completed_at"] is None


def test_logprobs_are_told_where_they_are_asked_for(served: House) -> None:
    (first, second) = ask(served, "two words", **LOGPROBS).json()["output"][0]["content"][0]["logprobs"]
    assert first == {
        "token": "two ",
        "logprob": -0.5,
        "bytes": list(b"two "),
        "top_logprobs": [{"token": "two ", "logprob": -0.5, "bytes": list(b"two ")}],
    }
    assert second["token"] == "words"


@pytest.mark.parametrize(
    "field",
    [
        {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
        {"metadata": {"a": "b"}, "service_tier": "auto"},
        {"background": False, "truncation": "disabled", "include": [], "top_logprobs": 0},
        {"stream_options": {"include_obfuscation": False}, "stream": True},
        {"text": {"format": {"type": "text"}}, "tools": [], "tool_choice": "auto"},
        {"tool_choice": "none", "parallel_tool_calls": False},
        {"temperature": 0, "top_p": 0, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
        {"reasoning": None, "conversation": None, "max_tool_calls": None, "prompt": None},
        {"structured_outputs": {"regex": "a"}},
    ],
)
def test_what_is_honoured_or_harmless_is_accepted(served: House, field: dict[str, Any]) -> None:
    assert ask(served, "hi", **field).status_code == 200


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [fields]}


def schema(**fields: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", **fields}}}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"background": True}, "background", "unsupported_parameter"),
        ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
        ({"reasoning": {"effort": "low"}}, "reasoning", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"max_tool_calls": 3}, "max_tool_calls", "unsupported_parameter"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "unsupported_parameter"),
        ({"seed": 1}, "seed", "unsupported_parameter"),
        ({"service_tier": "priority"}, "service_tier", "unsupported_parameter"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_parameter"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0]", "unsupported_parameter"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice", "unsupported_parameter"),
        (item(type="item_reference", id="msg_1"), "input[0].id", "resource_not_found"),
        (item(type="computer_call", id="msg_1"), "input[0]", "unsupported_parameter"),
        (item(type="reasoning", id="rs_1", summary=[]), "input[0]", "unsupported_parameter"),
        (
            item(role="user", content=[{"type": "input_image", "image_url": "x"}]),
            "input[0].content[0]",
            "unsupported_parameter",
        ),
        ({"stream_options": {"include_obfuscation": True}, "stream": True}, None, "invalid_value"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 21, "include": LOGPROBS["include"]}, "top_logprobs", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": None}, "input", "invalid_type"),
        (item(role="critic", content="x"), "input[0].role", "invalid_value"),
        (item(role="user"), "input[0].content", "missing_required_parameter"),
        (item(type="function_call", call_id="c", name="f", arguments="[]"), "input[0].arguments", None),
        (item(type="function_call", call_id="c", name="f", arguments="{}"), "input", "invalid_value"),
        (item(type="function_call_output", call_id="c", output="x"), "input", "invalid_value"),
        ({"input": [{"role": "user", "content": "x", "id": "msg_1"}] * 2}, "input", "invalid_value"),
        (schema(), "text.format", "missing_required_parameter"),
        ({"text": {"format": {"type": "text", "name": "x"}}}, "text.format", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", None),
        ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
        ({"model": "nothing"}, "model", "model_not_found"),
        ({"previous_response_id": "resp_nothing"}, "previous_response_id", "resource_not_found"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    served: House, fields: dict[str, Any], param: str | None, code: str | None
) -> None:
    reply = ask(served, **{"input": "hi", **fields})
    error = reply.json()["error"]
    assert reply.status_code in (400, 404)
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert error["param"] == param, error
    assert error["code"] == (code or "invalid_value"), error


def test_an_engines_fault_is_told_in_the_words_of_responses(served: House) -> None:
    for stream in (False, True):
        reply = ask(served, "fault 400 context_length_exceeded", stream=stream)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_an_engine_that_dies_midway_ends_the_stream_with_the_error_and_the_failed_response(
    served: House,
) -> None:
    *_, error, failed = told(ask(served, "crash 3", stream=True))
    assert (error["type"], error["code"], error["param"]) == ("error", "engine_lost", None)
    assert error["error"]["code"] == "engine_lost" and error["message"]
    assert failed["type"] == "response.failed"
    response = failed["response"]
    assert (response["status"], response["store"]) == ("failed", False)
    assert response["error"] == {"code": "server_error", "message": error["message"]}
    assert (text_of(response), response["output"][0]["status"]) == ("0 1 2 ", "incomplete")
    assert served.client().get(f"/v1/responses/{response['id']}").status_code == 404
    assert ask(served, "crash 3").status_code == 503


def test_a_fault_of_ours_midway_ends_the_stream_with_an_error_event(
    served: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Output) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(Output, "end", fails)
    *_, error = told(ask(served, "one", stream=True))
    assert (error["type"], error["code"]) == ("error", "internal_error")


# ── conversations ─────────────────────────────────────────────────────────────────────────────────────────


def heard(reply: httpx2.Response) -> Any:
    """The conversation that the engine was given."""
    return json.loads(text_of(reply.json()))


def test_items_become_the_messages_that_templates_know(served: House) -> None:
    input = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "How "}, {"type": "input_text", "text": "?"}],
        },
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"},
        {
            "type": "function_call",
            "call_id": "b",
            "name": "g",
            "arguments": '{"x": 1}',
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "b", "output": "two"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "one"}]},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "messages"},
    ]
    assert heard(ask(served, input, instructions="You are kind.")) == [
        ["system", "You are kind."],
        ["developer", "Be brief."],
        ["user", "How ?"],
        ["assistant", "Let me see.", "a f {}", 'b g {"x": 1}'],
        ["tool", "two", "b"],
        ["tool", "one", "a"],
        ["assistant", "So."],
        ["user", "messages"],
    ]


def test_a_response_is_gone_on_from_in_order_and_without_its_instructions(served: House) -> None:
    first = ask(served, "one", instructions="first").json()
    second = ask(served, "two", previous_response_id=first["id"]).json()
    other = ask(served, "other", previous_response_id=first["id"]).json()
    assert second["previous_response_id"] == first["id"]
    asked = {"previous_response_id": second["id"], "instructions": "now"}
    expected = [
        ["system", "now"],
        ["user", "one"],
        ["assistant", "one"],
        ["user", "two"],
        ["assistant", "two"],
        ["user", "messages"],
    ]
    assert heard(ask(served, "messages", **asked)) == expected
    (final,) = told(ask(served, "messages", **asked, stream=True))[-1:]
    assert json.loads(text_of(final["response"])) == expected
    assert heard(ask(served, "messages", previous_response_id=other["id"]))[2] == ["user", "other"]


def test_calls_are_answered_by_their_outputs(served: House) -> None:
    tools = [TOOL, TOOL | {"name": "now"}]
    called = ask(served, "call weather now", tools=tools).json()
    assert [(i["type"], i["name"], i["status"]) for i in called["output"]] == [
        ("function_call", "weather", "completed"),
        ("function_call", "now", "completed"),
    ]
    outputs: list[Any] = [
        {"type": "function_call_output", "call_id": i["call_id"], "output": "fine"} for i in called["output"]
    ]
    asked = [*outputs, {"role": "user", "content": "messages"}]
    reply = ask(served, asked, previous_response_id=called["id"], tools=tools)
    assert heard(reply) == [
        ["user", "call weather now"],
        ["assistant", "", 'call0 weather {"place": 0}', 'call1 now {"place": 1}'],
        ["tool", "fine", "call0"],
        ["tool", "fine", "call1"],
        ["user", "messages"],
    ]
    by_hand = [{"role": "user", "content": "call weather now"}, *called["output"], *asked]
    assert heard(ask(served, by_hand, tools=tools)) == heard(reply)
    unanswered = ask(served, outputs[:1], previous_response_id=called["id"], tools=tools)
    assert unanswered.status_code == 400 and "call1" in unanswered.json()["error"]["message"]


def test_items_of_stored_responses_are_named_by_their_ids(served: House) -> None:
    called = ask(served, "call weather", tools=[TOOL]).json()
    said = ask(served, "so far").json()["output"][0]["id"]
    input = [
        {"role": "user", "content": "call weather"},
        {"type": "item_reference", "id": called["output"][0]["id"]},
        {"type": "function_call_output", "call_id": "call0", "output": "fine"},
        {"type": "item_reference", "id": said},
        {"role": "user", "content": "messages"},
    ]
    reply = ask(served, input, tools=[TOOL]).json()
    assert json.loads(text_of(reply)) == [
        ["user", "call weather"],
        ["assistant", "", 'call0 weather {"place": 0}'],
        ["tool", "fine", "call0"],
        ["assistant", "so far"],
        ["user", "messages"],
    ]
    listed = served.client().get(f"/v1/responses/{reply['id']}/input_items").json()["data"]
    assert [item["id"] for item in listed][1] == said and len(listed) == 5
    foreign = ask(served, [{"type": "item_reference", "id": said}], served.stranger)
    missing = ask(served, [{"type": "item_reference", "id": "msg_nothing"}], served.stranger)
    assert foreign.status_code == 404 and foreign.text.replace(said, "msg_nothing") == missing.text


def test_the_tools_and_the_choice_are_told_back(served: House) -> None:
    tool = TOOL | {"description": "The weather."}
    fields = {"tools": [tool | {"strict": False}], "tool_choice": {"type": "function", "name": "weather"}}
    body = ask(served, "call weather", **fields).json()
    assert body["tools"] == [tool | {"strict": False}] and body["tool_choice"] == fields["tool_choice"]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}
    assert ask(served, "hi", tools=[tool], tool_choice=allowed).json()["tool_choice"] == allowed
    format = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    assert ask(served, "{}", text={"format": format}).json()["text"] == {"format": format}
