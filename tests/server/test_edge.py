from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from inhouse.server import usage as usage_module
from inhouse.server.edge import Readers
from inhouse.server.limits import UNLIMITED, Limits
from inhouse.server.threads import StoreThreads
from inhouse.server.usage import UsageLog
from inhouse.settings import Settings
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import idempotency, usage
from inhouse.store.records.usage import UsageRow

from .house import House, announce, engine, house, prepare, until


def test_every_reply_carries_a_request_id_of_its_own(served: House) -> None:
    client = served.client()
    replies = [
        client.get("/health"),
        client.get("/v1/models"),
        client.get("/nothing"),
        client.post("/health"),
        served.client("").get("/v1/models"),
        served.chat("hi"),
        served.chat("hi", stream=True),
        served.chat("fault 400 x"),
    ]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == len(ids)


def test_an_unknown_url_and_a_wrong_method_are_told_apart(served: House) -> None:
    client = served.client()
    unknown = client.get("/v1/assistants")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")
    assert client.post("/v1/fine_tuning/jobs/x/explode").json()["error"]["code"] == "unknown_url"
    without_v1 = client.post("/chat/completions", json={}).json()["error"]["message"]
    assert "/v1/chat/completions: end base_url with one /v1" in without_v1
    assert "It is /v1/models:" in client.get("/v1/v1/models").json()["error"]["message"]
    wrong = client.put("/v1/models/seedling")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "DELETE, GET"
    assert set(wrong.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"model": NaN}',
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"model": ' + b"[" * 100_000,
        b'{"temperature": 1e999, "model": "m", "messages": []}',
        b'{"n": ' + b"9" * 10_000 + b"}",
        b"\x1f\x8b\x08\x00",
    ],
)
def test_a_hostile_body_is_a_400(served: House, raw: bytes) -> None:
    reply = served.client().post(
        "/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_body_of_another_kind_is_a_415(served: House) -> None:
    for path in ("/v1/chat/completions", "/v1/files"):
        reply = served.client().post(path, content=b"a=b", headers={"content-type": "text/plain"})
        assert reply.status_code == 415


def test_a_body_over_the_limit_is_a_413_told_or_found(tmp_path: Path) -> None:
    with house(tmp_path, max_body_bytes=1000) as made:
        client, kind = made.client(), {"content-type": "application/json"}
        assert client.post("/v1/completions", content=b"x" * 1001, headers=kind).status_code == 413
        pieces = (b"x" * 100 for _ in range(11))
        assert client.post("/v1/completions", content=pieces, headers=kind).status_code == 413
        assert client.post("/v1/completions", content=b"x" * 1000, headers=kind).status_code == 400


def test_our_own_fault_is_a_500_without_a_trace_and_the_server_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with house(tmp_path) as made:
        with made.db.write() as conn:
            conn.exec_driver_sql("DROP TABLE files")
        reply = made.client().get("/v1/files")
        assert reply.status_code == 500
        assert reply.json()["error"]["code"] == "internal_error"
        assert reply.headers["x-request-id"] in reply.json()["error"]["message"]
        assert "Traceback" not in reply.text and "files.py" not in reply.text
        assert reply.headers["x-request-id"] in caplog.text
        assert made.client().get("/v1/models").status_code == 200


def test_a_permanent_conflict_tells_clients_not_to_retry(served: House) -> None:
    client = served.client()
    file = client.post(
        "/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("f.jsonl", b'{"input":"a","output":"b"}\n')},
    ).json()["id"]
    job = client.post("/v1/fine_tuning/jobs", json={"model": "seedling", "training_file": file}).json()["id"]
    assert client.post(f"/v1/fine_tuning/jobs/{job}/cancel").json()["status"] == "cancelled"
    again = client.post(f"/v1/fine_tuning/jobs/{job}/cancel")
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")


def test_limits_are_reported_even_where_there_are_none(served: House) -> None:
    headers = served.chat("hi", max_tokens=5).headers
    for name in ("requests", "tokens"):
        assert headers[f"x-ratelimit-limit-{name}"] == str(UNLIMITED)
        assert int(headers[f"x-ratelimit-remaining-{name}"]) > 0
        assert headers[f"x-ratelimit-reset-{name}"].endswith("s")


def test_over_a_limit_is_a_429_that_says_when(tmp_path: Path) -> None:
    with house(tmp_path, Limits(requests=2)) as made, engine(made.db, tmp_path):
        assert [made.chat("hi").status_code for _ in range(3)] == [200, 200, 429]
        refused = made.chat("hi")
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_tokens_that_were_reserved_and_not_used_come_back(tmp_path: Path) -> None:
    with house(tmp_path, Limits(tokens=10_000)) as made, engine(made.db, tmp_path):
        for _ in range(5):
            assert made.chat("hi", max_tokens=9000).status_code == 200
        assert made.chat("fault 400 x", max_tokens=9000).status_code == 400
        assert int(made.chat("hi", max_tokens=1).headers["x-ratelimit-remaining-tokens"]) > 9000


def test_health_ready_and_version_are_open(served: House) -> None:
    client = served.client("")
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["replicas"]["ready"] >= 1
    assert client.get("/version").json()["version"]


def test_the_apis_description_names_every_body(served: House) -> None:
    page = served.client().get("/openapi.json").json()
    schemas = page["components"]["schemas"]
    text = json.dumps(page)
    for name in ("ChatRequest", "CompletionRequest", "JobRequest"):
        assert name in schemas
    for reference in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in schemas


def test_limits_may_be_settings_and_0_is_none() -> None:
    assert Limits.of(Settings()) == Limits()
    assert Limits.of(Settings(requests_per_minute=3, tokens_per_minute=50)) == Limits(3, 50)


def test_the_settings_limits_hold(tmp_path: Path) -> None:
    with house(tmp_path, requests_per_minute=1, load_wait_s=0.1) as made:
        assert made.chat("hi").status_code == 503
        assert made.chat("hi").status_code == 429


def test_only_engines_with_a_live_lease_count_as_ready(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        replica = announce(made.db, "unix:/nowhere")
        assert made.client("").get("/ready").json()["replicas"] == {"ready": 1, "starting": 0}
        with made.db.write() as conn:
            conn.exec_driver_sql(f"UPDATE jobs SET lease_until = 1 WHERE id = '{replica.job}'")
        none = {"ready": 0, "starting": 0}
        until(
            lambda: made.client("").get("/ready").json()["replicas"] == none, "its lease is seen to be over"
        )


def test_old_idempotency_keys_are_swept_at_the_start(tmp_path: Path) -> None:
    db = Database(Settings(data_dir=tmp_path).database)
    migrate(db)
    with db.write() as conn:
        now = db.clock(conn)
        for key, age in (("old", idempotency.KEPT_S + 60), ("young", 60)):
            idempotency.reserve(conn, "default", key, "x", now - age)
            idempotency.finish(conn, "default", key, 200, b"{}")
    db.dispose()

    with house(tmp_path) as made:

        def kept() -> list[str]:
            with made.db.read() as conn:
                return [row[0] for row in conn.exec_driver_sql("SELECT key FROM idempotency")]

        until(lambda: kept() == ["young"], "the old key goes")


def test_a_reader_whose_socket_is_closed_does_not_end_the_sweep() -> None:
    class Closed(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return 7

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            own = socket.socket()
            own.close()
            return own

    readers = Readers(1.0)
    with readers.waiting_for(1, Closed()):
        readers.sweep(0.0)


def test_usage_outlives_any_fault_of_the_store_and_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")  # without a table: not busy, not full, just wrong
    store = StoreThreads(db)
    log = UsageLog(store)
    monkeypatch.setattr(usage_module, "MOST_WAITING", 3)
    for i in range(5):
        log.append(UsageRow("default", "key", "seedling", f"req_{i}", 1, 1, 1.0))
    asyncio.run(log.flush())
    assert "2 oldest" in caplog.text
    prepare(db)
    asyncio.run(log.flush())
    with db.read() as conn:
        assert usage.total(conn, "default", 0.0).requests == 3
    store.close()
    db.dispose()
