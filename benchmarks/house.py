"""How quick the house is: start, a request's overhead over its engine, first token, decoding.

    python -m benchmarks.house [--base FOLDER] [--rounds 5] [--requests 200] [--core N]

Everything is real: a server, its worker and its engine as processes, SQLite, HTTP over loopback. All of it and the
caller share one core. The same request goes to the engine's own socket and through the gateway, in turns; the
difference is the gateway's overhead. Programs are in the system's file cache; nothing else is warm at a start.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.core import Rounds, cpu_s, pin
from benchmarks.results import command, machine, quantile, spread, write
from inhouse.schema import EngineCall, EngineRequest, Message, Sampling
from inhouse.store.db import Database
from inhouse.store.records import replicas
from tests.house.house import House

QUESTION = "Who signs off travel over 500 euros?"
SHORT, LONG = 8, 128
"""Tokens of a stream whose first one is timed, and of one whose speed is."""
END_TOKEN = 2
"""Banned in long streams, so that they are as long as was asked for."""
POLL_S = 0.005

Row = dict[str, Any]

PYTHON_STARTS = """
import json, os, time
began = time.perf_counter()
import inhouse
package = time.perf_counter()
from inhouse import Client
imported = time.perf_counter()
with Client() as first:
    started = time.perf_counter()
    with Client() as second:
        found = time.perf_counter()
pid = json.loads((first.settings.run_dir / "server.json").read_text())["pid"]
os.kill(pid, 15)
os.waitpid(pid, 0)
print(json.dumps([package - began, imported - package, started - imported, found - started]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house")
    parser.add_argument("--base", default="seedling")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of each kind, in each round")
    parser.add_argument("--core", type=int, help="the one that everything runs on; default: the last")
    options = parser.parse_args()
    rounds = Rounds(pin(options.core))
    with tempfile.TemporaryDirectory() as folder:
        found = [*starts(Path(folder), options, rounds), *python_starts(Path(folder), options, rounds)]
        house = House(Path(folder) / "house", [options.base])
        house.start()
        try:
            with Asked(house, Path(options.base).name) as asked:
                asked.check()
                found += whole_requests(asked, options, rounds)
                found += streams(asked, options, rounds)
                found += decoding(asked, options, rounds)
        finally:
            house.stop()
    notes = {"core": rounds.core, "rejected": rounds.rejected}
    place = {"machine": machine("fastapi", "uvicorn", "httpx2"), "command": command("benchmarks.house")}
    write("house", place | notes | {"rows": found})


# ── starting ──────────────────────────────────────────────────────────────────────────────────────────────


def starts(folder: Path, options: argparse.Namespace, rounds: Rounds) -> list[Row]:
    """Seconds from a server's process to the first answer of /health, and to the first of its base."""

    def started(data: Path, *, ask: bool, kill: bool = False) -> tuple[float, float]:
        house = House(data, [options.base])
        began = time.perf_counter()
        port = launch(house)
        while not is_healthy(port):
            time.sleep(POLL_S)
        healthy = time.perf_counter() - began
        answered = 0.0
        if ask:
            while not (place := data / "run" / "server.json").is_file():  # it is written a moment later
                time.sleep(POLL_S)
            told = json.loads(place.read_text())
            house.url, house.key = told["url"], told["key"]
            reply = house.chat(Path(options.base).name, QUESTION, max_tokens=1)
            assert reply.status_code == 200, reply.text
            answered = time.perf_counter() - began
        house.kill() if kill else house.stop()
        return healthy, answered

    def started_anew() -> tuple[float, float]:
        return started(folder / f"start-{time.time_ns()}", ask=False)

    used = folder / "used"
    started(used, ask=False)
    first = [rounds.take("first start", started_anew) for _ in range(options.rounds)]
    again = [rounds.take("second start", lambda: started(used, ask=True)) for _ in range(options.rounds)]
    killed = folder / "killed"
    started(killed, ask=True, kill=True)
    after = [
        rounds.take("start after kill -9", lambda: started(killed, ask=False, kill=True))
        for _ in range(options.rounds)
    ]
    return [
        spread("server's start to /health, empty data folder", [h for h, _ in first], "s", at_most=2),
        spread("server's start to /health, used data folder", [h for h, _ in again], "s", at_most=2),
        spread("server's start to /health, after kill -9", [h for h, _ in after], "s", at_most=2),
        spread("server's start to the base's first answer", [a for _, a in again], "s"),
    ]


def launch(house: House) -> int:
    """Starts a house's server and returns its port at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    house.data_dir.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "inhouse.server", "--port", str(port), "--base", str(house.bases[0])]
    with (house.data_dir / "server.out").open("ab") as out:
        house.process = subprocess.Popen(line, env=house.environment(), stdout=out, stderr=out)
    return port


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def python_starts(folder: Path, options: argparse.Namespace, rounds: Rounds) -> list[Row]:
    """Seconds of imports and of Client(), each in a fresh process on an empty data folder."""

    def taken() -> list[float]:
        data = folder / f"python-{time.time_ns()}"
        here = {"INHOUSE_DATA_DIR": str(data), "INHOUSE_PORT": "0", "INHOUSE_BASE": str(options.base)}
        line = [sys.executable, "-c", PYTHON_STARTS]
        done = subprocess.run(line, env=os.environ | here, check=True, capture_output=True, text=True)
        return [float(seconds) for seconds in json.loads(done.stdout)]

    package, client, started, found = zip(
        *(rounds.take("python", taken) for _ in range(options.rounds)), strict=True
    )
    return [
        spread("import inhouse", [1e3 * s for s in package], "ms"),
        spread("from inhouse import Client, after that", [1e3 * s for s in client], "ms"),
        spread("Client(), which starts the server", started, "s"),
        spread("Client(), which finds it running", [1e3 * s for s in found], "ms"),
    ]


# ── asking ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Stream:
    """What came of one request: its text, when the first of it came, and how fast the rest."""

    began: float = field(default_factory=time.perf_counter)
    text: str = ""
    tokens: int = 0
    first_at: float = 0.0
    last_at: float = 0.0

    def hear(self, text: str, tokens: int) -> None:
        self.last_at = time.perf_counter()
        if text and not self.text:
            self.first_at = self.last_at
        self.text += text
        self.tokens += tokens

    @property
    def first_ms(self) -> float:
        return 1e3 * (self.first_at - self.began)

    @property
    def tokens_per_s(self) -> float:
        """Of the tokens after the first."""
        return (self.tokens - 1) / (self.last_at - self.first_at)


class Asked:
    """One house's base, asked in three ways: at the engine's socket, by a bare HTTP client, by httpx2."""

    def __init__(self, house: House, model: str) -> None:
        assert house.process is not None
        self.gateway = house.process.pid
        self._headers = {"authorization": f"Bearer {house.key}", "content-type": "application/json"}
        self._model = model
        reply = house.chat(model, QUESTION, max_tokens=1)
        assert reply.status_code == 200, reply.text
        self._engine = engine_address(house)
        host, port = house.url.removeprefix("http://").split(":")
        self._bare = http.client.HTTPConnection(host, int(port), timeout=60)
        self._httpx = httpx2.Client(base_url=house.url, headers=self._headers, trust_env=False, timeout=60)

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self._bare.close()
        self._httpx.close()

    def check(self) -> None:
        """All ways give the same text, or no time of them means anything."""
        texts = {self.at_socket(SHORT).text, self.by_http(SHORT), self.by_httpx(SHORT)}
        texts.add(self.stream_by_http(SHORT).text)
        assert len(texts) == 1, f"the ways disagree: {texts}"

    def at_socket(self, tokens: int) -> Stream:
        """A request as the gateway sends it, on a connection of its own."""
        message = Message(role="user", content=QUESTION)
        sampling = Sampling(max_new_tokens=tokens, temperature=0, logit_bias=_bias(tokens))
        request = EngineRequest(id="benchmark", messages=(message,), sampling=sampling)
        line = EngineCall(op="generate", request=request).model_dump_json(exclude_none=True).encode() + b"\n"
        stream = Stream()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._engine)
            connection.sendall(line)
            with connection.makefile("rb") as lines:
                for read in lines:
                    frame = json.loads(read)
                    assert "fault" not in frame, frame
                    if delta := frame.get("delta"):
                        stream.hear(delta.get("text", ""), delta.get("tokens", 0))
        return stream

    def by_http(self, tokens: int) -> str:
        """The same through the gateway, by the standard library on a connection that stays open."""
        self._bare.request("POST", "/v1/chat/completions", self._body(tokens), self._headers)
        reply = self._bare.getresponse()
        read = json.loads(reply.read())
        assert reply.status == 200, read
        return str(read["choices"][0]["message"]["content"])

    def by_httpx(self, tokens: int) -> str:
        """The same by the library that the package's own client uses."""
        reply = self._httpx.post("/v1/chat/completions", content=self._body(tokens))
        assert reply.status_code == 200, reply.text
        return str(reply.json()["choices"][0]["message"]["content"])

    def stream_by_http(self, tokens: int) -> Stream:
        stream = Stream()
        self._bare.request("POST", "/v1/chat/completions", self._body(tokens, stream=True), self._headers)
        reply = self._bare.getresponse()
        assert reply.status == 200, reply.read()
        for chunk in _events(reply):
            for choice in chunk.get("choices", ()):
                stream.hear(choice["delta"].get("content") or "", 0)
            stream.tokens += (chunk.get("usage") or {}).get("completion_tokens", 0)
        return stream

    def _body(self, tokens: int, *, stream: bool = False) -> bytes:
        body: dict[str, Any] = {"model": self._model, "temperature": 0, "max_tokens": tokens}
        body |= {"messages": [{"role": "user", "content": QUESTION}]}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if bias := _bias(tokens):
            body |= {"logit_bias": bias}
        return json.dumps(body).encode()


def _events(reply: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in reply:  # to the end, or the connection could not be used again
        if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
            yield json.loads(line.removeprefix(b"data: "))


def _bias(tokens: int) -> dict[int, float]:
    return {END_TOKEN: -100.0} if tokens == LONG else {}


def engine_address(house: House) -> str:
    """Where the engine of a house's one base listens."""
    db = Database(f"sqlite:///{house.data_dir / 'inhouse.db'}")
    with db.read() as conn:
        (replica,) = replicas.all(conn)
    db.dispose()
    return replica.address.removeprefix("unix:")


# ── timing ────────────────────────────────────────────────────────────────────────────────────────────────


def in_turns(acts: dict[str, Callable[[], Any]], count: int) -> dict[str, list[tuple[float, Any]]]:
    """Milliseconds and result of each act, `count` times, one after the other."""
    taken: dict[str, list[tuple[float, Any]]] = {name: [] for name in acts}
    for _ in range(count):
        for name, act in acts.items():
            began = time.perf_counter()
            result = act()
            taken[name].append(((time.perf_counter() - began) * 1e3, result))
    return taken


def whole_requests(asked: Asked, options: argparse.Namespace, rounds: Rounds) -> list[Row]:
    """A request of one token, whole, in each way; its overhead is the difference within a turn."""
    acts: dict[str, Callable[[], Any]] = {
        "socket": lambda: asked.at_socket(1),
        "HTTP": lambda: asked.by_http(1),
        "HTTP by httpx2": lambda: asked.by_httpx(1),
    }
    values: dict[tuple[str, str, float], list[float]] = {}
    gateway = []
    for _ in range(options.rounds):

        def measure() -> tuple[dict[str, list[tuple[float, Any]]], float]:
            before = cpu_s(asked.gateway)
            taken = in_turns(acts, options.requests)
            return taken, 1e3 * (cpu_s(asked.gateway) - before) / (2 * options.requests)

        taken, gateway_ms = rounds.take("whole requests", measure)
        gateway.append(gateway_ms)
        bare = [ms for ms, _ in taken["socket"]]
        for name, found in taken.items():
            times = [ms for ms, _ in found]
            over = [ms - at_engine for ms, at_engine in zip(times, bare, strict=True)]
            for share in (0.5, 0.95):
                values.setdefault((name, "one token, whole", share), []).append(quantile(times, share))
                values.setdefault((name, "overhead over the engine", share), []).append(quantile(over, share))
    rows = []
    for (name, what, share), each in sorted(values.items(), key=lambda item: item[0][1:2], reverse=True):
        if what.startswith("overhead") and name == "socket":
            continue
        goal = 5.0 if what.startswith("overhead") and share == 0.5 else None
        rows.append(spread(f"{name}: {what}, p{100 * share:.0f}", each, "ms", at_most=goal))
    return [*rows, spread("CPU of the gateway's process, a request", gateway, "ms")]


def streams(asked: Asked, options: argparse.Namespace, rounds: Rounds) -> list[Row]:
    """The time to the first text of a stream, at the socket and through HTTP."""
    acts: dict[str, Callable[[], Any]] = {
        "socket": lambda: asked.at_socket(SHORT),
        "HTTP": lambda: asked.stream_by_http(SHORT),
    }
    values: dict[tuple[str, float], list[float]] = {}
    for _ in range(options.rounds):
        taken = rounds.take("streams", lambda: in_turns(acts, options.requests))
        for name, found in taken.items():
            times = [stream.first_ms for _, stream in found]
            for share in (0.5, 0.95):
                values.setdefault((name, share), []).append(quantile(times, share))
    return [
        spread(
            f"{name}: first text of a stream, p{100 * share:.0f}",
            each,
            "ms",
            at_most=50 if name == "HTTP" else None,
        )
        for (name, share), each in values.items()
    ]


def decoding(asked: Asked, options: argparse.Namespace, rounds: Rounds) -> list[Row]:
    """Tokens a second of one stream, after its first; each round is the median of a few streams."""
    acts: dict[str, Callable[[], Any]] = {
        "socket": lambda: asked.at_socket(LONG),
        "HTTP": lambda: asked.stream_by_http(LONG),
    }
    values: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(options.rounds):
        taken = rounds.take("decoding", lambda: in_turns(acts, 3))
        for name, found in taken.items():
            values[name].append(statistics.median(stream.tokens_per_s for _, stream in found))
    return [
        spread(f"{name}: one stream of {LONG} tokens, after the first", each, "tokens/s")
        for name, each in values.items()
    ]


if __name__ == "__main__":
    main()
