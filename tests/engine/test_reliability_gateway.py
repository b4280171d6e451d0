"""Rough use through the gateway: real HTTP to a real engine. Each guard has its control."""

from __future__ import annotations

import asyncio
import json
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.client.client import Client
from inhouse.engine.engine import Engine
from inhouse.errors import StoreBusy
from inhouse.schema import Message
from inhouse.server.usage import UsageLog
from inhouse.store.records import usage
from tests.engine.test_reliability import said, slowed
from tests.engine.test_serve import serving
from tests.engine.world import World, call
from tests.server.house import ADAPTER, TUNED, House, announce, house
from tests.server.house import until as eventually


@dataclass
class Whole:
    """A gateway with a real engine behind it, in this process."""

    made: House
    engine: Engine
    world: World

    def body(self, content: str, model: str = "seedling", **fields: Any) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": 8,
            **fields,
        }

    def expected(self, content: str, adapter: str | None = None, max_tokens: int = 8) -> str:
        prompt = self.world.template.prompt([Message(role="user", content=content)])
        return said(self.world, call("x", prompt, adapter=adapter, max_new_tokens=max_tokens))

    def post(self, body: dict[str, Any]) -> httpx2.Response:
        return self.made.client().post("/v1/chat/completions", json=body)

    def stream(self, body: dict[str, Any], started: threading.Event | None = None) -> str:
        """The text of a streamed reply, which must end well."""
        text, last = "", ""
        asked = {**body, "stream": True}
        with self.made.client().stream("POST", "/v1/chat/completions", json=asked) as reply:
            assert reply.status_code == 200, reply.read()
            for told in reply.iter_lines():
                if not (data := told.removeprefix("data: ")):
                    continue
                last = data
                if data != "[DONE]":
                    (choice,) = json.loads(data)["choices"]
                    text += choice["delta"].get("content") or ""
                    if text and started is not None:
                        started.set()
        assert last == "[DONE]"
        return text


@contextmanager
def whole(folder: Path, world: World, *, step_s: float = 0.0, **settings: Any) -> Iterator[Whole]:
    chosen = {"max_running": 32, "max_queued": 1024, **settings}
    engine = world.engine(cache_tokens=32 * 256, max_running=chosen["max_running"], token_budget=512)
    if step_s:
        slowed(engine, step_s)
    with ExitStack() as stack:
        made = stack.enter_context(house(folder / "data", **chosen))
        _, path = stack.enter_context(serving(engine, folder, max_queued=chosen["max_queued"]))
        announce(made.db, f"unix:{path}")
        yield Whole(made, engine, world)


def test_files_that_vanish_behind_a_model_s_back_are_a_404_for_it_alone(own: World, tmp_path: Path) -> None:
    with whole(tmp_path, own) as there:  # the model is listed; its artifact is not there
        lost = there.post(there.body("q", TUNED))
        assert (lost.status_code, lost.json()["error"]["code"]) == (404, "resource_not_found")
        assert ADAPTER in lost.json()["error"]["message"]
        reply = there.post(there.body("q")).json()
        assert reply["choices"][0]["message"]["content"] == there.expected("q")


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": ["x" * 8] * 10_000},
        {"stop": "x" * 2_000_000},
        {"logit_bias": {str(i): 1.0 for i in range(5_000)}},
        {"logit_bias": {"5": 1e30}},
        {"logit_bias": {"9999": 1.0}},
        {"logit_bias": {"-1": 1.0}},
        {"n": 100_000},
        {"max_tokens": 10**12},
        {"seed": 10**30},
        {"top_logprobs": 10**6, "logprobs": True},
    ],
    ids=lambda fields: next(iter(fields)) + str(len(str(fields))),
)
def test_what_no_engine_should_meet_is_refused_by_name_and_neighbours_are_answered(
    own_whole: Whole, fields: dict[str, Any]
) -> None:
    refused = own_whole.post(own_whole.body("q", **fields))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "context_length_exceeded" or next(iter(fields)) in error["param"]
    reply = own_whole.post(own_whole.body("q")).json()
    assert reply["choices"][0]["message"]["content"] == own_whole.expected("q")


@pytest.fixture(scope="module")
def own_whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with whole(folder, World(folder / "world")) as there:
        yield there


@pytest.mark.parametrize("tier", ["flex", "default"])
def test_a_batch_lets_others_go_first(own: World, tmp_path: Path, tier: str) -> None:
    """The control: rows that say they cannot wait are served in the order they came."""
    settings = {"max_running": 4, "max_queued": 100}
    how: dict[str, Any] = {} if tier == "flex" else {"service_tier": tier}
    with (
        whole(tmp_path, own, step_s=0.03, **settings) as there,
        Client(there.made.url, there.made.member) as client,
    ):
        assert there.post(there.body("warm")).status_code == 200
        answered: list[int] = []

        def batch() -> None:
            rows = (f"q{i % 10}" for i in range(80))
            for reply in client.generate(rows, model="seedling", max_tokens=8, concurrency=80, **how):
                answered.append(reply.index)

        running = threading.Thread(target=batch)
        running.start()
        eventually(lambda: there.engine.scheduler.waiting > 40, "most of it waits")
        before = len(answered)
        assert there.post(there.body("hello")).status_code == 200
        overtaken = len(answered) - before
        running.join()
    assert len(answered) == 80
    assert overtaken <= 20 if tier == "flex" else overtaken >= 30


@dataclass
class Told:
    """What one of many streams was told."""

    status: int
    text: str = ""
    usage: tuple[int, int] = (0, 0)
    is_ended: bool = False
    retry_after: str = ""
    code: str = ""


async def raw_stream(there: Whole, content: str, at_once: asyncio.Event) -> Told:
    """One stream over a socket of its own: thousands of a full client would measure the client."""
    payload = json.dumps(there.body(content, stream=True, stream_options={"include_usage": True})).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", there.made.server.config.port)
    await at_once.wait()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
        % (there.made.member.encode(), len(payload), payload)
    )
    answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    told = Told(int(head.split()[1]))
    headers = dict(h.lower().split(": ", 1) for h in head.decode().split("\r\n")[1:])
    told.retry_after = headers.get("retry-after", "")
    if told.status != 200:
        told.code = json.loads(rest)["error"]["code"]
        return told
    for found in rest.split(b"\n"):
        if not found.startswith(b"data: "):
            continue
        data = found.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            told.is_ended = True
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            told.code = chunk["error"]["code"]
            continue
        told.text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        if counted := chunk.get("usage"):
            told.usage = (counted["prompt_tokens"], counted["completion_tokens"])
    return told


def at_once(there: Whole, count: int) -> list[Told]:
    """So many streams, all connected before the first asks."""

    async def everyone() -> list[Told]:
        go = asyncio.Event()
        asked = [asyncio.create_task(raw_stream(there, f"q{i % 10}", go)) for i in range(count)]
        await asyncio.sleep(1)
        go.set()
        return await asyncio.gather(*asked)

    return asyncio.run(everyone())


def counted(made: House) -> tuple[int, int, int]:
    with made.db.read() as conn:
        total = usage.total(conn, "default", 0.0)
    return total.requests, total.prompt_tokens, total.completion_tokens


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Forgetful(UsageLog):
    """The control: what the store does not take at once is gone."""

    async def flush(self) -> None:
        await super().flush()
        self._waiting = []


@pytest.mark.parametrize(("max_queued", "streams"), [(1024, 1000), (400, 1000)], ids=["all fit", "too many"])
def test_a_thousand_streams_at_once_end_well_or_are_turned_away_cleanly_and_none_goes_uncounted(
    own: World, tmp_path: Path, max_queued: int, streams: int
) -> None:
    """Fault 23: all that fit; more than fit is the control, whose rest is told so."""
    with whole(tmp_path, own, max_queued=max_queued) as there:
        assert there.post(there.body("warm")).status_code == 200
        eventually(lambda: counted(there.made)[0] == 1, "the first is counted")
        _, prompt_before, made_before = counted(there.made)
        before = rss_bytes()
        told = at_once(there, streams)
        grown = rss_bytes() - before
        answered = [t for t in told if t.status == 200]
        refused = [t for t in told if t.status != 200]
        assert all(t.is_ended and not t.code for t in answered)
        expected = [there.expected(f"q{i}") for i in range(10)]
        assert all(t.text == expected[i % 10] for i, t in enumerate(told) if t.status == 200)
        assert {(t.status, t.code, t.retry_after) for t in refused} <= {(503, "engine_overloaded", "1")}
        assert bool(refused) == (streams > max_queued + 32)
        assert len(answered) >= min(streams, max_queued + 32)
        eventually(lambda: counted(there.made)[0] == 1 + len(answered), "every stream is counted once")
        _, prompt, made = counted(there.made)
        assert prompt - prompt_before == sum(t.usage[0] for t in answered)
        assert made - made_before == sum(t.usage[1] for t in answered) > 0
        eventually(lambda: not there.made.server.gateway.relay.running["seedling"], "every place is free")
        eventually(
            lambda: there.engine.scheduler.pages.free == there.engine.scheduler.pages.count, "all pages"
        )
        there.engine.scheduler.check_integrity()
        assert grown < 256 * 2**20, f"{grown / 2**20:.0f} MiB for {streams} streams"


@pytest.mark.parametrize("guarded", [True, False])
def test_usage_that_the_store_refuses_for_a_while_is_not_lost(
    own: World, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:  # the control: what could not be written is gone
        monkeypatch.setattr("inhouse.server.app.UsageLog", Forgetful)
    with whole(tmp_path, own) as there:
        is_busy = threading.Event()
        is_busy.set()
        add_many = usage.add_many

        def busy(conn: Any, rows: Any) -> None:
            if is_busy.is_set():
                raise StoreBusy("The database did not answer in time.")
            add_many(conn, rows)

        monkeypatch.setattr(usage, "add_many", busy)
        assert all(t.is_ended for t in at_once(there, 50))
        time.sleep(1.2)
        is_busy.clear()
        assert there.post(there.body("last")).status_code == 200
        eventually(lambda: counted(there.made)[0] > 0, "the store is written to again")
        assert (counted(there.made)[0] == 51) == guarded
