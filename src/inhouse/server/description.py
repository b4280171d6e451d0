"""The API's description of itself (/openapi.json): every route, its parameters, bodies, replies, errors and keys.

Paths come from the routes, bodies from the models that handlers read, replies from `shapes`; what a handler alone
knows, its query and its errors, stands in ROUTES. A query parameter that is not there is refused: `known_query`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from fastapi import FastAPI, Request
from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from inhouse.server import body, shapes
from inhouse.server.edge import OPEN_PATHS
from inhouse.server.openai.files import EXPIRY_S, UPLOAD_PURPOSES
from inhouse.server.openai.fine_tuning import FILTER
from inhouse.server.shapes import list_of
from inhouse.server.version import VERSION
from inhouse.store.records.page import Order

Schema = dict[str, Any]

_REF = "#/components/schemas/{model}"
_TEXT: Schema = {"type": "string"}
_WORDS: Schema = {"type": "array", "items": {"type": "string"}}
_SECONDS: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53}


def _limit(most: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most}


def _after(most: int = 100, **more: Schema) -> dict[str, Schema]:
    """The query of a list."""
    return {"after": _TEXT, "limit": _limit(most), **more}


_LABELS: Schema = {"type": ["object", "null"], "additionalProperties": _TEXT}
_ORDER: Schema = {"type": "string", "enum": [*get_args(Order)]}
_NAMES = {"project_ids": _WORDS, "api_key_ids": _WORDS, "models": _WORDS}
_GROUPS: Schema = {
    "type": "array",
    "items": {"type": "string", "enum": ["project_id", "api_key_id", "model"]},
}


def _both(lists: Mapping[str, Schema]) -> dict[str, Schema]:
    """Lists may be written with brackets behind their name, too."""
    return {name + mark: schema for name, schema in lists.items() for mark in ("", "[]")}


_USAGE = {
    "start_time": _SECONDS,
    "end_time": _SECONDS,
    "bucket_width": {"type": "string", "enum": ["1m", "1h", "1d"]},
    "limit": _limit(1440),
    "page": _SECONDS,
    **_both({**_NAMES, "group_by": _GROUPS}),
}
_ACTS = {
    **_after(),
    **_both(dict.fromkeys(("project_ids", "event_types", "actor_ids", "resource_ids"), _WORDS)),
    **{f"effective_at[{bound}]": {"type": "integer", "minimum": 0} for bound in ("gt", "gte", "lt", "lte")},
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a route is told of beside its path and its body."""

    reply: Any = None
    """The shape of a good reply."""
    query: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    """Of the query."""
    errors: tuple[int, ...] = ()
    """Statuses that it answers beside those that every route may."""
    kind: str = "application/json"
    events: Any = None
    """The shape of an event, where it can stream."""
    repeats: bool = False
    """Whether the Idempotency-Key header is honoured."""
    form: Schema | None = None
    """The body, where it is a form."""


_READ, _FIND = (400, 503), (400, 404, 503)
_WRITE = (400, 404, 409, 413, 415, 503, 507)
_ASK = (*_WRITE, 429)
_KEYED = (401, 403)
"""What every route may answer that needs a key."""
_UPLOAD: Schema = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": [*UPLOAD_PURPOSES]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": EXPIRY_S[0], "maximum": EXPIRY_S[1]},
    },
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
    "required": ["file", "purpose"],
    "additionalProperties": False,
}
_PROJECT = "/v1/organization/projects/{project_id}"
_ACCOUNT = _PROJECT + "/service_accounts/{account_id}"
_WEBHOOK = "/v1/webhook_endpoints/{id}"
_MODEL = {"model": _TEXT}

ROUTES: dict[str, Told] = {
    "GET /health": Told(shapes.Health),
    "GET /ready": Told(shapes.Ready),
    "GET /version": Told(shapes.Version),
    "GET /metrics": Told(kind="text/plain", errors=_READ),
    "GET /v1/models": Told(list_of("ModelList", shapes.Model), errors=_READ),
    "GET /v1/models/{name}": Told(shapes.ModelWithState, errors=_FIND),
    "DELETE /v1/models/{name}": Told(shapes.Deleted, errors=(*_FIND, 409, 507)),
    "POST /v1/chat/completions": Told(shapes.ChatCompletion, errors=_ASK, events=shapes.ChatChunk),
    "POST /v1/completions": Told(shapes.Completion, errors=_ASK, events=shapes.Completion),
    "POST /v1/embeddings": Told(shapes.Embeddings, errors=_ASK),
    "POST /v1/x/rows": Told(kind="text/event-stream", errors=_ASK, events=shapes.RowEvent),
    "POST /v1/responses": Told(shapes.Response, errors=_ASK, events=shapes.ResponseEvent, repeats=True),
    "GET /v1/responses/{id}": Told(shapes.Response, errors=_FIND),
    "DELETE /v1/responses/{id}": Told(shapes.Deleted, errors=(*_FIND, 507)),
    "GET /v1/responses/{id}/input_items": Told(shapes.List, _after(order=_ORDER), errors=_FIND),
    "POST /v1/responses/{id}/cancel": Told(shapes.Response, errors=_FIND),
    "POST /v1/files": Told(shapes.File, errors=_WRITE, repeats=True, form=_UPLOAD),
    "GET /v1/files": Told(
        list_of("FileList", shapes.File),
        _after(10_000, order=_ORDER, purpose=_TEXT),
        errors=_READ,
    ),
    "GET /v1/files/{id}": Told(shapes.File, errors=_FIND),
    "GET /v1/files/{id}/content": Told(kind="application/octet-stream", errors=_FIND),
    "DELETE /v1/files/{id}": Told(shapes.Deleted, errors=(*_FIND, 409, 507)),
    "POST /v1/batches": Told(shapes.Batch, errors=_WRITE, repeats=True),
    "GET /v1/batches": Told(list_of("BatchList", shapes.Batch), _after(), errors=_READ),
    "GET /v1/batches/{id}": Told(shapes.Batch, errors=_FIND),
    "POST /v1/batches/{id}/cancel": Told(shapes.Batch, errors=(*_FIND, 409, 507)),
    "POST /v1/fine_tuning/jobs": Told(shapes.Job, errors=_WRITE, repeats=True),
    "GET /v1/fine_tuning/jobs": Told(list_of("JobList", shapes.Job), _after(metadata=_LABELS), errors=_READ),
    "GET /v1/fine_tuning/jobs/{id}": Told(shapes.Job, errors=_FIND),
    "POST /v1/fine_tuning/jobs/{id}/cancel": Told(shapes.Job, errors=(*_FIND, 409, 507)),
    "POST /v1/fine_tuning/jobs/{id}/pause": Told(shapes.Job, errors=(*_FIND, 409, 507)),
    "POST /v1/fine_tuning/jobs/{id}/resume": Told(shapes.Job, errors=(*_FIND, 409, 507)),
    "GET /v1/fine_tuning/jobs/{id}/checkpoints": Told(
        list_of("CheckpointList", shapes.Checkpoint), _after(), errors=_FIND
    ),
    "GET /v1/fine_tuning/jobs/{id}/events": Told(
        list_of("JobEventList", shapes.JobEvent), _after(), errors=_FIND
    ),
    "GET /v1/facts": Told(
        list_of("FactList", shapes.FactWire),
        {**_MODEL, **_after(1000, order=_ORDER, query={"type": "string", "maxLength": 1000})},
        required=("model",),
        errors=_FIND,
    ),
    "POST /v1/facts": Told(
        shapes.FactWire | list_of("AddedFactList", shapes.FactWire), errors=_WRITE, repeats=True
    ),
    "GET /v1/facts/history": Told(
        list_of("FactChangeList", shapes.FactChangeWire), {**_MODEL, **_after(1000)}, ("model",), _FIND
    ),
    "GET /v1/facts/export": Told(None, _MODEL, ("model",), _FIND, kind="application/jsonl"),
    "GET /v1/facts/report": Told(shapes.FactReport, _MODEL, ("model",), _FIND),
    "POST /v1/facts/explain": Told(shapes.Explanation, errors=_ASK),
    "GET /v1/facts/{id}": Told(shapes.FactWire, errors=_FIND),
    "POST /v1/facts/{id}": Told(shapes.FactWire, errors=_WRITE, repeats=True),
    "DELETE /v1/facts/{id}": Told(shapes.Deleted, errors=(*_FIND, 409, 507)),
    "GET /v1/facts/{id}/history": Told(
        list_of("FactVersionList", shapes.FactChangeWire), _after(1000), errors=_FIND
    ),
    "POST /v1/facts/{id}/rollback": Told(shapes.FactWire, errors=_WRITE, repeats=True),
    "POST /v1/webhook_endpoints": Told(shapes.Webhook, errors=_WRITE),
    "GET /v1/webhook_endpoints": Told(list_of("WebhookList", shapes.Webhook), _after(), errors=_READ),
    "GET /v1/webhook_event_types": Told(shapes.EventTypes, errors=_READ),
    f"GET {_WEBHOOK}": Told(shapes.Webhook, errors=_FIND),
    f"POST {_WEBHOOK}": Told(shapes.Webhook, errors=_WRITE),
    f"DELETE {_WEBHOOK}": Told(shapes.Deleted, errors=(*_FIND, 507)),
    f"POST {_WEBHOOK}/rotate_secret": Told(shapes.Webhook, errors=_WRITE),
    f"POST {_WEBHOOK}/test": Told(shapes.WebhookTest, errors=_WRITE),
    "GET /v1/x/webhooks": Told(list_of("EveryWebhookList", shapes.Webhook), _after(), errors=_READ),
    "GET /v1/x/webhooks/{id}/deliveries": Told(
        list_of("DeliveryList", shapes.Delivery), _after(), errors=_FIND
    ),
    "POST /v1/x/keys": Told(shapes.Key, errors=_WRITE),
    "GET /v1/x/keys": Told(list_of("KeyList", shapes.Key), errors=_READ),
    "DELETE /v1/x/keys/{id}": Told(shapes.Deleted, errors=(*_FIND, 507)),
    "GET /v1/x/bases": Told(list_of("BaseList", shapes.Model), errors=_READ),
    "PUT /v1/x/bases": Told(shapes.Model, errors=_WRITE),
    "POST /v1/x/verify": Told(shapes.Verification, errors=_ASK),
    "POST /v1/x/pins": Told(shapes.Pin, errors=_WRITE),
    "GET /v1/x/pins": Told(list_of("PinList", shapes.Pin), errors=_READ),
    "DELETE /v1/x/pins/{name}": Told(shapes.Deleted, errors=(*_FIND, 507)),
    "GET /v1/organization/projects": Told(
        list_of("ProjectList", shapes.Project), _after(include_archived={"type": "boolean"}), errors=_READ
    ),
    "POST /v1/organization/projects": Told(shapes.Project, errors=_WRITE, repeats=True),
    f"GET {_PROJECT}": Told(shapes.Project, errors=_FIND),
    f"POST {_PROJECT}": Told(shapes.Project, errors=_WRITE),
    f"POST {_PROJECT}/archive": Told(shapes.Project, errors=(*_FIND, 409, 507)),
    f"GET {_PROJECT}/service_accounts": Told(list_of("AccountList", shapes.Account), _after(), errors=_FIND),
    f"POST {_PROJECT}/service_accounts": Told(shapes.Account, errors=_WRITE),
    f"GET {_ACCOUNT}": Told(shapes.Account, errors=_FIND),
    f"DELETE {_ACCOUNT}": Told(shapes.Deleted, errors=(*_FIND, 507)),
    f"POST {_ACCOUNT}/api_keys": Told(shapes.AccountKey, errors=_WRITE),
    f"GET {_PROJECT}/api_keys": Told(list_of("ProjectKeyList", shapes.ProjectKey), _after(), errors=_FIND),
    f"GET {_PROJECT}/api_keys/{{key_id}}": Told(shapes.ProjectKey, errors=_FIND),
    f"DELETE {_PROJECT}/api_keys/{{key_id}}": Told(shapes.Deleted, errors=(*_FIND, 507)),
    f"GET {_PROJECT}/rate_limits": Told(list_of("RateLimitList", shapes.RateLimit), _after(), errors=_FIND),
    f"POST {_PROJECT}/rate_limits/{{limit_id}}": Told(shapes.RateLimit, errors=_WRITE),
    "GET /v1/organization/usage/completions": Told(shapes.UsagePage, _USAGE, ("start_time",), _READ),
    "GET /v1/organization/usage/embeddings": Told(shapes.UsagePage, _USAGE, ("start_time",), _READ),
    "GET /v1/organization/audit_logs": Told(list_of("AuditLogList", shapes.AuditLog), _ACTS, errors=_READ),
    "GET /v1/x/audit/verify": Told(shapes.AuditVerification, {"noted": _TEXT}, errors=_READ),
    "GET /v1/x/audit/export": Told(kind="application/jsonl", errors=_READ),
}


def name_of(method: str, path: str) -> str:
    """A route as ROUTES names it: without the kinds of its path's parameters."""
    return f"{method} {re.sub(r':path(?=})', '', path)}"


async def known_query(request: Request) -> None:
    """The application's dependency, before every route: 400 for a query parameter that the route does not have."""
    path = getattr(request.scope["route"], "path", request.url.path)
    told = ROUTES.get(name_of(request.method, path))
    if told is not None:
        words = (name for name in request.query_params if "metadata" in told.query and FILTER.fullmatch(name))
        body.query(request, (*told.query, *words))


def describe(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """Makes the application describe itself so, instead of the framework's way."""
    page = _page(routes)
    app.openapi = lambda: page  # type: ignore[method-assign]


def _page(routes: Iterable[BaseRoute]) -> Schema:
    schemas: dict[str, Schema] = {}
    paths: dict[str, Schema] = {}
    for route in routes:
        for method in sorted(getattr(route, "methods", None) or ()):
            name = name_of(method, getattr(route, "path", ""))
            if name in ROUTES:
                path = name.partition(" ")[2]
                paths.setdefault(path, {})[method.lower()] = _operation(name, route, ROUTES[name], schemas)
    body.add_schemas(schemas)
    error = {
        "description": "What is wrong, and what to do.",
        **_content("application/json", _shape(shapes.Error, schemas)),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "inhouse", "version": VERSION, "description": (__doc__ or "").partition("\n")[0]},
        "paths": paths,
        "security": [{"key": []}],
        "components": {
            "schemas": schemas,
            "responses": {"Error": error},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(name: str, route: BaseRoute, told: Told, schemas: dict[str, Schema]) -> Schema:
    endpoint: Any = getattr(route, "endpoint", None)
    path = name.partition(" ")[2]
    content: Schema = {}
    if told.reply is not None:
        content |= _content("application/json", _shape(told.reply, schemas))["content"]
    elif told.events is None:
        content |= _content(told.kind, _TEXT)["content"]
    if told.events is not None:
        event = {"anyOf": [_shape(told.events, schemas), _shape(shapes.Error, schemas)]}
        json = {"type": "string", "contentMediaType": "application/json", "contentSchema": event}
        data = {"anyOf": [{"const": "[DONE]"}, json]}
        frame = {"type": "object", "properties": {"data": data}, "required": ["data"]}
        content["text/event-stream"] = {"schema": frame}
    is_open = path in OPEN_PATHS
    errors = sorted({*told.errors, *(() if is_open else _KEYED), *((409, 422) if told.repeats else ())})
    operation: Schema = {
        "operationId": f"{endpoint.__module__.rpartition('.')[2]}.{endpoint.__name__}",
        "summary": (endpoint.__doc__ or "").strip().partition("\n")[0],
        "parameters": list(_parameters(path, told)),
        "responses": {"200": {"description": "As asked.", "content": content}}
        | {str(status): {"$ref": "#/components/responses/Error"} for status in errors},
    }
    if path == "/ready":
        operation["responses"]["503"] = {"description": "Not now.", "content": content}
    if is_open:
        operation["security"] = []
    if told.form is not None:
        operation["requestBody"] = {"required": True, **_content("multipart/form-data", told.form)}
    return operation | (getattr(route, "openapi_extra", None) or {})


def _parameters(path: str, told: Told) -> Iterable[Schema]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for name, schema in told.query.items():
        is_required = name in told.required
        said = {"name": name, "in": "query", "required": is_required, "schema": schema}
        if schema["type"] == "array":
            said |= {"style": "form", "explode": True}
        yield said | ({"style": "deepObject", "explode": True} if schema is _LABELS else {})
    if told.repeats:
        key = {"type": "string", "minLength": 1, "maxLength": 255}
        yield {"name": "Idempotency-Key", "in": "header", "required": False, "schema": key}


def _content(kind: str, schema: Schema) -> Schema:
    return {"content": {kind: {"schema": schema}}}


def _shape(shape: Any, schemas: dict[str, Schema]) -> Schema:
    """The schema of a shape by reference, where it has a name; those it needs are put beside it."""
    schema = TypeAdapter(shape).json_schema(ref_template=_REF, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    name = getattr(shape, "__name__", None)
    if name is None or "title" not in schema:
        return schema
    schemas[name] = schema
    return {"$ref": _REF.format(model=name)}
