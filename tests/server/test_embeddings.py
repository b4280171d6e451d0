from __future__ import annotations

import base64
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from openai.types import CreateEmbeddingResponse

from inhouse.server.openai import embeddings as resource
from inhouse.store.records import usage

from .house import ADAPTER, TUNED, House, until
from .socket_engine import embedding


def embed(served: House, input: Any, **fields: Any) -> httpx2.Response:
    return served.client().post("/v1/embeddings", json={"model": "seedling", "input": input, **fields})


@pytest.mark.parametrize(
    ("input", "texts", "tokens"),
    [
        ("one two", ["one two"], 2),
        (["a b", "c"], ["a b", "c"], 3),
        ([104, 105], ["hi"], 2),
        ([[104, 105], [111]], ["hi", "o"], 3),
        (["same", "same"], ["same", "same"], 2),
    ],
)
def test_every_form_of_input_gets_its_vectors_in_order(
    served: House, input: Any, texts: list[str], tokens: int
) -> None:
    coded = embed(served, input, encoding_format="base64").json()
    assert [item["embedding"] for item in coded["data"]] == [embedding(text) for text in texts]
    plain = embed(served, input).json()
    assert plain == embed(served, input, encoding_format="float").json()
    for item, text in zip(plain["data"], texts, strict=True):
        assert item["embedding"] == [*struct.unpack("<3f", base64.b64decode(embedding(text)))]
    for body in (coded, plain):
        assert [item["index"] for item in body["data"]] == [*range(len(texts))]
        assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert body["model"] == "seedling" and "x_adapter" not in body
    CreateEmbeddingResponse.model_validate(plain, strict=True)


def test_a_long_list_goes_in_pieces_and_comes_back_whole(served: House) -> None:
    texts = [f"text {i}" for i in range(resource.MAX_INPUTS)]
    body = embed(served, texts, encoding_format="base64").json()
    assert [item["embedding"] for item in body["data"]] == [embedding(text) for text in texts]
    assert body["usage"]["prompt_tokens"] == 2 * len(texts)
    refused = embed(served, [*texts, "one more"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


def test_a_tuned_model_embeds_with_its_adapter(served: House) -> None:
    body = embed(served, "hi", model=TUNED).json()
    assert (body["model"], body["x_adapter"]) == (TUNED, ADAPTER)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"dimensions": 2}, "dimensions", "unsupported_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": [[1], []]}, "input[1]", "invalid_value"),
        ({"input": [-1]}, "input[0]", "invalid_value"),
        ({"input": None}, "input", None),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"stream": True}, "stream", "unsupported_parameter"),
        ({"model": "nobody"}, "model", "model_not_found"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    served: House, fields: dict[str, Any], param: str, code: str | None
) -> None:
    body = {"model": "seedling", "input": "x", **fields}
    reply = served.client().post("/v1/embeddings", json=body)
    assert reply.status_code in (400, 404)
    error = reply.json()["error"]
    assert error["param"] == param and code in (None, error["code"])


def test_too_long_an_input_is_told_by_its_number(served: House) -> None:
    fault = "fault 400 context_length_exceeded"
    alone = embed(served, fault).json()["error"]
    assert (alone["code"], alone["param"]) == ("context_length_exceeded", "input")
    texts = [f"fine {i}" for i in range(200)]
    texts[150] = fault
    among = embed(served, texts).json()["error"]
    assert (among["param"], among["message"]) == ("input[150]", "input[150]: No.")


def test_an_engine_that_dies_is_an_error_that_says_try_again(served: House) -> None:
    for input in ("crash", ["fine", "crash"]):
        reply = embed(served, input)
        assert reply.status_code == 503, reply.text


def rows(served: House) -> tuple[int, int, int]:
    with served.db.read() as conn:
        total = usage.total(conn, "default", 0)
    return total.requests, total.prompt_tokens, total.completion_tokens


def test_usage_is_one_row_with_the_prompts_tokens(served: House) -> None:
    time.sleep(1)  # what other tests used is written by then
    before = rows(served)
    embed(served, ["a b", "c d e"])
    after = until(lambda: (now := rows(served)) != before and now, "the usage is written")
    assert after == (before[0] + 1, before[1] + 5, before[2])


def test_a_caller_that_hangs_up_cancels_what_it_asked_for(served: House) -> None:
    before = served.engine_numbers()["cancelled"]
    with (
        pytest.raises(httpx2.ReadTimeout),
        httpx2.Client(base_url=served.url, timeout=0.5, trust_env=False) as client,
    ):
        client.post(
            "/v1/embeddings",
            json={"model": "seedling", "input": ["fast", "count 100 1"]},
            headers={"authorization": f"Bearer {served.member}"},
        )
    until(lambda: served.engine_numbers()["cancelled"] > before, "the engine hears of it")
    until(lambda: served.engine_numbers()["running"] == 0, "and lets go")


def test_a_list_takes_no_more_places_than_are_under_way(served: House) -> None:
    """Otherwise two long lists at once would fill the house, however small each of their steps is."""
    running = served.server.gateway.relay.running
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(embed, served, ["count 1 0.2"] * 300)
        until(lambda: running["seedling"], "it is under way")
        assert running["seedling"] == resource.AT_ONCE
        assert asked.result().status_code == 200
    assert running["seedling"] == 0
