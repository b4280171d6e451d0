"""Clients that leave, stop reading, send a byte at a time, or are too many: each harms itself alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive

from inhouse.errors import EngineOverloaded
from inhouse.server import body, calls, edge, listener
from inhouse.server.relay import Relay
from inhouse.store.records import usage
from tests.server.house import House, engine, house, until

FLOOD = "flood 2000 20000"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One server and one engine for the tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, load_wait_s=5.0) as made, engine(made.db, folder):
        yield made


def begin(made: House, content: str, buffer_bytes: int = 0) -> socket.socket:
    """A raw connection that has asked for a stream and reads nothing yet."""
    raw = socket.socket()
    if buffer_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    raw.connect(("127.0.0.1", made.server.config.port))
    asked = {"model": "seedling", "stream": True, "messages": [{"role": "user", "content": content}]}
    payload = json.dumps(asked).encode()
    raw.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (made.member.encode(), len(payload), payload)
    )
    return raw


def test_a_reader_that_stands_still_is_put_out_and_delays_nobody(tmp_path: Path) -> None:
    """Fault 21: ten clients who read nothing; their places are free within seconds."""
    with house(tmp_path, idle_reader_s=0.5) as made, engine(made.db, tmp_path):
        silent = [begin(made, FLOOD, 4096) for _ in range(10)]
        until(lambda: made.server.gateway.relay.running["seedling"] == 10, "all ten are served")
        assert made.chat("hello").status_code == 200
        until(lambda: made.server.gateway.relay.running["seedling"] == 0, "their places are free")
        assert made.server.gateway.readers.evicted == 10
        assert made.engine_numbers()["running"] == 0
        for raw in silent:
            raw.close()


def test_control_without_the_sweep_a_silent_reader_keeps_its_place(tmp_path: Path) -> None:
    """Fault 21, the control."""
    with house(tmp_path, idle_reader_s=1e9) as made, engine(made.db, tmp_path):
        with begin(made, FLOOD, 4096):
            until(lambda: made.server.gateway.relay.running["seedling"] == 1, "it is served")
            time.sleep(2)
            assert made.server.gateway.relay.running["seedling"] == 1
        until(lambda: made.server.gateway.relay.running["seedling"] == 0, "its place is free")


def read_slowly(tmp_path: Path) -> bytes:
    """What a client gets who takes a little at a time, but does not stop."""
    got = b""
    with house(tmp_path, idle_reader_s=0.5) as made, engine(made.db, tmp_path):  # noqa: SIM117
        with begin(made, "flood 30 20000", 4096) as raw, contextlib.suppress(ConnectionResetError):
            while not got.endswith(b"0\r\n\r\n") and (chunk := raw.recv(40_000)):
                got += chunk
                time.sleep(0.02)
    return got


@pytest.mark.skipif(not edge.KERNEL_TELLS, reason="here the kernel does not tell what a client has taken")
def test_a_reader_that_is_slow_but_reads_stays(tmp_path: Path) -> None:
    """Fault 21: who reads slowly does not stand still."""
    assert b"[DONE]" in read_slowly(tmp_path)


def test_control_without_the_kernels_count_a_slow_reader_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 21, the control: what is told apart by what the kernel says."""
    monkeypatch.setattr(edge, "KERNEL_TELLS", False)
    assert b"[DONE]" not in read_slowly(tmp_path)


def test_aborted_streams_are_cancelled(served: House) -> None:
    """Fault 20: fifty clients leave in the middle; the engine stops for each."""
    cancelled = served.engine_numbers()["cancelled"]
    raws = [begin(served, "count 1000 0.05") for _ in range(50)]
    for raw in raws:
        raw.recv(100)
    until(lambda: served.engine_numbers()["running"] == 50, "all are running")
    for raw in raws:
        raw.close()
    until(lambda: served.engine_numbers()["running"] == 0, "all are cancelled")
    assert served.engine_numbers()["cancelled"] == cancelled + 50


def test_a_caller_who_leaves_before_the_first_token_is_cancelled_too(served: House) -> None:
    """Fault 20: nothing was sent yet that would have shown it."""
    raw = begin(served, "count 10 30")
    until(lambda: served.engine_numbers()["running"] == 1, "it is running")
    raw.close()
    until(lambda: served.engine_numbers()["running"] == 0, "it is cancelled")


def test_control_without_watching_the_caller_an_engine_goes_on_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 20, the control: nobody looks whether the client is there until something is sent."""

    async def only(receive: Receive, work: Coroutine[Any, Any, Any]) -> Any:
        return await work

    monkeypatch.setattr(calls, "until_gone", only)
    with house(tmp_path) as made, engine(made.db, tmp_path):
        with begin(made, "count 10 3"):
            until(lambda: made.engine_numbers()["running"] == 1, "it is running")
        time.sleep(1)
        assert made.engine_numbers()["running"] == 1


def test_usage_is_written_once_also_when_the_caller_left(tmp_path: Path) -> None:
    """Fault 20: what was computed is counted, once."""
    with house(tmp_path) as made, engine(made.db, tmp_path):
        made.chat("one two three")
        with begin(made, "count 1000 0.01") as raw:
            until(lambda: raw.recv(1000).count(b"content") and made.engine_numbers()["running"], "it streams")
            time.sleep(0.3)

        def total() -> usage.UsageTotal:
            with made.db.read() as conn:
                return usage.total(conn, "default", 0.0)

        until(lambda: total().requests == 2, "both are counted")
        assert total().completion_tokens > 10
        time.sleep(0.7)
        assert total().requests == 2


def test_exactly_as_many_are_admitted_as_there_are_places(tmp_path: Path) -> None:
    """Fault 24: twenty at once for five places."""
    with house(tmp_path, max_running=1, max_queued=4) as made, engine(made.db, tmp_path):
        with ThreadPoolExecutor(20) as threads:
            replies = list(threads.map(lambda _: made.chat("count 10 0.4"), range(20)))
        full = [r for r in replies if r.status_code == 503]
        assert [r.status_code for r in replies].count(200) == 5
        assert {r.json()["error"]["code"] for r in full} == {"engine_overloaded"}
        assert {r.headers["retry-after"] for r in full} == {"1"}
        assert made.chat("hi").status_code == 200


def test_control_reserved_behind_an_await_all_are_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 24, the control: places that are counted, then awaited, then taken."""

    @contextlib.contextmanager
    def later(self: Relay, base: str, count: int, **_: Any) -> Iterator[None]:
        if self.running[base] + count > sum(self.places(base)):
            raise EngineOverloaded("full", retry_after_s=1)
        taken = asyncio.get_running_loop().call_later(0.3, lambda: self.running.update({base: count}))
        try:
            yield
        finally:
            if taken.when() > asyncio.get_running_loop().time():
                taken.cancel()
            else:
                self.running[base] -= count

    monkeypatch.setattr(Relay, "slots", later)
    with house(tmp_path, max_running=1, max_queued=4) as made, engine(made.db, tmp_path):
        with ThreadPoolExecutor(20) as threads:
            replies = list(threads.map(lambda _: made.chat("count 10 0.2"), range(20)))
        assert [r.status_code for r in replies].count(200) > 5


def test_refusals_come_at_once_while_the_house_is_full(tmp_path: Path) -> None:
    """Fault 24: nobody waits to hear that there is no place, and no engine is asked."""
    with house(tmp_path, max_running=1, max_queued=4) as made, engine(made.db, tmp_path):
        held = [begin(made, "count 1000 0.05") for _ in range(5)]
        until(lambda: made.server.gateway.relay.running["seedling"] == 5, "all places are taken")
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert made.chat("hi").status_code == 503
            took.append(time.monotonic() - began)
        assert made.engine_numbers()["running"] == 5
        assert sorted(took)[len(took) // 2] < 0.5, "a new client each time, on a machine that others use"
        for raw in held:
            raw.close()


def test_places_are_counted_by_choices(tmp_path: Path) -> None:
    """Fault 24: a request of two choices takes two."""
    with house(tmp_path, max_running=1, max_queued=4) as made, engine(made.db, tmp_path):
        with ThreadPoolExecutor(3) as threads:
            replies = list(threads.map(lambda _: made.chat("count 10 0.1", n=2), range(3)))
        assert sorted(r.status_code for r in replies) == [200, 200, 503]
        assert made.chat("hi", n=6).status_code == 200  # more than all places: alone it is let in


def test_a_head_that_trickles_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 22: a request line at a byte every 50 ms."""
    monkeypatch.setattr(listener, "HEAD_S", 0.5)
    with house(tmp_path) as made, socket.create_connection(("127.0.0.1", made.server.config.port)) as raw:
        raw.settimeout(10)
        with pytest.raises(OSError):
            for byte in b"GET /health HTTP/1.1\r\nhost: localhost" * 10:
                raw.send(bytes([byte]))
                time.sleep(0.05)
            raise AssertionError("the connection was never cut")


def test_a_body_that_trickles_is_refused_and_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 22: a body that never comes."""
    monkeypatch.setattr(body, "PATIENCE_S", 0.5)
    with house(tmp_path) as made, socket.create_connection(("127.0.0.1", made.server.config.port)) as raw:
        raw.settimeout(10)
        raw.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer %b\r\ncontent-length: 1000\r\n\r\n{" % made.member.encode()
        )
        reply = b""
        while chunk := raw.recv(1000):
            reply += chunk
        assert reply.startswith(b"HTTP/1.1 400") and b"request_timeout" in reply


def test_control_with_long_patience_a_trickle_holds_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 22, the control: both deadlines far away, head and body are waited for."""
    monkeypatch.setattr(listener, "HEAD_S", 1e6)
    monkeypatch.setattr(body, "PATIENCE_S", 1e6)
    heads = (
        b"GET /health HTTP/1.1\r\nhost: local",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: 1000\r\n\r\n{",
    )
    with house(tmp_path) as made:
        for head in heads:
            with socket.create_connection(("127.0.0.1", made.server.config.port)) as raw:
                raw.sendall(head.replace(b"%b", made.member.encode()))
                raw.settimeout(1.5)
                with pytest.raises(TimeoutError):
                    raw.recv(1)
