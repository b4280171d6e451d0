from __future__ import annotations

import json
from typing import Any

import pytest

from .house import House


def complete(served: House, **fields: Any) -> Any:
    return served.client().post("/v1/completions", json={"model": "seedling", **fields})


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("one two", ["one two"]),
        (["a b", "c"], ["a b", "c"]),
        ([104, 105], ["hi"]),
        ([[104, 105], [111]], ["hi", "o"]),
    ],
)
def test_every_form_of_prompt_is_answered_in_order(served: House, prompt: Any, texts: list[str]) -> None:
    body = complete(served, prompt=prompt).json()
    assert [c["text"] for c in body["choices"]] == texts
    assert [c["index"] for c in body["choices"]] == list(range(len(texts)))
    assert body["object"] == "text_completion"


def test_an_echoed_prompt_is_scored_without_a_new_token(served: House) -> None:
    body = complete(served, prompt="one two three", echo=True, logprobs=1, max_tokens=0).json()
    (choice,) = body["choices"]
    assert choice["text"] == "one two three"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"] == {
        "tokens": ["one ", "two ", "three"],
        "token_logprobs": [None, -0.5, -0.5],
        "top_logprobs": [None, {"two ": -0.5}, {"three": -0.5}],
        "text_offset": [0, 4, 8],
    }
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_stream_of_many_prompts_and_choices_says_the_same_as_the_whole(served: House) -> None:
    asked = {"prompt": ["a b c", "d e", "f"], "n": 2, "logprobs": 0}
    whole = complete(served, **asked).json()
    text = complete(served, **asked, stream=True, stream_options={"include_usage": True}).text
    frames = [f.removeprefix("data: ") for f in text.split("\n\n") if f]
    assert frames.pop() == "[DONE]"
    chunks = [json.loads(f) for f in frames]
    assert chunks.pop()["usage"] == whole["usage"]
    for choice in whole["choices"]:
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        assert "".join(c["text"] for c in own) == choice["text"]
        assert [o for c in own for o in c["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]


def test_an_error_of_one_prompt_is_the_requests(served: House) -> None:
    reply = complete(served, prompt=["fine", "fault 400 context_length_exceeded"])
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert reply.json()["error"]["param"] == "prompt"
    streamed = complete(served, prompt="fault 400 context_length_exceeded", stream=True)
    assert streamed.json()["error"]["param"] == "prompt"


def test_prompts_times_choices_are_bounded(served: House) -> None:
    refused = complete(served, prompt=["a"] * 43, n=3)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")
    assert "129" in refused.json()["error"]["message"] and "128" in refused.json()["error"]["message"]
    assert complete(served, prompt=["a"] * 129).status_code == 400
    assert len(complete(served, prompt=["a"] * 32, n=4).json()["choices"]) == 128


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt": []}, "invalid_value"),
        ({"prompt": [[]]}, "invalid_value"),
        ({"prompt": [-1]}, "invalid_value"),
        ({"prompt": "a", "max_tokens": 0}, "invalid_value"),
        ({"prompt": "a", "suffix": "b"}, "unsupported_parameter"),
        ({"prompt": "a", "best_of": 2}, "unsupported_parameter"),
        ({}, "missing_required_parameter"),
    ],
)
def test_what_makes_no_sense_is_refused(served: House, fields: dict[str, Any], code: str) -> None:
    reply = complete(served, **fields)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
