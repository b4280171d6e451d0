"""The judge of all replies: it finds what is broken, and waives nothing that needs no waiver."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from . import description
from .house import House, until
from .judge import HEARD, WAIVERS, Said, Waiver, judge, operation_of

CHAT = {"model": "seedling", "messages": [{"role": "user", "content": "a b"}]}


@pytest.fixture(autouse=True)
def openai() -> None:
    description.components()


def heard(count: int) -> list[Said]:
    """So many replies: one is kept a moment after its last byte has left."""
    until(lambda: len(HEARD) >= count, "the replies are heard")
    return [HEARD.popleft() for _ in range(len(HEARD))]


def is_for(waiver: Waiver, operation: str | None, fault: str) -> bool:
    return bool(re.fullmatch(waiver.operation, operation or "") and re.search(waiver.fault, fault))


def test_every_operation_of_openai_s_that_we_serve_is_known_to_the_judge() -> None:
    for asked, found, name in [
        (("POST", "/v1/chat/completions"), "POST /chat/completions", "CreateChatCompletionResponse"),
        (("GET", "/v1/models/a/b"), "GET /models/{model}", "Model"),
        (("GET", "/v1/models"), "GET /models", "ListModelsResponse"),
        (("POST", "/v1/embeddings"), "POST /embeddings", "CreateEmbeddingResponse"),
        (("GET", "/v1/files/f"), "GET /files/{file_id}", "OpenAIFile"),
        (
            ("POST", "/v1/fine_tuning/jobs/j/cancel"),
            "POST /fine_tuning/jobs/{fine_tuning_job_id}/cancel",
            "FineTuningJob",
        ),
        (
            ("GET", "/v1/responses/r/input_items"),
            "GET /responses/{response_id}/input_items",
            "ResponseItemList",
        ),
        (("GET", "/v1/batches"), "GET /batches", "ListBatchesResponse"),
        (
            ("POST", "/v1/organization/projects/p/archive"),
            "POST /organization/projects/{project_id}/archive",
            "Project",
        ),
    ]:
        operation, schemas = operation_of(*asked)
        assert (operation, schemas["application/json"]) == (found, name)
    assert operation_of("GET", "/v1/x/keys") == (None, {})


def test_no_waiver_is_unused(served: House) -> None:
    client, admin = served.client(), served.client(served.admin)
    HEARD.clear()
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    client.post("/v1/chat/completions", json=CHAT | streamed | {"logprobs": True})
    client.post("/v1/completions", json={"model": "seedling", "prompt": "a b"} | streamed)
    client.post("/v1/completions", json={"model": "seedling", "prompt": "a b", "echo": True, "logprobs": 1})
    client.post("/v1/embeddings", json={"model": "seedling", "input": "a", "encoding_format": "base64"})
    served.client(served.stranger).get("/v1/batches")
    file = {"file": ("f.jsonl", b'{"input": "a", "output": "b"}\n')}
    client.post("/v1/files", data={"purpose": "evals"}, files=file)
    id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=file).json()["id"]
    asked = {"model": "seedling", "training_file": id, "method": {"type": "memory"}}
    job = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
    client.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    asked = {"model": "seedling", "training_file": id, "hyperparameters": {"learning_rate_multiplier": 0.5}}
    job = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
    client.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    owner = {"name": "boss", "x_role": "admin"}
    admin.post("/v1/organization/projects/default/service_accounts", json=owner)
    admin.get("/v1/organization/audit_logs")
    used: Counter[int] = Counter()
    for said in heard(13):
        operation, _ = operation_of(said.method, said.path)
        for fault in judge(said, ()):
            told = fault.partition(": ")[2]
            matching = [i for i, w in enumerate(WAIVERS) if is_for(w, operation, told)]
            assert matching, fault
            used.update(matching)
    assert set(used) == set(range(len(WAIVERS))), [w.why for i, w in enumerate(WAIVERS) if i not in used]
    assert all(waiver.why for waiver in WAIVERS)


@pytest.mark.parametrize(
    ("path", "asked", "break_it"),
    [
        ("/v1/chat/completions", CHAT, lambda reply: reply["choices"][0].update(finish_reason="done")),
        ("/v1/chat/completions", CHAT, lambda reply: reply.pop("id")),
        (
            "/v1/completions",
            {"model": "seedling", "prompt": "a"},
            lambda reply: reply["choices"][0].pop("text"),
        ),
        (
            "/v1/embeddings",
            {"model": "seedling", "input": "a"},
            lambda reply: reply["data"][0].update(embedding=["x"]),
        ),
        ("/v1/responses", {"model": "seedling", "input": "a"}, lambda reply: reply.update(status="done")),
        ("/v1/completions", {"model": "seedling"}, lambda reply: reply["error"].pop("param")),
    ],
)
def test_a_reply_that_is_broken_on_purpose_is_found(
    served: House, path: str, asked: Any, break_it: Any
) -> None:
    HEARD.clear()
    served.client().post(path, json=asked)
    (said,) = heard(1)
    assert judge(said) == []
    reply = json.loads(said.body)
    break_it(reply)
    broken = Said(said.method, said.path, said.status, said.kind, json.dumps(reply).encode(), said.is_whole)
    assert judge(broken)


def test_an_event_that_is_broken_on_purpose_is_found(served: House) -> None:
    HEARD.clear()
    served.client().post("/v1/chat/completions", json=CHAT | {"stream": True})
    served.client().post("/v1/responses", json={"model": "seedling", "input": "a b", "stream": True})
    chat, response = heard(2)
    assert judge(chat) == judge(response) == []
    for said, good, bad in [
        (chat, b'"object":"chat.completion.chunk"', b'"object":"chat.completion"'),
        (response, b'"sequence_number":1', b'"sequence_number":"1"'),
    ]:
        body = said.body.replace(good, bad)
        assert body != said.body
        assert judge(Said(said.method, said.path, said.status, said.kind, body, said.is_whole))


def test_an_error_that_is_no_json_is_found() -> None:
    said = Said("GET", "/v1/models", 500, "text/plain", b"Internal Server Error", True)
    assert judge(said) == ["GET /v1/models 500: an error of the kind 'text/plain'"]
