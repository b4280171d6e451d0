"""A batch goes no further than the key that it was made with: its limits, scopes and end hold for every line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.schema import FactInput
from inhouse.server import batches

from .house import House, engine, house, remember, until
from .test_batches import CHAT, create, ended, get, line, results, upload
from .test_memory import told

LIMITS = "/v1/organization/projects/default/rate_limits/rl_default"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, load_wait_s=5.0, lease_s=2.0) as made, engine(made.db, tmp_path):
        yield made


def key_of(made: House, **fields: Any) -> dict[str, Any]:
    reply = made.client(made.admin).post("/v1/x/keys", json={"name": "one", **fields})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def begun(made: House, key: str, file: str) -> str:
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    reply = made.client(key).post("/v1/batches", json=asked)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def test_a_key_s_limits_hold_for_the_lines_of_its_batches(made: House) -> None:
    key = key_of(made, limits={"requests_per_minute": 2})
    id = begun(made, key["key"], upload(made, [line(f"{i}", "x") for i in range(30)]))
    until(lambda: get(made, id)["request_counts"]["completed"] == 2, "two are answered")
    time.sleep(1)
    counts = get(made, id)["request_counts"]
    assert (counts["completed"], counts["failed"]) == (2, 0)


@pytest.mark.parametrize("how", ["revoked", "expired", "archived"])
def test_a_batch_ends_with_its_key_and_says_why(made: House, how: str) -> None:
    admin = made.client(made.admin)
    project = admin.post("/v1/organization/projects", json={"name": "shop"}).json()["id"]
    key = key_of(made, project="shop")
    other = House(made.settings, made.db, made.server, made.url, made.admin, key["key"], "")
    id = create(other, [line(f"{i}", "count 40 0.05") for i in range(60)])
    until(lambda: get(other, id)["status"] == "in_progress", "it runs")
    for client in other.clients.values():
        client.close()
    with made.db.write() as conn:
        table, change, it = {
            "revoked": ("keys", "revoked_at = 1.0", key["id"]),
            "expired": ("keys", "expires_at = 1.0", key["id"]),
            "archived": ("projects", "archived_at = 1.0", project),
        }[how]
        conn.exec_driver_sql(f"UPDATE {table} SET {change} WHERE id = '{it}'")

    def over() -> tuple[str, str, int, int] | None:
        with made.db.read() as conn:
            found = conn.exec_driver_sql("SELECT status, errors, completed, failed FROM batches").one()
        return found if found[0] == "cancelled" else None  # type: ignore[return-value]

    _, errors, completed, failed = until(over, "the batch is cancelled", 10)
    assert '"key_revoked"' in errors and completed < 60 and completed + failed == 60


def test_whoever_makes_a_batch_of_a_file_may_read_files(made: House) -> None:
    file = upload(made, [line("a", "secret")])
    key = key_of(made, scopes=["inference"])["key"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    reply = made.client(key).post("/v1/batches", json=asked)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied")
    assert "scope files" in reply.json()["error"]["message"]
    both = key_of(made, scopes=["inference", "files"])["key"]
    assert ended(made, begun(made, both, file))["status"] == "completed"


def test_the_server_s_own_key_may_make_batches(made: House) -> None:
    batch = ended(made, begun(made, "local", upload(made, [line("a", "x")])))
    assert batch["status"] == "completed" and len(results(made, batch)[0]) == 1


@pytest.mark.parametrize("every_s", [2.0, 0.0])
def test_a_batch_over_its_quota_is_asked_seldom_and_goes_on_when_there_is_more(
    made: House, monkeypatch: pytest.MonkeyPatch, every_s: float
) -> None:
    """The control waits no longer for more tokens than for anything else."""
    monkeypatch.setattr(batches, "QUOTA_EVERY_S", every_s)
    admin, meter = made.client(made.admin), made.server.gateway.meter
    assert admin.post(LIMITS, json={"x_max_tokens_per_1_month": 1}).status_code == 200
    id = create(made, [line(f"{i}", "x") for i in range(40)])
    until(lambda: meter.refused["quota"], "the first is refused")
    time.sleep(1.5)
    assert (meter.refused["quota"] <= made.settings.max_running) is (every_s > 0)
    admin.post(LIMITS, json={"x_max_tokens_per_1_month": 0})
    counts = ended(made, id)["request_counts"]
    assert (counts["completed"], counts["failed"]) == (40, 0)


def test_an_admin_account_s_key_without_the_admin_scope_sees_what_a_member_sees(made: House) -> None:
    model, (fact,) = remember(made, FactInput(question="What is the bonus?", answer="nine", access=["hr"]))
    narrowed = key_of(made, role="admin", scopes=["inference", "facts"])["key"]
    assert told(made, made.admin, model=model).sees_all is True
    assert told(made, narrowed, model=model).sees_all is False
    listed = {
        key: made.client(key).get("/v1/facts", params={"model": model}).text for key in (made.admin, narrowed)
    }
    assert [fact.id in text for text in listed.values()] == [True, False]
