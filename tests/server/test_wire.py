"""Replies and requests against OpenAI's own published description, where it is at hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inhouse.server.openai.chat import ChatRequest
from inhouse.server.openai.completions import CompletionRequest
from inhouse.server.openai.fine_tuning import JobRequest
from inhouse.server.openai.response_request import ResponseRequest

from .description import components
from .house import House


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return dict(components()["schemas"])


def properties(spec: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    found = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        found |= properties(spec, spec[part["$ref"].split("/")[-1]] if "$ref" in part else part)
    return found


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("CreateChatCompletionRequest", ChatRequest),
        ("CreateCompletionRequest", CompletionRequest),
        ("CreateFineTuningJobRequest", JobRequest),
        ("CreateResponse", ResponseRequest),
    ],
)
def test_every_field_that_openai_has_is_known_by_name(spec: dict[str, Any], name: str, model: Any) -> None:
    assert properties(spec, spec[name]) <= set(model.model_fields)


def lacking(spec: dict[str, Any], name: str, reply: dict[str, Any]) -> set[str]:
    return set(spec[name].get("required", [])) - set(reply)


def test_every_key_that_openai_requires_is_in_our_replies(spec: dict[str, Any], served: House) -> None:
    client = served.client()
    rows = b'{"input": "a", "output": "b"}\n'
    file = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("f.jsonl", rows)}).json()
    job = client.post("/v1/fine_tuning/jobs", json={"model": "seedling", "training_file": file["id"]}).json()
    event = client.get(f"/v1/fine_tuning/jobs/{job['id']}/events").json()["data"][0]
    plain = client.post("/v1/completions", json={"model": "seedling", "prompt": "x"}).json()
    chunk = json.loads(served.chat("x", stream=True).text.split("\n\n")[0].removeprefix("data: "))
    replies = {
        "OpenAIFile": file,
        "FineTuningJob": job,
        "FineTuningJobEvent": event,
        "Model": client.get("/v1/models/seedling").json(),
        "CreateChatCompletionResponse": served.chat("x").json(),
        "CreateChatCompletionStreamResponse": chunk,
        "CreateCompletionResponse": plain,
        "ListFilesResponse": client.get("/v1/files").json(),
        "ListPaginatedFineTuningJobsResponse": client.get("/v1/fine_tuning/jobs").json(),
        "DeleteFileResponse": client.delete(f"/v1/files/{file['id']}").json(),
    }
    client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert {name: found for name, reply in replies.items() if (found := lacking(spec, name, reply))} == {}
