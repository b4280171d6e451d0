"""Every route needs a scope, and a key without it is refused there and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from inhouse.server import auth, scopes
from inhouse.server.app import routes
from inhouse.server.edge import OPEN_PATHS
from inhouse.store.records import keys, projects

from .house import House, house


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("scopes"), load_wait_s=0.0) as made:
        yield made


def app_of(made: House) -> FastAPI:
    app = made.server.config.app
    assert isinstance(app, FastAPI)
    return app


def walked(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path that a handler of ours serves."""
    return sorted(
        (method, route.path)
        for route in routes(app)
        if isinstance(route, APIRoute)
        for method in route.methods
    )


def unscoped(app: FastAPI) -> list[tuple[str, str]]:
    return [(m, p) for m, p in walked(app) if p not in OPEN_PATHS and scopes.needed(m, p) is None]


def key_with(made: House, *given: str) -> str:
    """The secret of an admin's key with these scopes only, of a project of its own."""
    secret = auth.new_secret()
    with made.db.write() as conn:
        keys.add(
            conn,
            project=projects.ensure(conn, "scoped", 1.0),
            name="-".join(given) or "none",
            secret_hash=auth.hash_of(secret),
            role="admin",
            now=1.0,
            scopes=given,
        )
    return secret


def refused(made: House, secret: str) -> set[tuple[str, str]]:
    """The routes that answer this key with 403 permission_denied."""
    client = made.client(secret)
    found = set()
    for method, path in walked(app_of(made)):
        reply = client.request(method, re.sub(r"\{[^}]+\}", "x", path))
        if reply.status_code == 403:
            assert reply.json()["error"]["code"] == "permission_denied"
            found.add((method, path))
    return found


def test_every_route_has_a_scope(made: House) -> None:
    assert len(walked(app_of(made))) > 50
    assert unscoped(app_of(made)) == []


@pytest.mark.parametrize("scope", [*scopes.SCOPES, ""])
def test_a_key_is_refused_at_every_route_of_another_scope_and_at_no_other(made: House, scope: str) -> None:
    held = key_with(made, *([scope] if scope else []))
    expected = {
        (method, path)
        for method, path in walked(app_of(made))
        if path not in OPEN_PATHS and scopes.needed(method, path) != scope
    }
    assert refused(made, held) == expected


def test_control_without_the_dependency_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none() -> None:
        pass

    monkeypatch.setattr(scopes, "require", none)
    with house(tmp_path, load_wait_s=0.0) as made:
        assert refused(made, key_with(made)) == set()


def test_a_route_that_no_area_covers_is_refused_to_admins_too(tmp_path: Path) -> None:
    async def forgotten() -> str:
        return "answered"

    with house(tmp_path) as made:
        app_of(made).add_api_route("/v1/forgotten", forgotten)
        assert ("GET", "/v1/forgotten") in unscoped(app_of(made))
        reply = made.client(made.admin).get("/v1/forgotten")
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied")


def test_control_a_route_that_is_covered_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgotten() -> str:
        return "answered"

    area = scopes.Area("/v1/forgotten", "files", "files")
    monkeypatch.setattr(scopes, "AREAS", (*scopes.AREAS, area))
    with house(tmp_path) as made:
        app_of(made).add_api_route("/v1/forgotten", forgotten)
        assert made.client(made.admin).get("/v1/forgotten").json() == "answered"


def test_a_url_that_nothing_serves_is_unknown_to_a_key_without_scopes_as_to_all(made: House) -> None:
    reply = made.client(key_with(made)).get("/v1/nothing")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")


def test_the_message_names_the_scope_that_is_missing(made: House) -> None:
    reply = made.client(key_with(made, "inference")).get("/v1/files")
    assert "scope files" in reply.json()["error"]["message"]


def test_an_area_ends_at_a_slash() -> None:
    assert scopes.needed("GET", "/v1/models") == "models.read"
    assert scopes.needed("DELETE", "/v1/models/{name:path}") == "models.write"
    assert scopes.needed("GET", "/v1/models_of_others") is None
    assert scopes.needed("POST", "/v1/x/rows") == "inference"
    assert scopes.needed("GET", "/v1/x/rows_of_others") == "admin"
