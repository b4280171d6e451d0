"""Rows that share a request: in order, within the places, each with its own reply or error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse import Client, Reply, Unauthenticated
from inhouse.client import generate as generating
from inhouse.client.http import Http
from inhouse.errors import TooLarge
from tests.client.test_generate import BAD, peak_of
from tests.server.house import TUNED, House, engine, house


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The path of each request that asks for replies."""
    paths: list[str] = []
    send = Http.send

    def hear(self: Http, method: str, path: str, **rest: Any) -> Any:
        if method == "POST":
            paths.append(path)
        return send(self, method, path, **rest)

    monkeypatch.setattr(Http, "send", hear)
    return paths


def test_many_rows_share_few_requests_and_keep_their_order(client: Client, posted: list[str]) -> None:
    rows = [f"count {i % 7} 0.0{i % 3}" for i in range(200)]
    replies = list(client.generate(rows, model=TUNED, concurrency=64))
    assert [r.index for r in replies] == list(range(200))
    assert [r.text for r in replies] == ["".join(f"{n} " for n in range(i % 7)) for i in range(200)]
    assert [r.usage["completion_tokens"] for r in replies] == [i % 7 for i in range(200)]
    assert len(posted) < 60


def test_rows_that_share_a_request_are_refused_each_by_itself(
    client: Client, posted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.client.http._backoff_s", lambda attempt: 0.01)  # its waits do not matter
    rows = [piece for bad, _ in BAD * 3 for piece in ("well", bad, "well")]
    replies = list(client.generate(rows, model=TUNED, concurrency=64))
    for (_, words), reply in zip(BAD * 3, replies[1::3], strict=True):
        assert reply.error is not None and words in reply.error.message
    assert [r.text for r in replies if r.error is None] == ["well"] * 6 * len(BAD)
    assert "/v1/x/rows" in posted


def test_rows_of_other_models_and_of_completions_go_with_their_like(
    client: Client, posted: list[str]
) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    kinds = [
        {"body": body},
        {"body": {**body, "model": TUNED}},
        {"body": {**body, "model": "nobody"}},
        {"url": "/v1/completions", "body": {"prompt": "x"}},
    ]
    replies = list(client.generate([kind for kind in kinds for _ in range(20)], concurrency=64))
    assert [r.text for r in replies] == ["x"] * 40 + [None] * 20 + ["x"] * 20
    assert {r.error.code for r in replies[40:60] if r.error} == {"model_not_found"}
    assert posted.count("/v1/completions") == 20


def test_rows_that_a_busy_server_refuses_are_asked_again_and_the_others_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes four at once, and is asked sixteen."""
    monkeypatch.setattr(generating, "_places", lambda http, model: (64, 64))
    waited: list[float] = []
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: waited.append(seconds) or time.sleep(0.01))
    with house(tmp_path, max_running=2, max_queued=2) as made, engine(made.db, tmp_path):  # noqa: SIM117
        with Client(made.url, made.member) as client:
            replies = list(client.generate(["count 3 0.01"] * 40, model="seedling"))
    assert [r.text for r in replies] == ["0 1 2 "] * 40
    assert set(waited) == {1.0}


def test_a_row_that_ends_the_engine_is_that_row_s_error_and_its_neighbours_are_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.client.http._backoff_s", lambda attempt: 0.01)  # its waits do not matter
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: None)
    monkeypatch.setattr(Http, "beside", lambda self, **how: Http(self.address, sleep=lambda seconds: None))
    bundles: list[bytes] = []
    events = Http.events

    def hear(self: Http, path: str, body: Any = None, *, lines: bytes | None = None) -> Any:
        bundles.append(lines or b"")
        return events(self, path, body, lines=lines)

    monkeypatch.setattr(Http, "events", hear)
    rows = ["count 2 0.02"] * 150
    rows[120] = "crash 2"
    replies = list(client.generate(rows, model=TUNED, concurrency=64))
    assert any(b"crash" in lines and b"count" in lines for lines in bundles), "it shared a request"
    assert [r.text for r in replies] == ["0 1 "] * 120 + [None] + ["0 1 "] * 29
    assert replies[120].error is not None and replies[120].error.code == "engine_lost"


def test_a_bundle_that_is_too_large_is_asked_row_by_row(
    client: Client, posted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Http.events

    def refuse(self: Http, path: str, body: Any = None, *, lines: bytes | None = None) -> Any:
        if lines is not None:
            raise TooLarge("The body is too large.")
        return events(self, path, body)

    monkeypatch.setattr(Http, "events", refuse)
    assert [r.text for r in client.generate(["a"] * 30, model=TUNED, concurrency=64)] == ["a"] * 30
    assert posted == ["/v1/chat/completions"] * 30


def test_a_key_that_is_revoked_ends_a_run_of_bundles(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def revoked(self: Http, path: str, body: Any = None, *, lines: bytes | None = None) -> Any:
        raise Unauthenticated("This API key is revoked.")

    monkeypatch.setattr(Http, "events", revoked)
    with pytest.raises(Unauthenticated):
        list(client.generate(["a"] * 100, model=TUNED, concurrency=64))


def test_a_row_is_asked_as_soon_as_it_is_there(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow source's rows wait for no others to share a request with."""
    told = threading.Event()

    def slow() -> Iterator[str]:
        yield "first"
        assert told.wait(10), "the first reply came before the second row"
        yield "second"

    from_wire = Reply.from_wire

    def notice(asked: Any, wire: Any) -> Reply:
        told.set()
        return from_wire(asked, wire)

    monkeypatch.setattr(Reply, "from_wire", notice)
    assert [r.text for r in client.generate(slow(), model=TUNED, concurrency=64)] == ["first", "second"]


def test_bundles_keep_within_the_places(tmp_path: Path) -> None:
    with house(tmp_path, max_running=16, max_queued=100) as made, engine(made.db, tmp_path):  # noqa: SIM117
        with Client(made.url, made.member) as client:
            rows = ["count 3 0.01"] * 200
            peak = peak_of(made, lambda: list(client.generate(rows, model="seedling")))
    assert 16 <= peak <= 32


def test_a_row_that_is_slower_than_the_client_s_patience_is_that_row_s_error(
    served: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is without a bundle; the others are asked again, each by itself, and answered."""
    beside = Http.beside
    monkeypatch.setattr(Http, "beside", lambda self, **how: hasty(beside(self, **how)))

    def hasty(http: Http) -> Http:
        http._pool.timeout = httpx2.Timeout(0.7)
        return http

    rows = ["count 1 0.01"] * 20
    rows[7] = "count 2 1.5"
    with Client(served.url, served.member) as client:
        replies = list(client.generate(rows, model="seedling", concurrency=64))
    assert [r.text for r in replies] == ["0 "] * 7 + [None] + ["0 "] * 12
    assert replies[7].error is not None and replies[7].error.code == "no_answer_in_time"
