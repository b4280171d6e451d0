"""The API's description of itself: whole, small, and kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing.jsonschema

from inhouse.server import description
from inhouse.server.app import routes
from inhouse.server.description import ROUTES, name_of

from .house import House, until
from .judge import HEARD

fuzzing = pytest.importorskip("tests.server.fuzz", reason="schemathesis is not installed")
MAKES_UP = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
"""schemathesis draws from `random` inside a strategy."""


@pytest.fixture
def page(served: House) -> dict[str, Any]:
    return dict(served.client().get("/openapi.json").json())


def test_every_route_is_described_and_nothing_else(served: House, page: dict[str, Any]) -> None:
    app: Any = served.server.config.app
    served_routes = {
        name_of(method, getattr(route, "path", ""))
        for route in routes(app)
        for method in (getattr(route, "methods", None) or set()) - {"HEAD"}
    } - {"GET /openapi.json"}
    assert served_routes == set(ROUTES)
    told = {f"{method.upper()} {path}" for path, of in page["paths"].items() for method in of}
    assert told == set(ROUTES)


def test_it_is_valid_small_and_refers_to_what_is_there(served: House, page: dict[str, Any]) -> None:
    raw = served.client().get("/openapi.json").content
    assert len(raw) < 200_000
    for schema in page["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    referred = set(re.findall(rb'"#/components/schemas/(\w+)"', raw))
    assert {name.decode() for name in referred} <= set(page["components"]["schemas"])
    ids = [one["operationId"] for of in page["paths"].values() for one in of.values()]
    assert len(ids) == len(set(ids))
    assert all(one["summary"] for of in page["paths"].values() for one in of.values())


def test_every_operation_tells_of_its_key_and_its_errors(served: House, page: dict[str, Any]) -> None:
    assert page["security"] == [{"key": []}]
    is_open = {
        path for path, of in page["paths"].items() if any(one.get("security") == [] for one in of.values())
    }
    assert is_open == {"/health", "/ready", "/version"}
    for path in set(page["paths"]) - is_open:
        for one in page["paths"][path].values():
            assert {"200", "400", "401", "403", "503"} <= set(one["responses"])
    assert served.client("").get("/openapi.json").status_code == 401


def test_what_is_sent_as_a_body_is_described(page: dict[str, Any]) -> None:
    without = {
        f"{m.upper()} {p}"
        for p, of in page["paths"].items()
        for m, one in of.items()
        if "requestBody" not in one
    }
    assert {name for name in without if name.startswith(("POST", "PUT"))} == {
        "POST /v1/responses/{id}/cancel",
        "POST /v1/batches/{id}/cancel",
        *(f"POST /v1/fine_tuning/jobs/{{id}}/{what}" for what in ("cancel", "pause", "resume")),
        "POST /v1/organization/projects/{project_id}/archive",
    }


@pytest.mark.parametrize(
    "path", ["/v1/files/x", "/v1/fine_tuning/jobs/x", "/v1/models/seedling", "/v1/batches/x"]
)
def test_a_query_that_is_not_described_is_refused(served: House, path: str) -> None:
    refused = served.client().get(path, params={"verbose": "1"}).json()["error"]
    assert (refused["code"], refused["param"]) == ("unsupported_parameter", "verbose")


@MAKES_UP
def test_made_up_requests_find_nothing_that_is_not_described(tmp_path: Path) -> None:
    with fuzzing.stocked(tmp_path) as (made, known):
        found = fuzzing.fuzz(made, known, cases=350, seed=20261128)
    assert found.faults == {}, "\n".join(f"{kind}\n  {told}" for kind, told in found.faults.items())
    assert found.cases >= 350 and len(found.operations) == len(ROUTES)
    assert sum(1 for count in found.well.values() if count) > 35, "too few requests mean something"


@MAKES_UP
def test_control_a_description_that_is_wrong_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = description.Told(description.shapes.Health, errors=())
    loose = description.Told(
        description.shapes.List, {"limit": {"type": "integer", "maximum": 5}}, errors=(400, 503)
    )
    monkeypatch.setattr(description, "ROUTES", {"GET /v1/models": told, "GET /v1/files": loose})
    with fuzzing.stocked(tmp_path) as (made, known):
        found = fuzzing.fuzz(made, known, cases=60, seed=1)
    kinds = {kind.partition(": ")[0] for kind in found.faults}
    assert kinds == {"GET /v1/models", "GET /v1/files"}, found.faults


def test_what_a_walk_is_answered_fits_the_shapes(served: House, page: dict[str, Any]) -> None:
    """Without schemathesis: the replies of a usual day, streams too, against the schema that is told for each."""
    client, admin = served.client(), served.client(served.admin)
    HEARD.clear()
    chat = {"model": "seedling", "messages": [{"role": "user", "content": "a b"}]}
    for asked in (chat, chat | {"stream": True}, chat | {"logprobs": True, "top_logprobs": 1}):
        client.post("/v1/chat/completions", json=asked)
    client.post("/v1/completions", json={"model": "seedling", "prompt": "a", "stream": True})
    client.post("/v1/embeddings", json={"model": "seedling", "input": ["a", "b"]})
    client.post("/v1/responses", json={"model": "seedling", "input": "a", "stream": True})
    for path in (
        "models",
        "models/seedling",
        "files",
        "batches",
        "fine_tuning/jobs",
        "x/keys",
        "x/bases",
        "x/pins",
    ):
        admin.get(f"/v1/{path}")
    for path in ("projects", "projects/default", "projects/default/api_keys", "projects/default/rate_limits"):
        admin.get(f"/v1/organization/{path}")
    admin.get("/v1/organization/audit_logs")
    admin.get("/v1/x/audit/verify")
    whole = referencing.Resource(page, referencing.jsonschema.DRAFT202012)
    registry: Any = referencing.Registry().with_resource("us:", whole)
    until(lambda: len(HEARD) >= 20, "the replies are heard")
    for one in list(HEARD):
        path = next(p for p in page["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", p), one.path))
        place = f"us:#/paths/{path.replace('~', '~0').replace('/', '~1')}/{one.method.lower()}/responses/200/content"
        kind = one.kind.replace("/", "~1")
        validator = jsonschema.Draft202012Validator({"$ref": f"{place}/{kind}/schema"}, registry=registry)
        if one.kind == "application/json":
            validator.validate(json.loads(one.body))
            continue
        content = page["paths"][path][one.method.lower()]["responses"]["200"]["content"][one.kind]
        event = content["schema"]["properties"]["data"]["anyOf"][1]["contentSchema"]
        for block in one.body.decode().strip().split("\n\n"):
            data = block.rpartition("data: ")[2]
            if data != "[DONE]":
                schema = {**event, "components": page["components"]}
                jsonschema.Draft202012Validator(schema).validate(json.loads(data))
