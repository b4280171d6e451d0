"""How an engine under measurement is spoken to: one JSON line an order, one JSON line an answer.

It is imported by every engine's script in that engine's own environment, so it uses the standard library alone and
knows no engine. Times are taken here, next to the engine: what passes over the wire is never inside a measurement.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

Order = dict[str, Any]
SAME_STEP_S = 0.002
"""Tokens nearer to each other than this are of one step, where an engine notes moments alone."""


@dataclass(slots=True)
class Ask:
    """One request of a run."""

    prompt: list[int]
    new: int
    """Tokens to generate, exactly: nobody stops early."""
    adapter: str | None = None
    """Folder of a PEFT adapter; None is the base."""
    at_s: float = 0.0
    """Arrives so long after the run began."""
    behind: int = 0
    """Arrives when the run's first request has so many tokens."""
    schema: str | None = None
    """JSON schema that the reply must follow."""
    temperature: float = 0.0


class Watch:
    """Writes down when each request came, each of its tokens, and how long each step of the engine took: seconds of
    this process's CPU and of the wall.

    A step that gave some request its first token, or gave none, was spent reading prompts; every other on decoding.
    """

    def __init__(self, requests: int) -> None:
        self._came: list[float] = [0.0] * requests
        self._moments: list[list[float]] = [[] for _ in range(requests)]
        self._fresh: list[int] = []  # who got a token in the step that runs
        self._read, self._decoded = [0.0, 0.0], [0.0, 0.0]  # CPU, wall
        self._decoded_tokens = 0
        self._end: tuple[float, float] | None = None
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        self._last = (0.0, 0.0)

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self._wall

    def came(self, request: int) -> None:
        """Notes that a request was handed to the engine; without it, it came when the run began."""
        self._came[request] = self.wall_s

    def token(self, request: int, count: int = 1) -> None:
        """Notes new tokens of a request."""
        self._moments[request] += [self.wall_s] * count
        self._fresh += [request] * count

    def step(self) -> None:
        """Ends a step of the engine, behind its tokens."""
        self._account(time.process_time() - self._cpu, self.wall_s)

    def heard(self, moments: list[list[float]]) -> None:
        """Takes every request's tokens from an engine's own notes, moments of the wall's clock. They stand for CPU
        time as well."""
        everything = sorted((at - self._wall, request) for request, each in enumerate(moments) for at in each)
        for i, (at, request) in enumerate(everything):
            self._moments[request].append(at)
            self._fresh.append(request)
            if i + 1 == len(everything) or everything[i + 1][0] - at > SAME_STEP_S:
                self._account(at, at)

    def split(self, reading: Watch, counts: list[int]) -> None:
        """For an engine that tells nothing while it runs: what another run took, of one new token for each request,
        was spent reading, and the rest of this one decoding. Both have ended."""
        assert self._end is not None and reading._end is not None, "both runs must have ended"
        self._read = list(reading._end)
        self._decoded = [max(0.0, whole - read) for whole, read in zip(self._end, reading._end, strict=True)]
        self._decoded_tokens = sum(counts) - len(counts)
        self._moments = [[reading._end[1]] + [self._end[1]] * (count - 1) for count in counts]

    def count(self, request: int) -> int:
        return len(self._moments[request])

    def stop(self) -> None:
        """Ends the measurement; what is done afterwards costs nothing."""
        self._end = time.process_time() - self._cpu, self.wall_s

    def found(self) -> dict[str, Any]:
        """What a run came to: seconds of reading and of decoding, tokens drawn in all and while decoding, seconds
        from each request's arrival to its first token, and the gaps between a request's tokens."""
        if self._end is None:
            self.stop()
        assert self._end is not None
        gaps = sorted(b - a for moments in self._moments for a, b in pairwise(moments))
        return {
            "cpu_s": self._end[0],
            "wall_s": self._end[1],
            "read_cpu_s": self._read[0],
            "read_wall_s": self._read[1],
            "decoded_cpu_s": self._decoded[0],
            "decoded_wall_s": self._decoded[1],
            "decoded": self._decoded_tokens,
            "drawn": sum(map(len, self._moments)),
            "first_s": [each[0] - came for each, came in zip(self._moments, self._came, strict=True)],
            "gap_median_s": gaps[len(gaps) // 2] if gaps else 0.0,
            "gap_most_s": gaps[-1] if gaps else 0.0,
            "peak_mb": peak_mb(),
        }

    def _account(self, cpu_s: float, wall_s: float) -> None:
        took = cpu_s - self._last[0], wall_s - self._last[1]
        counts = {request: self._fresh.count(request) for request in self._fresh}
        is_reading = not counts or any(self.count(i) == counts[i] for i in counts)
        spent = self._read if is_reading else self._decoded
        spent[0], spent[1] = spent[0] + took[0], spent[1] + took[1]
        self._decoded_tokens += 0 if is_reading else len(self._fresh)
        self._fresh, self._last = [], (cpu_s, wall_s)


@dataclass(slots=True)
class Answer:
    """What an engine gives for a run: the tokens of each request, and the watch."""

    tokens: list[list[int]]
    watch: Watch
    texts: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    """Counters of the engine itself, where it has any."""


class Engine(Protocol):
    """An open engine."""

    def run(self, asks: list[Ask], order: Order) -> Answer: ...


class Absent(Exception):
    """Raised by an engine for what it cannot do; the reason stands in the table."""


def serve(open_engine: Callable[[Order], Engine], **more: Callable[[Any, Order], dict[str, Any]]) -> None:
    """Answers orders until nobody gives any. The first is `open`; `more` are orders beside `run`."""
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is not for the wire
    engine: Any = None
    for line in sys.stdin:
        order: Order = json.loads(line)
        try:
            began, cpu = time.perf_counter(), time.process_time()
            if order["do"] == "open":
                engine = open_engine(order)
                wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
                answer = {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb()}
            elif order["do"] == "run":
                got = engine.run([Ask(**ask) for ask in order["asks"]], order)
                answer = {**got.watch.found(), "tokens": got.tokens, "texts": got.texts, "notes": got.notes}
            else:
                answer = more[order["do"]](engine, order)
        except Absent as e:
            answer = {"absent": str(e)}
        except Exception as e:  # noqa: BLE001  a peer's fault is a finding, whatever its class
            answer = {"absent": f"{type(e).__name__}: {str(e)[:300]}"}
        wire.write(json.dumps(answer) + "\n")
        wire.flush()


def in_batches(asks: list[Ask], order: Order) -> list[list[int]]:
    """Places of the requests, cut into batches for an engine that cannot add to a running one: in order, and each
    of one length of prompt, one number of new tokens and, where the order says `alone`, one adapter."""
    most = int(order.get("max_running", 32))
    batches: list[list[int]] = []
    kind: object = None
    places = range(len(asks))
    for i in sorted(places, key=lambda i: asks[i].adapter or "") if order.get("alone") else places:
        mine = len(asks[i].prompt), asks[i].new, asks[i].adapter if order.get("alone") else None
        if mine != kind or len(batches[-1]) >= most:
            batches.append([])
        batches[-1].append(i)
        kind = mine
    return batches


class Arrivals:
    """For an engine that is stepped by hand: who comes when. `closed` in the order is how many requests are kept
    under way; without it each comes at its time."""

    def __init__(self, asks: list[Ask], order: Order, watch: Watch) -> None:
        self._asks, self._watch = asks, watch
        self._closed: int | None = order.get("closed")
        self.left = list(range(len(asks)))

    def due(self, unfinished: int) -> list[int]:
        """Places of those that arrive now; waits for the next where nothing is under way."""
        while True:
            now = [i for i in self.left if self._is_here(i)]
            if self._closed is not None:
                now = self.left[: max(0, self._closed - unfinished)]
            if now or unfinished or not self.left:
                break
            time.sleep(0.001)
        for i in now:
            self.left.remove(i)
            self._watch.came(i)
        return now

    def _is_here(self, i: int) -> bool:
        ask = self._asks[i]
        return ask.at_s <= self._watch.wall_s and self._watch.count(0) >= ask.behind


def peak_mb() -> float:
    """The most memory this process has held; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next(
        int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM:")
    )
