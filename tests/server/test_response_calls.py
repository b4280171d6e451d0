"""The call behind a response: who is counted, limited, cancelled, and answered once for one key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.server.limits import Limits
from inhouse.store.records import idempotency, usage

from .house import House, engine, house, until
from .test_responses import TOOL, ask, count, told


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made, engine(made.db, tmp_path):
        yield made


def test_a_caller_who_hangs_up_is_counted_and_nothing_is_stored(own: House) -> None:
    body = {"model": "seedling", "input": "count 1000 0.02", "stream": True}
    key = {"idempotency-key": "gone"}
    with own.client().stream("POST", "/v1/responses", json=body, headers=key) as reply:
        next(line for line in reply.iter_lines() if "delta" in line)
    until(lambda: own.engine_numbers()["cancelled"] == 1, "the engine is told")

    def used() -> Any:
        with own.db.read() as conn:
            return usage.total(conn, "default", 0.0)

    counted = until(lambda: (now := used()).requests == 1 and now, "the usage row")
    assert 0 < counted.completion_tokens < 1000
    assert own.server.gateway.relay.running["seedling"] == 0
    assert count(own, "responses") == 0
    until(lambda: count(own, "idempotency") == 0, "its key is given back")


def test_limits_hold_for_responses(tmp_path: Path) -> None:
    limits = Limits(requests=1, tokens=10_000)
    with house(tmp_path, limits=limits) as made, engine(made.db, tmp_path):
        first, second = ask(made, "hi"), ask(made, "hi")
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")


# ── idempotency ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_request_is_answered_again_and_stored_once(own: House) -> None:
    key = {"idempotency-key": "k"}
    first, again = ask(own, "one two", headers=key), ask(own, "one two", headers=key)
    assert again.json() == first.json() and again.headers["x-idempotent-replay"] == "true"
    assert "x-idempotent-replay" not in first.headers
    assert ask(own, "other", headers=key).status_code == 422
    assert count(own, "responses") == 1
    error = ask(own, "x", store=False, headers={"idempotency-key": "fresh"}).json()["error"]
    assert (error["param"], error["code"]) == ("Idempotency-Key", "unsupported_parameter")
    own.client().delete(f"/v1/responses/{first.json()['id']}")
    assert ask(own, "one two", headers=key).status_code == 404


@pytest.mark.parametrize("input", ["one two", "call weather now"])
def test_a_stream_is_told_again_as_a_stream(own: House, input: str) -> None:
    fields = {"stream": True, "tools": [TOOL, TOOL | {"name": "now"}], "headers": {"idempotency-key": "k"}}
    first, again = told(ask(own, input, **fields)), told(ask(own, input, **fields))
    assert again[-1] | {"sequence_number": 0} == first[-1] | {"sequence_number": 0}
    assert again[0]["response"] == first[0]["response"]

    def without_pieces(events: list[dict[str, Any]]) -> list[Any]:
        kept = [e for e in events if not e["type"].endswith(".delta")]
        return [{name: value for name, value in e.items() if name != "sequence_number"} for e in kept]

    assert without_pieces(again) == without_pieces(first)
    said = [["".join(e["delta"] for e in events if "delta" in e)] for events in (first, again)]
    assert said[0] == said[1] != [""]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_failed_may_be_sent_again(own: House, stream: bool) -> None:
    fields = {"headers": {"idempotency-key": "k"}, "stream": stream}
    for _ in range(2):
        reply = ask(own, "crash 2", **fields)
        assert "engine_lost" in reply.text and "x-idempotent-replay" not in reply.headers
    assert count(own, "idempotency") == 0


def test_a_twin_of_a_request_at_work_is_told_to_wait(own: House) -> None:
    body = {"model": "seedling", "input": "count 60 0.02", "stream": True}
    key = {"idempotency-key": "k"}
    with own.client().stream("POST", "/v1/responses", json=body, headers=key) as reply:
        lines = reply.iter_lines()
        next(lines)
        with httpx2.Client(base_url=own.url, headers=key, trust_env=False) as other:
            headers = {"authorization": f"Bearer {own.member}"}
            twin = other.post("/v1/responses", json=body, headers=headers)
            assert (twin.status_code, twin.json()["error"]["code"]) == (409, "conflict")
            assert "retry-after" in twin.headers
            headers = {"authorization": f"Bearer {own.admin}"}
            seer = other.post("/v1/responses", json=body, headers=headers)
            assert seer.status_code == 422, "who sees other facts asks something else"
        assert [line for line in lines if line][-1].startswith('data: {"type":"response.completed"')
    again = ask(own, "count 60 0.02", stream=True, headers=key)
    assert again.headers["x-idempotent-replay"] == "true"


@pytest.mark.parametrize("lease_s", [0.6, 3600.0])
def test_the_key_of_a_server_that_was_killed_is_soon_free_and_one_at_work_is_kept(
    tmp_path: Path, lease_s: float
) -> None:
    """The control's lease is not over yet."""
    key, body = {"idempotency-key": "k"}, {"model": "seedling", "input": "count 60 0.04", "stream": True}
    with house(tmp_path, lease_s=lease_s) as made, engine(made.db, tmp_path):
        with made.client().stream("POST", "/v1/responses", json=body, headers=key) as reply:
            lines = reply.iter_lines()
            next(lines)
            time.sleep(1.5)
            assert len(made.server.gateway.reservations.held) == 1
            with httpx2.Client(base_url=made.url, headers=key, trust_env=False) as other:
                headers = {"authorization": f"Bearer {made.member}"}
                assert other.post("/v1/responses", json=body, headers=headers).status_code == 409, (
                    "it is kept"
                )
            assert [line for line in lines if line][-1].startswith('data: {"type":"response.completed"')
        with made.db.write() as conn:  # as a server leaves it that was killed while it answered
            conn.exec_driver_sql("UPDATE idempotency SET status = NULL, body = NULL, holder = 'dead'")
            idempotency.renew(conn, ["dead"], lease_s)
        time.sleep(0.8)
        status = made.client().post("/v1/responses", json=body, headers=key).status_code
        assert status == (200 if lease_s < 1 else 409)
