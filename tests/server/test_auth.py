from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from fastapi import FastAPI

from inhouse.server import auth
from inhouse.server.app import routes
from inhouse.server.auth import Auth, host_rule
from inhouse.server.edge import OPEN_PATHS
from inhouse.store.records import keys

from .house import House, house

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def paths(app: FastAPI) -> list[str]:
    """Every path that the application serves, its parameters filled in, and two that it does not."""
    found = {re.sub(r"\{[^}]+\}", "x", getattr(route, "path", "")) for route in routes(app)}
    return sorted(found | {"/nothing/here", "/v1/fine_tuning/jobs/x/pause"})


def answered_without_key(made: House) -> list[str]:
    """What answers anything but 401 when no key is sent."""
    open_client = made.client("")
    return [
        f"{method} {path}"
        for path in paths(made.server.config.app)  # type: ignore[arg-type]
        for method in METHODS
        if open_client.request(method, path).status_code != 401
    ]


def test_every_route_and_method_asks_for_a_key(served: House) -> None:
    assert {answer.split()[1] for answer in answered_without_key(served)} == OPEN_PATHS
    assert "/v1/chat/completions" in paths(served.server.config.app)  # type: ignore[arg-type]


def test_control_without_the_layer_routes_answer(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        made.server.should_exit = False
        app = made.server.config.app
        assert isinstance(app, FastAPI)
        app.user_middleware = [m for m in app.user_middleware if m.cls is not Auth]
        app.middleware_stack = app.build_middleware_stack()
        assert "GET /nothing/here" in answered_without_key(made)


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc", "Bearer wrong", "bearer \xff"])
def test_a_wrong_key_is_told_so_and_how_to_get_one(served: House, header: str) -> None:
    reply = served.client("").get("/v1/models", headers={"authorization": header.encode("latin-1")})
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert "key" in reply.json()["error"]["message"]
    assert reply.headers["www-authenticate"] == "Bearer"


def revoke_elsewhere_and_time(tmp_path: Path) -> float:
    """Seconds for which a key works on after another process has revoked it; at most 2."""
    with house(tmp_path) as made, made.client() as client:
        assert client.get("/v1/models").status_code == 200
        with made.db.write() as conn:
            (row,) = [k for k in keys.list(conn, "default") if k.role == "member"]
            keys.revoke(conn, row.id)
        revoked = time.monotonic()
        while client.get("/v1/models").status_code == 200 and time.monotonic() < revoked + 2:
            time.sleep(0.02)
        return time.monotonic() - revoked


def test_a_revoked_key_stops_within_a_second(tmp_path: Path) -> None:
    assert revoke_elsewhere_and_time(tmp_path) < 1


def test_control_a_long_cache_keeps_a_revoked_key_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "KEY_CACHE_S", 60.0)
    assert revoke_elsewhere_and_time(tmp_path) > 1.5


def test_a_key_revoked_here_stops_at_once(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        admin = made.client(made.admin)
        key = admin.post("/v1/x/keys", json={"name": "short"}).json()
        user = made.client(key["key"])
        assert user.get("/v1/models").status_code == 200
        assert [k["id"] for k in admin.get("/v1/x/keys").json()["data"]].count(key["id"]) == 1
        assert key["key"] not in admin.get("/v1/x/keys").text
        assert admin.delete(f"/v1/x/keys/{key['id']}").json()["deleted"] is True
        assert user.get("/v1/models").status_code == 401


def test_the_secret_is_nowhere_on_disk(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        reply = made.client(made.admin).post("/v1/x/keys", json={"name": "canary"}).json()
        made.client(reply["key"]).get("/v1/models")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert reply["key"].encode() not in file.read_bytes()


def test_admin_routes_are_for_admins(served: House) -> None:
    for method, path in [
        ("GET", "/v1/x/keys"),
        ("POST", "/v1/x/keys"),
        ("GET", "/v1/x/bases"),
        ("GET", "/metrics"),
    ]:
        reply = served.client().request(method, path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied")


def test_a_keys_secret_cannot_be_asked_for_twice(served: House) -> None:
    reply = served.client(served.admin).post(
        "/v1/x/keys", json={"name": "n"}, headers={"idempotency-key": "k"}
    )
    assert reply.json()["error"]["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "localhost:8420", 200),
        ("host", "127.0.0.1", 200),
        ("host", "[::1]:8420", 200),
        ("host", "evil.example", 403),
        ("host", "evil.example:8420", 403),
        ("host", "127.0.0.1.evil.example", 403),
        ("origin", "http://localhost:3000", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://[", 403),
    ],
)
def test_a_rebound_name_or_a_foreign_page_is_refused(
    served: House, header: str, value: str, status: int
) -> None:
    for path in ("/health", "/v1/models"):
        assert served.client().get(path, headers={header: value}).status_code == status


def test_a_wide_server_answers_to_addresses_and_named_hosts_only() -> None:
    is_ours = host_rule("0.0.0.0", frozenset({"Models.example"}))
    assert all(map(is_ours, ["10.0.0.7", "::1", "localhost", "models.example", "models.example."]))
    assert not is_ours("evil.example")
    assert not host_rule("127.0.0.1")("10.0.0.7")
