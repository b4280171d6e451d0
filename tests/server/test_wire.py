"""Replies and requests against OpenAI's own published description, where it is at hand."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from inhouse.server.openai.batches import BatchRequest
from inhouse.server.openai.chat import ChatRequest
from inhouse.server.openai.completions import CompletionRequest
from inhouse.server.openai.embeddings import EmbeddingRequest
from inhouse.server.openai.fine_tuning import JobRequest
from inhouse.server.openai.projects import AccountBody, KeyBody, ProjectBody, RateLimitBody
from inhouse.server.openai.response_request import ResponseRequest

from .description import components
from .house import House, until


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
        ("ProjectCreateRequest", ProjectBody),
        ("ProjectUpdateRequest", ProjectBody),
        ("ProjectServiceAccountCreateRequest", AccountBody),
        ("CreateProjectServiceAccountApiKeyBody", KeyBody),
        ("ProjectRateLimitUpdateRequest", RateLimitBody),
        ("CreateEmbeddingRequest", EmbeddingRequest),
        ("CreateBatchRequest", BatchRequest),
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


def test_every_key_that_openai_s_admin_api_requires_is_in_our_replies(
    spec: dict[str, Any], served: House
) -> None:
    client, path = served.client(served.admin), "/v1/organization/projects"
    served.chat("x")
    project = client.post(path, json={"name": "wire"}).json()
    here = f"{path}/{project['id']}"
    account = client.post(f"{here}/service_accounts", json={"name": "robot"}).json()
    accounts = f"{here}/service_accounts/{account['id']}"
    key = client.post(f"{accounts}/api_keys", json={"name": "more"}).json()
    page = client.get("/v1/organization/usage/completions", params={"start_time": 0, "limit": 1}).json()
    since = {"start_time": int(time.time()) // 86400 * 86400}
    used = client.get("/v1/organization/usage/completions", params=since).json()
    log = client.get("/v1/organization/audit_logs").json()
    replies = {
        "Project": project,
        "ProjectListResponse": client.get(path).json(),
        "ProjectServiceAccount": client.get(accounts).json(),
        "ProjectServiceAccountCreateResponse": account,
        "ProjectServiceAccountApiKey": account["api_key"],
        "ServiceAccountApiKeyBody": key,
        "ProjectServiceAccountListResponse": client.get(f"{here}/service_accounts").json(),
        "ProjectApiKey": client.get(f"{here}/api_keys/{key['id']}").json(),
        "ProjectApiKeyListResponse": client.get(f"{here}/api_keys").json(),
        "ProjectRateLimit": client.get(f"{here}/rate_limits").json()["data"][0],
        "ProjectRateLimitListResponse": client.get(f"{here}/rate_limits").json(),
        "ProjectApiKeyDeleteResponse": client.delete(f"{here}/api_keys/{key['id']}").json(),
        "ProjectServiceAccountDeleteResponse": client.delete(accounts).json(),
        "UsageResponse": page,
        "UsageTimeBucket": page["data"][0],
        "UsageCompletionsResult": used["data"][0]["results"][0],
        "ListAuditLogsResponse": log,
        "AuditLog": log["data"][0],
    }
    assert {name: found for name, reply in replies.items() if (found := lacking(spec, name, reply))} == {}
    client.post(f"{here}/archive")


def test_batches_and_embeddings_are_as_openai_describes_them(spec: dict[str, Any], served: House) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    client = served.client()
    row = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings"}
    rows = [row | {"body": {"model": "seedling", "input": "x"}}, row | {"custom_id": "b", "body": {}}]

    def made(rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch that has ended."""
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("f.jsonl", text)}).json()
        asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        begun = client.post("/v1/batches", json=asked).json()
        check("Batch", begun)

        def ended() -> dict[str, Any] | None:
            batch = dict(client.get(f"/v1/batches/{begun['id']}").json())
            check("Batch", batch)
            return batch if batch["status"] in ("completed", "failed") else None

        return dict(until(ended, "the batch ends"))

    def check(name: str, reply: dict[str, Any]) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": spec}}
        jsonschema.Draft202012Validator(schema).validate(reply)

    check("CreateEmbeddingResponse", client.post("/v1/embeddings", json=rows[0]["body"]).json())
    assert made(rows)["status"] == "completed"
    assert made([rows[0], rows[0]])["status"] == "failed"
    check("ListBatchesResponse", client.get("/v1/batches").json())
