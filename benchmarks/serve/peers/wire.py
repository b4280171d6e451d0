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
    """Writes down when each request came, and each of its tokens: seconds of this process's CPU and of the wall."""

    def __init__(self, requests: int) -> None:
        self._came: list[float] = [0.0] * requests
        self._walls: list[list[float]] = [[] for _ in range(requests)]
        self._cpus: list[list[float]] = [[] for _ in range(requests)]
        self._end: tuple[float, float] | None = None
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self._wall

    def came(self, request: int) -> None:
        """Notes that a request was handed to the engine; without it, it came when the run began."""
        self._came[request] = self.wall_s

    def token(self, request: int, count: int = 1) -> None:
        """Notes new tokens of a request."""
        self._walls[request] += [self.wall_s] * count
        self._cpus[request] += [time.process_time() - self._cpu] * count

    def heard(self, request: int, moments: list[float]) -> None:
        """Takes a request's tokens from an engine's own notes, moments of the wall's clock."""
        self._walls[request] = [moment - self._wall for moment in moments]
        self._cpus[request] = list(self._walls[request])

    def count(self, request: int) -> int:
        return len(self._walls[request])

    def stop(self) -> None:
        """Ends the measurement; what is done afterwards costs nothing."""
        self._end = time.process_time() - self._cpu, self.wall_s

    def found(self) -> dict[str, Any]:
        """What a run came to. `first_*` is the moment when the last request had its first token, and `drawn_first`
        how many tokens there were by then; gaps are those between a request's tokens, steps all together."""
        if self._end is None:
            self.stop()
        assert self._end is not None
        cpu_s, wall_s = self._end
        at = [walls[0] - came for walls, came in zip(self._walls, self._came, strict=True)]
        first_cpu_s = max(cpus[0] for cpus in self._cpus)
        first_wall_s = max(walls[0] for walls in self._walls)
        gaps = sorted(b - a for walls in self._walls for a, b in pairwise(walls))
        return {
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "first_cpu_s": first_cpu_s,
            "first_wall_s": first_wall_s,
            "drawn_first": sum(t <= first_cpu_s for cpus in self._cpus for t in cpus),
            "drawn": sum(map(len, self._cpus)),
            "first_s": at,
            "gap_median_s": gaps[len(gaps) // 2] if gaps else 0.0,
            "gap_most_s": gaps[-1] if gaps else 0.0,
            "peak_mb": peak_mb(),
        }


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
