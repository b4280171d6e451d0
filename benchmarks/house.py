"""How quick the house is: start, a request's overhead over its engine, first token, decoding.

    python -m benchmarks.house [--base FOLDER] [--repeats 5] [--requests 200]

Everything is real: a server, its worker and its engine as processes, SQLite, HTTP over loopback. The same request goes
to the engine's own socket and through the gateway, in turns; the difference is the gateway's overhead. One process
at a time works, so the whole is pinned to one core with --core.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from benchmarks.results import machine, spread, write
from inhouse.schema import EngineCall, EngineRequest, Message, Sampling
from inhouse.store.db import Database
from inhouse.store.records import replicas
from tests.house.house import House, until

QUESTION = "Who signs off travel over 500 euros?"
MESSAGES = (Message(role="user", content=QUESTION),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="seedling")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--core", type=int, help="pin everything to this core")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
        os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        rows = starts(Path(folder), options.repeats)
        house = House(Path(folder) / "house", [options.base])
        house.start()
        try:
            name = Path(options.base).name
            assert house.chat(name, QUESTION, max_tokens=1).status_code == 200  # resident from here on
            rows += requests(house, name, options.requests)
        finally:
            house.stop()
    command = "python -m benchmarks.house" + "".join(f" {a}" for a in sys.argv[1:])
    write("house", {"machine": machine(), "command": command, "rows": rows})


def starts(folder: Path, repeats: int) -> list[dict[str, object]]:
    """Seconds from the process's start to the first answer of /health: an empty data folder, and a used one."""

    def seconds(data: Path) -> float:
        house = House(data, [])
        began = time.perf_counter()
        house.start()
        with httpx2.Client(trust_env=False) as client:
            until(lambda: client.get(f"{house.url}/health").status_code == 200, "health")
        taken = time.perf_counter() - began
        house.stop()
        return taken

    fresh = [seconds(folder / f"fresh-{i}") for i in range(repeats)]
    again = [seconds(folder / "fresh-0") for _ in range(repeats)]
    return [
        spread("gateway up, empty data folder", fresh, "s", goal="2"),
        spread("gateway up, used data folder", again, "s", goal="2"),
    ]


def requests(house: House, model: str, count: int) -> list[dict[str, object]]:
    """Milliseconds of whole requests and of first tokens, at the socket and through HTTP, in turns."""
    address = engine_address(house)
    headers = {"authorization": f"Bearer {house.key}"}
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    with httpx2.Client(base_url=house.url, headers=headers, trust_env=False, timeout=60) as client:

        def whole_by_http(tokens: int) -> float:
            reply = client.post("/v1/chat/completions", json=body | {"max_tokens": tokens})
            assert reply.status_code == 200
            return 0.0

        def first_by_http() -> None:
            with client.stream(
                "POST", "/v1/chat/completions", json=body | {"stream": True, "max_tokens": 8}
            ) as reply:
                for line in reply.iter_lines():
                    if '"content":' in line and '"content":""' not in line:
                        return

        turns: dict[str, tuple[Callable[[], object], list[float]]] = {
            "socket, one token": (lambda: at_socket(address, 1, to_first=False), []),
            "HTTP, one token": (lambda: whole_by_http(1), []),
            "socket, first token of a stream": (lambda: at_socket(address, 8, to_first=True), []),
            "HTTP, first token of a stream": (first_by_http, []),
        }
        for _ in range(count):
            for act, taken in turns.values():
                began = time.perf_counter()
                act()
                taken.append((time.perf_counter() - began) * 1e3)
        rows = [
            spread(name, taken, "ms", goal="50" if name == "HTTP, first token of a stream" else None)
            for name, (_, taken) in turns.items()
        ]
        overhead = [
            h - s for h, s in zip(turns["HTTP, one token"][1], turns["socket, one token"][1], strict=True)
        ]
        rows.append(spread("overhead of HTTP over the socket", overhead, "ms", goal="5"))
        rows.append(decoding(address))
    return rows


def decoding(address: str, tokens: int = 128) -> dict[str, object]:
    """Tokens a second of one stream, the prompt's time taken off."""
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        at_socket(address, 1, to_first=False)
        one = time.perf_counter()
        made = at_socket(address, tokens, to_first=False)
        rates.append((made - 1) / ((time.perf_counter() - one) - (one - began)))
    return spread("decoding, one stream, at the socket", rates, "tokens/s")


def at_socket(address: str, tokens: int, *, to_first: bool) -> int:
    """One request straight to the engine; returns how many tokens were made."""
    # A ban on the end token makes the length what was asked for.
    sampling = Sampling(max_new_tokens=tokens, temperature=0, logit_bias={2: -100.0} if tokens > 8 else {})
    call = EngineCall(op="generate", request=EngineRequest(id="b", messages=MESSAGES, sampling=sampling))
    made = 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(call.model_dump_json(exclude_none=True).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                frame = json.loads(line)
                assert "fault" not in frame, frame
                made += frame.get("delta", {}).get("tokens", 0)
                if to_first and frame.get("delta", {}).get("text"):
                    break
    return made


def engine_address(house: House) -> str:
    db = Database(f"sqlite:///{house.data_dir / 'inhouse.db'}")
    with db.read() as conn:
        (replica,) = replicas.all(conn)
    db.dispose()
    return replica.address.removeprefix("unix:")


if __name__ == "__main__":
    main()
