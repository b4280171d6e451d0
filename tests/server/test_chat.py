from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from .house import ADAPTER, FINGERPRINT, TUNED, House


def events(reply: httpx2.Response) -> list[Any]:
    """A stream's data frames; the last one must be [DONE]."""
    frames = [frame.removeprefix("data: ") for frame in reply.text.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    return [json.loads(frame) for frame in frames]


def test_a_reply_has_every_key_that_clients_read(served: House) -> None:
    reply = served.chat("hello there friend")
    body = reply.json()
    assert reply.status_code == 200
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "seedling"
    assert body["system_fingerprint"] == FINGERPRINT
    assert "x_adapter" not in body
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello there friend", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_usage_says_how_much_of_the_prompt_was_found_computed(served: House) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    for usage in (
        served.chat("cached 2").json()["usage"],
        events(served.chat("cached 2", **asked))[-1]["usage"],
    ):
        assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (2, {"cached_tokens": 2})


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_every_chunk_counts_for_whoever_asks_it_to(served: House, path: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": "seedling", "stream": True, "stream_options": options}
    body |= (
        {"prompt": "a b c"} if path == "completions" else {"messages": [{"role": "user", "content": "a b c"}]}
    )
    chunks = events(served.client(served.member).post(f"/v1/{path}", json=body))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert chunks[-2]["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("tier", "priority"), [(None, "interactive"), ("default", "interactive"), ("flex", "batch")]
)
def test_flex_is_batch_for_the_engine(served: House, tier: str | None, priority: str) -> None:
    content = served.chat("whose turn", service_tier=tier).json()["choices"][0]["message"]["content"]
    assert content.split() == ["default", priority]


def test_a_tuned_model_answers_with_its_adapter_named(served: House) -> None:
    assert served.chat("hi", model=TUNED).json()["x_adapter"] == ADAPTER
    chunks = events(served.chat("hi", model=TUNED, stream=True))
    assert {chunk["x_adapter"] for chunk in chunks} == {ADAPTER}


def test_an_engine_that_answers_with_another_adapter_is_an_error(served: House) -> None:
    assert served.chat("wrong adapter", model=TUNED).status_code == 500


def test_a_stream_says_the_same_as_the_whole_reply(served: House) -> None:
    asked = {"n": 2, "stop": ["seven"]}
    text = "one two three seven eight"
    whole = served.chat(text, **asked).json()
    reply = served.chat(text, **asked, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    chunks = events(reply)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    for i, choice in enumerate(whole["choices"]):
        own = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == i]
        assert own[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert "".join(c["delta"].get("content", "") for c in own) == choice["message"]["content"]
        assert [c["finish_reason"] for c in own if c["finish_reason"]] == [choice["finish_reason"]]
    assert all(c["usage"] is None for c in chunks[:-1])
    assert whole["choices"][0]["message"]["content"] == "one two three "


def test_logprobs_are_given_whole_and_streamed(served: House) -> None:
    asked = {"logprobs": True, "top_logprobs": 1}
    whole = served.chat("two words", **asked).json()["choices"][0]["logprobs"]["content"]
    assert [t["token"] for t in whole] == ["two ", "words"]
    assert whole[0]["top_logprobs"] == [{"token": "two ", "logprob": -0.5, "bytes": list(b"two ")}]
    chunks = events(served.chat("two words", **asked, stream=True))
    streamed = [t for c in chunks for t in (c["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert streamed == whole


def test_a_limit_on_tokens_is_told_as_length(served: House) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        choice = served.chat("one two three", **{name: 2}).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("one two ", "length")


@pytest.mark.parametrize(
    "field",
    [
        {"user": "u"},
        {"metadata": {"a": "b"}},
        {"store": False},
        {"service_tier": "auto"},
        {"safety_identifier": "s"},
        {"prompt_cache_key": "k"},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
        {"parallel_tool_calls": True},
        {"tool_choice": "none"},
        {"tools": None, "functions": None, "reasoning_effort": None, "stop": None, "n": None},
        {"temperature": 0, "top_p": 0, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 7},
        {"logit_bias": {"5": -100}, "frequency_penalty": -2, "presence_penalty": 2.0},
    ],
)
def test_what_is_honoured_or_harmless_is_accepted(served: House, field: dict[str, Any]) -> None:
    assert served.chat("hi", **field).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
        ({"temprature": 1}, "temprature", "unsupported_parameter"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 10**9}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "invalid_value",
        ),
        ({"logit_bias": {"x": 1}}, "logit_bias.x", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"model": "nothing"}, "model", "model_not_found"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    served: House, fields: dict[str, Any], param: str, code: str
) -> None:
    error = served.chat("hi", **fields).json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert set(error) == {"message", "type", "param", "code"}


def test_a_refused_value_is_not_quoted(served: House) -> None:
    assert "canary" not in served.chat("hi", temperature="canary", seed="canary").text


def test_image_parts_are_refused_and_text_parts_read(served: House) -> None:
    parts = [{"type": "text", "text": "from "}, {"type": "text", "text": "parts"}]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": parts}]
    assert served.chat("", messages=messages).json()["choices"][0]["message"]["content"] == "from parts"
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    assert served.chat("", messages=image).json()["error"]["param"].startswith("messages[0].content")


def test_an_engines_fault_before_the_first_token_is_a_plain_error(served: House) -> None:
    for stream in (False, True):
        reply = served.chat("fault 400 context_length_exceeded", stream=stream)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_an_engine_that_dies_midway_ends_the_stream_with_an_error_frame(served: House) -> None:
    reply = served.chat("crash 3", stream=True)
    assert reply.status_code == 200
    last = json.loads(reply.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "engine_lost"
    assert "[DONE]" not in reply.text
    assert served.chat("crash 3").status_code == 503


def test_an_engine_that_dies_before_the_first_token_is_asked_again(served: House) -> None:
    assert served.chat("vanish").json()["choices"][0]["message"]["content"] == "vanish"
