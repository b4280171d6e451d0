"""How the wire holds under many: 1,000 streams, twice the capacity, callers who leave, callers who never read.

    python -m benchmarks.wire [--real] [--core N]

The server is a process, over SQLite, with an engine stubbed at its socket (a process, too, which makes words by rule);
with --real a worker and an engine that serves the embedded base. Server, engine and all callers share one core. Callers
are bare sockets: a full client for each would measure the clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.core import cpu_s, pin, tree_cpu_s
from benchmarks.results import command, machine, quantile, spread, table, write
from inhouse.schema import EngineCall, EngineRequest, Message
from inhouse.server.channel import stats
from inhouse.store.db import Database
from inhouse.store.records import replicas
from tests.house.house import House
from tests.server.house import engine, until
from tests.server.test_main import started, told

STREAMS = 1000
CAPACITY = 1200
SILENT = 200
WORDS, PAUSE_S = 30, 1.0
"""Of each stream whose lag is measured: a word a second, which is 1,000 words a second in all."""
BEGIN_S = 10.4
"""In which the streams begin; no whole number of pauses, so that two that begin a pause apart do not meet."""
REFUSED_A_SECOND = 50
"""How fast the second half of twice the capacity comes, where time to refusal is measured."""
STAMP = re.compile(rb'"(?:content|text)":"(\d+\.\d+) ')
SMALL_BUFFER = 4096
PARTS = ("streams", "capacity", "aborts", "silent")

Row = dict[str, Any]


@dataclass
class Place:
    """A running server: where it is, how to ask it, and its engine's own numbers."""

    port: int
    key: str
    model: str
    db: Database
    pid: int = 0

    def request(self, content: str, **fields: Any) -> bytes:
        """A streamed chat as bytes on a connection of its own."""
        body = {
            "model": self.model,
            "stream": True,
            "messages": [{"role": "user", "content": content}],
            **fields,
        }
        payload = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.key}\r\nconnection: close\r\ncontent-length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload

    def busy(self) -> float:
        """Requests that the engine holds."""
        with self.db.read() as conn:
            (replica,) = replicas.ready_for(conn, self.model)
        found = asyncio.run(stats(replica))
        return found["running"] + found.get("waiting", 0)


@dataclass
class Heard:
    """What one caller heard."""

    status: int = 0
    head_s: float = 0.0
    """From asking to the reply's first bytes."""
    lags_s: list[tuple[float, float]] = field(default_factory=list)
    """When a word came, and how long it had been on its way."""
    is_whole: bool = False


async def listen(place: Place, payload: bytes, heard: Heard, begun: asyncio.Event | None = None) -> None:
    """Asks on a connection of its own and reads to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port, limit=2**20)
    try:
        asked = time.monotonic()
        writer.write(payload)
        while piece := await reader.read(2**16):
            now = time.monotonic()
            if not heard.status:
                heard.status, heard.head_s = int(piece.split(b" ", 2)[1]), now - asked
            if begun is not None and b'"content":"' in piece:
                begun.set()
            heard.lags_s += [(now, now - float(stamp)) for stamp in STAMP.findall(piece)]
            heard.is_whole = heard.is_whole or b"[DONE]" in piece
    finally:
        writer.close()


# ── a thousand streams ────────────────────────────────────────────────────────────────────────────────────


def while_all_run(everyone: Sequence[Heard]) -> list[float]:
    """Lags between the last one's first word and the first one's last: all are open then."""
    begin = max(heard.lags_s[0][0] for heard in everyone)
    end = min(heard.lags_s[-1][0] for heard in everyone)
    return [lag for heard in everyone for at, lag in heard.lags_s if begin <= at <= end]


async def through_the_server(place: Place) -> tuple[list[Heard], float, float]:
    """What everyone heard; and while all of them run, the server's CPU milliseconds a word, and of all that the core
    did, the share that was ours."""
    everyone = [Heard() for _ in range(STREAMS)]
    payload = place.request(f"clock {WORDS} {PAUSE_S}")
    tasks = [
        asyncio.create_task(spread_out(i, listen(place, payload, heard))) for i, heard in enumerate(everyone)
    ]
    await until_so(lambda: all(heard.lags_s for heard in everyone), "every stream has a word", 120)
    before, ours, words = cpu_s(place.pid), tree_cpu_s(), sum(len(heard.lags_s) for heard in everyone)
    began = time.monotonic()
    await until_so(lambda: any(task.done() for task in tasks), "a stream ends", 120)
    said = sum(len(heard.lags_s) for heard in everyone) - words
    cost, share = cpu_s(place.pid) - before, (tree_cpu_s() - ours) / (time.monotonic() - began)
    await asyncio.gather(*tasks)
    return everyone, cost / max(1, said) * 1000, share


async def at_the_engine(place: Place) -> list[Heard]:
    """The same at the engine's own socket: what the engine and the callers add themselves."""
    with place.db.read() as conn:
        (replica,) = replicas.ready_for(conn, place.model)
    asked = EngineRequest(id="x", messages=(Message(role="user", content=f"clock {WORDS} {PAUSE_S}"),))
    payload = EngineCall(op="generate", request=asked).model_dump_json(exclude_none=True).encode() + b"\n"

    async def one(heard: Heard) -> None:
        reader, writer = await asyncio.open_unix_connection(
            replica.address.removeprefix("unix:"), limit=2**20
        )
        writer.write(payload)
        while piece := await reader.read(2**16):
            now = time.monotonic()
            heard.lags_s += [(now, now - float(stamp)) for stamp in STAMP.findall(piece)]
        writer.close()

    everyone = [Heard() for _ in range(STREAMS)]
    await asyncio.gather(*(spread_out(i, one(heard)) for i, heard in enumerate(everyone)))
    return everyone


async def spread_out(i: int, work: Awaitable[None]) -> None:
    """Begins within BEGIN_S, so that words do not all come in the same moment of each second."""
    await asyncio.sleep(i / STREAMS * BEGIN_S)
    await work


def streams(place: Place, repeats: int) -> list[Row]:
    direct, through, added, whole, costs, shares = [], [], [], [], [], []
    for _ in range(repeats):
        bare = quantile(while_all_run(asyncio.run(at_the_engine(place))), 0.99)
        everyone, cost, share = asyncio.run(through_the_server(place))
        costs.append(cost)
        shares.append(share)
        lag = quantile(while_all_run(everyone), 0.99)
        direct.append(bare * 1000)
        through.append(lag * 1000)
        added.append((lag - bare) * 1000)
        whole.append(sum(heard.is_whole for heard in everyone))
    return [
        spread(f"{STREAMS:,} streams, a word a second each: complete", whole, "streams", at_least=STREAMS),
        spread("p99 of a word's lag, engine's socket to caller", direct, "ms"),
        spread("p99 of a word's lag, through the server", through, "ms"),
        spread("added p99 lag", added, "ms", at_most=50),
        spread("CPU of the server, a word", costs, "ms"),
        spread("share of the core that server, engine and callers got meanwhile", shares, ""),
    ]


# ── twice the capacity ────────────────────────────────────────────────────────────────────────────────────


async def over_capacity(place: Place, content: str, **fields: Any) -> tuple[list[Heard], list[Heard]]:
    """As many as there are places, all begun; then as many again, some a second. Both groups, and all end."""
    payload = place.request(content, **fields)
    first, second = [Heard() for _ in range(CAPACITY)], [Heard() for _ in range(CAPACITY)]
    holding = [
        asyncio.create_task(spread_out(i, listen(place, payload, heard))) for i, heard in enumerate(first)
    ]
    await until_so(lambda: all(heard.status for heard in first), "every place is taken", 120)
    for heard in second:
        holding.append(asyncio.create_task(listen(place, payload, heard)))
        await asyncio.sleep(1 / REFUSED_A_SECOND)
    await until_so(lambda: all(heard.status for heard in second), "everyone over capacity is answered", 60)
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    return first, second


async def all_at_once(place: Place, content: str, **fields: Any) -> tuple[list[Heard], float]:
    """Twice as many as there are places, in one moment: what they heard once half of them were refused and the others
    are held, and how many the engine holds then. Of those that wait for their turn nobody has heard."""
    everyone = [Heard() for _ in range(2 * CAPACITY)]
    payload = place.request(content, **fields)
    tasks = [asyncio.create_task(listen(place, payload, heard)) for heard in everyone]
    await until_so(
        lambda: sum(heard.status == 503 for heard in everyone) >= CAPACITY, "half are refused", 120
    )
    await asyncio.sleep(1)
    held = await asyncio.to_thread(place.busy)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return everyone, held


async def until_so(holds: Callable[[], bool], what: str, limit_s: float) -> None:
    """Ends the run where it does not come true: half of a crowd is not to be measured as the whole."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:g} s in vain: {what}")
        await asyncio.sleep(0.02)


def capacity(place: Place) -> list[Row]:
    burst, held = asyncio.run(all_at_once(place, "count 100 1"))
    free(place)
    first, second = asyncio.run(over_capacity(place, "count 1000 1"))
    free(place)
    waits = [heard.head_s * 1000 for heard in second if heard.status == 503]
    taken = sum(heard.status == 200 for heard in [*first, *second])
    answered = [held, sum(heard.status == 503 for heard in burst)]
    at_once = [heard.head_s for heard in burst if heard.status == 503]
    half, word = CAPACITY, "streams"
    return [
        spread(f"of {2 * half:,} at once for {half:,} places: taken", answered[:1], word, at_least=half),
        spread("refused with 503", answered[1:], word, at_least=half),
        spread("time to refusal in that moment, p99", [quantile(at_once, 0.99)], "s"),
        spread(f"{half:,} running, {REFUSED_A_SECOND} more a second: taken", [taken], word, at_least=half),
        spread("time to refusal, median", [quantile(waits, 0.5)], "ms", at_most=100),
        spread("time to refusal, p99", [quantile(waits, 0.99)], "ms", at_most=100),
    ]


def free(place: Place, limit_s: float = 60.0) -> float:
    """Waits until the engine holds nothing; how long that took, in seconds."""
    began = time.monotonic()
    until(lambda: place.busy() == 0, "the engine is idle", limit_s)
    return time.monotonic() - began


# ── who leaves, and who never reads ───────────────────────────────────────────────────────────────────────


def open_sockets(place: Place, count: int, payload: bytes, buffer_bytes: int = 0) -> list[socket.socket]:
    """So many callers that have asked and have read nothing."""
    found = []
    for _ in range(count):
        own = socket.socket()
        if buffer_bytes:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        own.connect(("127.0.0.1", place.port))
        own.sendall(payload)
        found.append(own)
    return found


def aborts(place: Place, content: str, count: int, **fields: Any) -> Row:
    """Seconds from the moment in which all leave until the engine holds nothing."""
    callers = open_sockets(place, count, place.request(content, **fields))
    until(lambda: place.busy() >= count, "all are held", 120)
    for own in callers:
        own.close()
    return spread(f"{count:,} callers leave: the engine holds nothing after", [free(place)], "s", at_most=1)


def silent(place: Place, content: str, count: int, **fields: Any) -> Row:
    """Seconds from the moment in which the last one's stream stands until the last is out."""
    payload = place.request(content, **fields)
    callers = open_sockets(place, count, payload, SMALL_BUFFER)
    until(lambda: place.busy() >= count, "all are held", 120)
    used, stood = cpu_s(place.pid), time.monotonic()
    while place.busy() >= count:  # the buffers fill: the server works; then it has nothing to do
        now = cpu_s(place.pid)
        if now - used > 0.01:
            used, stood = now, time.monotonic()
        time.sleep(0.05)
    free(place, 120)
    took = time.monotonic() - stood
    for own in callers:
        own.close()
    return spread(f"{count} callers who never read: out after their streams stood", [took], "s", at_most=5)


# ── what one project's time tells of another's ────────────────────────────────────────────────────────────


def told_by_time(place: Place, other_key: str, rounds: int = 1000) -> Row:
    """How well the time of B's request tells whether A has asked the same: an area under the curve; 0.5: not at all.
    Of 2,000 requests it strays by 0.013 (one sigma) where there is nothing to tell."""
    chance, samples = random.Random(5), {True: list[float](), False: list[float]()}
    with httpx2.Client(base_url=f"http://127.0.0.1:{place.port}", timeout=60, trust_env=False) as client:

        def ask(key: str, content: str) -> float:
            body = {"model": place.model, "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
            began = time.perf_counter()
            reply = client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
            assert reply.status_code == 200, reply.text
            return time.perf_counter() - began

        for i in range(2 * rounds):
            content = f"{i} " + " ".join(str(chance.random()) for _ in range(12))
            is_known = chance.random() < 0.5
            ask(place.key, content if is_known else content[::-1])
            samples[is_known].append(ask(other_key, content))
    known, unknown = samples[True], samples[False]
    wins = sum((k < u) + (k == u) / 2 for k in known for u in unknown)
    area = wins / (len(known) * len(unknown))
    row = spread("B's time tells whether A asked the same (area under the curve)", [area], "")
    return row | {"goal": "0.45 to 0.55", "is_met": 0.45 <= area <= 0.55}


# ── the two places ────────────────────────────────────────────────────────────────────────────────────────


def stubbed(options: argparse.Namespace) -> list[Row]:
    places = ("--max-running", "32", "--max-queued", str(CAPACITY - 32))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        log = stack.enter_context((folder / "server.log").open("w"))
        process = stack.enter_context(started(folder, *places, stderr=log))
        at = told(folder, process)
        db = Database(f"sqlite:///{folder / 'inhouse.db'}")
        stack.callback(db.dispose)
        stack.enter_context(engine(db, folder))
        place = Place(int(at["url"].rpartition(":")[2]), at["key"], "seedling", db, process.pid)
        parts: dict[str, Callable[[], list[Row]]] = {
            "streams": lambda: streams(place, options.repeats),
            "capacity": lambda: capacity(place),
            "aborts": lambda: [aborts(place, "count 1000 1", STREAMS)],
            "silent": lambda: [silent(place, "flood 2000 20000", SILENT)],
        }
        return [row for name in PARTS if options.only in (None, name) for row in parts[name]()]


def real(options: argparse.Namespace) -> list[Row]:
    """Once with the embedded base behind it. Its words fit into the system's buffers, so nobody is silent for long."""
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name), ["seedling"], max_running=32, max_queued=CAPACITY - 32)
        house.start()
        db = Database(f"sqlite:///{Path(name) / 'inhouse.db'}")
        try:
            assert house.chat("seedling", "hello", max_tokens=1).status_code == 200
            assert house.process is not None
            place = Place(int(house.url.rpartition(":")[2]), house.key, "seedling", db, house.process.pid)
            return [*real_rows(place), told_by_time(place, other_project(house))]
        finally:
            db.dispose()
            house.stop()


def other_project(house: House) -> str:
    """A key of a project that is not the default one."""
    made = house.call("POST", "/v1/organization/projects", json={"name": "other"}).json()
    path = f"/v1/organization/projects/{made['id']}/service_accounts"
    return str(house.call("POST", path, json={"name": "b"}).json()["api_key"]["value"])


def real_rows(place: Place) -> list[Row]:
    everyone = [Heard() for _ in range(STREAMS)]
    payload = place.request("Count.", max_tokens=8, temperature=0)

    async def all_of_them() -> None:
        await asyncio.gather(*(listen(place, payload, heard) for heard in everyone))

    began = time.monotonic()
    asyncio.run(all_of_them())
    took = time.monotonic() - began
    free(place)
    burst, held = asyncio.run(
        all_at_once(place, "Count.", max_tokens=400, temperature=0, logit_bias={"2": -100})
    )
    free(place)
    long = {"max_tokens": 900, "temperature": 0, "logit_bias": {"2": -100}}
    rows = [
        spread(f"real engine: {STREAMS:,} streams of up to 8 tokens, complete", [sum(h.is_whole for h in everyone)],
               "streams", at_least=STREAMS),
        spread("real engine: until the last of them", [took], "s"),
        spread(f"real engine: of {2 * CAPACITY:,} at once, held", [held], "streams"),
        spread("real engine: refused with 503", [sum(h.status == 503 for h in burst)], "streams"),
    ]  # fmt: skip
    gone = aborts(place, "Count.", STREAMS, **long)
    return [*rows, gone | {"what": "real engine: " + gone["what"]}]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire")
    parser.add_argument("--real", action="store_true", help="only what is measured with a real engine")
    parser.add_argument("--core", type=int, help="the one that everything runs on; default: the last")
    parser.add_argument("--only", choices=PARTS, help="one of the parts, printed and not kept")
    parser.add_argument("--repeats", type=int, default=3, help="of the streams whose lag is measured")
    options = parser.parse_args()
    core = pin(options.core)
    load = Path("/proc/loadavg").read_text().split()[0]
    found = (real if options.real else stubbed)(options)
    if options.only:
        print(table({"rows": found}))
        return
    place = {"machine": machine("uvicorn"), "command": command("benchmarks.wire")}
    name = "wire-real" if options.real else "wire"
    write(name, place | {"core": core, "load_before": load, "load_after": Path("/proc/loadavg").read_text().split()[0],
                         "rows": found})  # fmt: skip


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
