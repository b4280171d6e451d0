"""Two projects: every route, asked for every object of the other one, answers as if there were no such object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.routing import APIRoute

from inhouse.schema import FactInput, File
from inhouse.server import auth
from inhouse.server.app import routes
from inhouse.store.db import Database
from inhouse.store.records import accounts, files, keys, projects

from .house import TUNED, House, engine, house, remember, until

IN_PATH = "{id}"
TABLES = (
    "files",
    "jobs",
    "models",
    "banks",
    "keys",
    "service_accounts",
    "batches",
    "responses",
    "webhooks",
    "pins",
)
ROW = {"model": IN_PATH, "messages": [{"role": "user", "content": "x"}]}
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
OPERATOR_S = ("/v1/organization", "/v1/x/keys", "/v1/x/webhooks")
"""Where every project is an admin's."""
PAGED = ("files", "fine_tuning/jobs", "batches")
JSONL = {"content-type": "application/jsonl"}


@dataclass(frozen=True)
class Ask:
    """One request, with the place in it where an object's id goes."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    params: dict[str, str] = field(default_factory=dict)
    is_lines: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body or self.params or ''}"


BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/facts/{id}"): {"answer": "taken over"},
    ("POST", "/v1/facts/{id}/rollback"): {"version": 1},
    ("POST", "/v1/webhook_endpoints/{id}"): {"name": "taken over"},
    ("POST", "/v1/webhook_endpoints/{id}/test"): {"event_type": "batch.failed"},
}
"""What a route with an id in its path needs, so that it gets as far as looking the object up."""

ELSEWHERE = [
    Ask("POST", "/v1/chat/completions", ROW),
    Ask("POST", "/v1/chat/completions", ROW | {"stream": True}),
    Ask("POST", "/v1/chat/completions", ROW | {"model": "seedling", "x_memory": IN_PATH}),
    Ask("POST", "/v1/chat/completions", ROW | {"model": "seedling", "x_memory": {"model": IN_PATH}}),
    Ask("POST", "/v1/completions", {"model": IN_PATH, "prompt": "x"}),
    Ask("POST", "/v1/embeddings", {"model": IN_PATH, "input": "x"}),
    Ask("POST", "/v1/batches", BATCH | {"input_file_id": IN_PATH}),
    *(
        Ask("POST", "/v1/responses", {"model": "seedling", "input": "x"} | more)
        for more in (
            {"model": IN_PATH},
            {"model": IN_PATH, "stream": True},
            {"previous_response_id": IN_PATH},
            {"input": [{"type": "item_reference", "id": IN_PATH}]},
            {"x_memory": IN_PATH},
        )
    ),
    Ask("POST", "/v1/x/rows", ROW, is_lines=True),
    Ask("POST", "/v1/x/rows", ROW | {"model": "seedling", "x_memory": IN_PATH}, is_lines=True),
    Ask("POST", "/v1/fine_tuning/jobs", {"model": "seedling", "training_file": IN_PATH}),
    Ask("POST", "/v1/fine_tuning/jobs", {"model": IN_PATH, "training_file": "OWN"}),
    Ask(
        "POST",
        "/v1/fine_tuning/jobs",
        {"model": "seedling", "training_file": "OWN", "validation_file": IN_PATH},
    ),
    Ask("POST", "/v1/facts", {"model": IN_PATH, "question": "Who?", "answer": "Me."}),
    Ask("POST", "/v1/facts/explain", {"model": IN_PATH, "question": "Who?"}),
    *(
        Ask("GET", f"/v1/facts{kind}", params={"model": IN_PATH})
        for kind in ("", "/history", "/export", "/report")
    ),
    *(Ask("GET", f"/v1/{kind}", params={"after": IN_PATH}) for kind in (*PAGED, "webhook_endpoints")),
    Ask("POST", "/v1/x/pins", {"model": IN_PATH}),
    Ask("POST", "/v1/x/verify", {"model": IN_PATH}),
]
"""Requests that name an object in their body or their query."""


@dataclass
class Neighbours:
    """A server, the objects of its default project, and the keys of another."""

    made: House
    objects: dict[str, str]
    own_file: str
    keys: dict[str, str]
    asks: list[Ask]

    def replies(self, role: str, ask: Ask, id: str) -> tuple[int, str, dict[str, str]]:
        """What the other project is answered, with the id taken out."""

        def filled(text: str) -> str:
            return text.replace(IN_PATH, id).replace('"OWN"', json.dumps(self.own_file))

        path = ask.path.replace(IN_PATH, quote(id, safe=""))
        content = None if ask.body is None else filled(json.dumps(ask.body))
        headers = JSONL if ask.is_lines else {"content-type": "application/json"}
        params = {name: filled(value) for name, value in ask.params.items()}
        client = self.made.client(self.keys[role])
        reply = client.request(ask.method, path, content=content, params=params, headers=headers)
        return reply.status_code, reply.text.replace(id, "ID"), _told(reply)

    def leaks(self, role: str) -> list[str]:
        """Each request that is answered otherwise for an object than for one that does not exist."""
        found = []
        for ask in self.asks:
            if role == "admin" and ask.path.startswith(OPERATOR_S):
                continue
            for kind, id in self.objects.items():
                nobody = id[:-8] + "".join("0" if c != "0" else "1" for c in id[-8:])
                answers = [self.replies(role, ask, one) for one in (id, nobody)]
                if answers[0] != answers[1] or (answers[0][0] < 400 and not ask.is_lines):
                    found.append(f"{ask} for a {kind}: {answers}")
        return found

    def kept(self) -> dict[str, list[Any]]:
        """All that the default project has."""
        with self.made.db.read() as conn:
            return {name: _rows(conn, name) for name in TABLES} | {
                "facts": [tuple(row) for row in conn.execute(sa.text("SELECT * FROM facts ORDER BY seq"))]
            }


def _rows(conn: sa.Connection, table: str) -> list[Any]:
    """The default project's rows; when a key was last used is no object of anybody's."""
    query = sa.text(f"SELECT * FROM {table} WHERE project = 'default' ORDER BY seq")
    return [{k: v for k, v in row._mapping.items() if k != "last_used_at"} for row in conn.execute(query)]


def _told(reply: httpx2.Response) -> dict[str, str]:
    """The headers that could tell; a request's own and the limits' clocks are left out."""
    return {
        name: value
        for name, value in reply.headers.items()
        if name not in ("date", "x-request-id") and not name.startswith("x-ratelimit")
    }


def asks_of(app: FastAPI) -> list[Ask]:
    """Every route and method with an id in its path, and those that name one elsewhere."""
    found = []
    for route in routes(app):
        if isinstance(route, APIRoute) and "{" in route.path:
            path = re.sub(r"\{[^}]+\}", IN_PATH, route.path)
            found += [
                Ask(m, path, BODIES.get((m, route.path), {} if m == "POST" else None)) for m in route.methods
            ]
    return sorted(found, key=str) + ELSEWHERE


def upload(made: House, secret: str) -> str:
    rows = {"file": ("rows.jsonl", b'{"input": "a", "output": "b"}\n')}
    reply = made.client(secret).post("/v1/files", data={"purpose": "fine-tune"}, files=rows)
    return str(reply.json()["id"])


def answered(made: House) -> dict[str, str]:
    """A stored response, its item, and a batch that has ended."""
    client = made.client()
    response = client.post("/v1/responses", json={"model": "seedling", "input": "x"}).json()
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": ROW | {"model": "seedling"},
    }
    rows = {"file": ("rows.jsonl", json.dumps(line).encode())}
    file = client.post("/v1/files", data={"purpose": "batch"}, files=rows).json()["id"]
    batch = client.post("/v1/batches", json=BATCH | {"input_file_id": file}).json()["id"]
    until(lambda: client.get(f"/v1/batches/{batch}").json()["status"] == "completed", "the batch ends")
    return {"response": response["id"], "item": response["output"][0]["id"], "batch": batch, "requests": file}


def key_of_other(db: Database, role: keys.Role) -> str:
    secret = auth.new_secret()
    with db.write() as conn:
        project = projects.ensure(conn, "other", 1.0)
        keys.add(conn, project=project, name=role, secret_hash=auth.hash_of(secret), role=role, now=1.0)
    return secret


@pytest.fixture
def neighbours(tmp_path: Path, database_url: str) -> Iterator[Neighbours]:
    with (
        house(tmp_path, database_url=database_url, load_wait_s=5.0, webhook_hosts="127.0.0.1") as made,
        engine(made.db, tmp_path),
    ):
        file = upload(made, made.member)
        client = made.client()
        job = client.post("/v1/fine_tuning/jobs", json={"model": "seedling", "training_file": file}).json()[
            "id"
        ]
        until(lambda: client.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] == "queued", "it is checked")
        memory, (fact, *_) = remember(made, FactInput(question="Who?", answer="Mara."))
        with made.db.read() as conn:
            row = next(k for k in keys.list(conn, "default") if k.role == "member")
            account = accounts.get(conn, "default", row.account).id
        objects = {"file": file, "job": job, "model": TUNED, "memory": memory, "fact": fact.id}
        objects |= {"key": row.id, "account": account, **answered(made)}
        hook = {"url": "http://127.0.0.1:9/", "name": "n", "event_types": ["batch.failed"]}
        objects["webhook"] = made.client(made.admin).post("/v1/webhook_endpoints", json=hook).json()["id"]
        theirs: dict[str, str] = {"member": made.stranger, "admin": key_of_other(made.db, "admin")}
        app = made.server.config.app
        assert isinstance(app, FastAPI)
        yield Neighbours(made, objects, upload(made, made.stranger), theirs, asks_of(app))


@pytest.mark.parametrize("role", ["member", "admin"])
def test_every_route_answers_for_another_s_object_as_for_none_and_changes_nothing(
    neighbours: Neighbours, role: str
) -> None:
    assert len(neighbours.asks) > 45
    before = neighbours.kept()
    assert neighbours.leaks(role) == []
    assert neighbours.kept() == before
    assert all(before[name] for name in (*TABLES[:-1], "facts")), "the default project has one of each"


def test_lists_hold_nothing_of_another_project(neighbours: Neighbours) -> None:
    client = neighbours.made.client(neighbours.keys["member"])
    for path in (*PAGED, "models"):
        text = client.get(f"/v1/{path}").text
        assert [id for id in neighbours.objects.values() if id in text] == []


def test_another_s_idempotency_key_means_nothing(neighbours: Neighbours) -> None:
    made = neighbours.made
    rows = {"file": ("rows.jsonl", b'{"input": "a", "output": "b"}\n')}
    ids = [
        made.client(secret)
        .post("/v1/files", data={"purpose": "fine-tune"}, files=rows, headers={"idempotency-key": "same"})
        .json()["id"]
        for secret in (made.member, made.stranger)
    ]
    assert ids[0] != ids[1]


def test_control_a_lookup_that_forgets_the_project_is_found(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = files.get

    def careless(conn: sa.Connection, project: str, id: str) -> File:
        owner = conn.execute(sa.text("SELECT project FROM files WHERE id = :id"), {"id": id}).scalar()
        return get(conn, str(owner), id)

    monkeypatch.setattr(files, "get", careless)
    found = neighbours.leaks("member")
    assert [leak for leak in found if leak.startswith("GET /v1/files/{id}  for a file")]
    assert [leak for leak in found if "training_file" in leak]


def test_control_a_message_that_tells_another_s_object_apart_is_found(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inhouse.errors import NotFound

    get = files.get

    def telling(conn: sa.Connection, project: str, id: str) -> File:
        owner = conn.execute(sa.text("SELECT project FROM files WHERE id = :id"), {"id": id}).scalar()
        if owner not in (None, project):
            raise NotFound(f"There is no file {id!r} of yours.", param="id")
        return get(conn, project, id)

    monkeypatch.setattr(files, "get", telling)
    assert neighbours.leaks("member") != []
