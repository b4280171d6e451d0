"""Carries rows out: opens the engines, lets them through the gate, then measures them in turns."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks.core import MAX_FOREIGN, TRIES
from benchmarks.results import quantile
from benchmarks.serve import checkpoints, environments, limits
from benchmarks.serve.arms import KINDS, Arm
from benchmarks.serve.gate import Reference
from benchmarks.serve.journal import Journal
from benchmarks.serve.peers.wire import Absent, Order
from benchmarks.serve.rows import SCHEMA, Load, Row
from inhouse import device as devices

SLOW_S = 20.0
SLOW_REPEATS = 2
"""An engine whose first repeat took longer than SLOW_S is measured so often: five would take an evening."""


@dataclass(slots=True)
class Bench:
    """Where, on what and how often."""

    folder: Path
    journal: Journal
    repeats: int = 5
    device: str = "cpu"
    here: bool = False
    """Peers run in this interpreter, where their environments cannot be made."""
    tries: int = TRIES
    """At most so often is a repeat done in which others had too much of the core."""
    is_tiny: bool = False
    """For trying the harness: the limits are measured in a moment."""
    sitting: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    """What is measured in one go; a ratio over two of them says less."""
    _limits: limits.Limits | None = None
    _gates: dict[str, Order] = field(default_factory=dict)

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    def run(self, rows: Iterable[Row]) -> None:
        """Measures what is not in the journal yet."""
        open_arms: dict[str, Arm] = {}
        try:
            for row in rows:
                self._row(row, open_arms)
        finally:
            for arm in open_arms.values():
                arm.end()

    def _row(self, row: Row, open_arms: dict[str, Arm]) -> None:
        engines = [engine for engine in row.engines if self._wanted(row, engine)]
        if not engines:
            return
        print(f"{row.key}: {row.what}", flush=True)
        base = checkpoints.base(self.folder, row.load.base)
        if self.journal.about(row.key, "limits") is None:
            if self._limits is None:
                round_s = 0.01 if self.is_tiny else limits.ROUND_S
                self._limits = limits.measure(devices.pick(self.device), round_s=round_s)
            self.journal.add(row=row.key, limits=asdict(self._limits))
        if row.how == "start":
            for repeat in range(self.repeats):
                for engine in engines:
                    self._repeat(row, engine, repeat, base, None)
            return
        keys = {engine: self._key(row, engine, base) for engine in engines}
        for key in [key for key in open_arms if key not in keys.values()]:
            open_arms.pop(key).end()  # memory for those that this row needs
        reference = Reference(row, self.folder, base, device=self.device, here=self.here)
        try:
            for engine in engines:
                self._admit(row, engine, keys[engine], open_arms, reference)
        finally:
            reference.end()
        for repeat in range(self.repeats):
            for engine in engines:
                key = keys[engine]
                if key in open_arms and row.opened.get("fresh") and self._wanted(row, engine):
                    open_arms.pop(key).end()  # nothing that an earlier run has read is in its memory
                    self._admit(row, engine, key, open_arms, reference)
                if key in open_arms:
                    self._repeat(row, engine, repeat, base, open_arms[key])
                if key in open_arms and self.journal.absent(row.key, engine) is not None:
                    open_arms.pop(key).end()

    def _wanted(self, row: Row, engine: str) -> bool:
        if self.journal.absent(row.key, engine) is not None:
            return False
        is_unseen = row.how != "start" and self.journal.gate(row.key, engine) is None
        return is_unseen or not self._has_enough(row, engine)

    def _has_enough(self, row: Row, engine: str) -> bool:
        done = self.journal.repeats(row.key, engine)
        is_slow = bool(done) and float(done[0]["took_s"]) > SLOW_S
        return len(done) >= (min(SLOW_REPEATS, self.repeats) if is_slow else self.repeats)

    def _key(self, row: Row, engine: str, base: Path) -> str:
        """What an engine is opened with: rows that agree on it share the process."""
        return engine + json.dumps(self._order(row, base), sort_keys=True)

    def _order(self, row: Row, base: Path) -> Order:
        named = checkpoints.adapters(self.folder, row.load.base, row.load.adapters, ranks=row.load.ranks)
        context = -(-row.context // 1024) * 1024
        opened = {k: v for k, v in row.opened.items() if k not in ("warm", "pace", "fresh")}
        return {
            "base": str(base),
            "precision": row.precision,
            "context": context,
            "device": self.device,
            "scratch": str(self.folder / "scratch"),
            "adapters": [str(folder) for folder in named],
            "highest_rank": max(row.load.ranks),
            "mean_rank": sum(row.load.ranks) / len(row.load.ranks),
            **({} if not named else opened),
            **({k: v for k, v in opened.items() if not k.startswith("adapters")}),
        }

    def _admit(
        self, row: Row, engine: str, key: str, open_arms: dict[str, Arm], reference: Reference
    ) -> None:
        """Opens an engine and puts it before the gate; where it cannot be had, the reason is kept."""
        try:
            if key not in open_arms:
                open_arms[key] = self._opened(row, engine, key)
            if self.journal.gate(row.key, engine) is None:
                if key not in self._gates:  # a process that passed for another row need not pass again
                    self._gates[key] = reference.judge(open_arms[key])
                self.journal.add(row=row.key, engine=engine, gate=self._gates[key])
        except Absent as e:
            self._note_absent(row, engine, e)
            if key in open_arms:
                open_arms.pop(key).end()

    def _opened(self, row: Row, engine: str, key: str) -> Arm:
        arm = Arm(KINDS[engine], self.folder, here=self.here)
        try:
            order: Order = json.loads(key.removeprefix(engine))
            opened = arm.ask("open", **order)
            if row.opened.get("warm"):
                self._warm(arm, order)
        except Absent:
            arm.end()
            raise
        self.journal.add(row=row.key, engine=engine, opened=opened)
        return arm

    def _warm(self, arm: Arm, order: Order) -> None:
        """One request of every adapter, so that all are resident."""
        asks = [{"prompt": [5] * 8, "new": 1, "adapter": adapter} for adapter in order["adapters"]]
        arm.ask("run", asks=asks, closed=32)

    def _repeat(self, row: Row, engine: str, repeat: int, base: Path, arm: Arm | None) -> None:
        """One repeat, done again where others had more than a tenth of the time."""
        done = self.journal.repeats(row.key, engine)
        if len(done) > repeat or self._has_enough(row, engine):
            return
        if self.journal.absent(row.key, engine) is not None:
            return
        try:
            tries = 1 if row.opened.get("fresh") else self.tries  # a second one would find adapters read
            for attempt in range(1, tries + 1):
                began = time.perf_counter()
                if arm is None:
                    figures = self._start(row, engine, base, repeat)
                elif row.how == "switch":
                    figures = self._switch(row, arm, repeat, attempt)
                else:
                    figures = self._load(row, engine, arm, repeat)
                took_s = time.perf_counter() - began
                is_quiet = (
                    not self.on_cpu or figures["wall_per_cpu"] <= 1 + MAX_FOREIGN or "pace" in row.opened
                )
                if is_quiet:
                    break
            self.journal.add(
                row=row.key, engine=engine, repeat=repeat, sitting=self.sitting, took_s=took_s, tries=attempt,
                is_quiet=is_quiet,
                figures=figures,
            )  # fmt: skip
        except Absent as e:
            self._note_absent(row, engine, e)

    def _note_absent(self, row: Row, engine: str, reason: Absent) -> None:
        print(f"  {engine}: {reason}", flush=True)
        self.journal.add(row=row.key, engine=engine, absent=str(reason))

    # ── what is measured ──────────────────────────────────────────────────────────────────────────────────

    def _load(self, row: Row, engine: str, arm: Arm, repeat: int) -> dict[str, float]:
        """The row's load. Prompts differ from repeat to repeat, so that nobody finds the last one's in a cache."""
        load = self._paced(row, engine)
        asks = load.asks(self.folder, repeat)
        if row.opened.get("fresh"):
            arm.ask("run", asks=[{**ask, "adapter": None, "at_s": 0.0} for ask in asks[:4]])
        elif repeat == 0 and not row.opened.get("shares_prefix"):
            arm.ask("run", asks=asks[: max(1, len(asks) // 16)])  # what is made at first use is not counted
        got = arm.ask("run", asks=asks, closed=load.closed, alone=False, each=load.adapters > 0)
        clock = "cpu_s" if self.on_cpu else "wall_s"
        read = sum(len(ask["prompt"]) for ask in asks)
        figures = {
            "prefill": read / got[f"read_{clock}"],
            "whole": got["drawn"] / got[clock],
            "first_p50": quantile(got["first_s"], 0.5),
            "first_p99": quantile(got["first_s"], 0.99),
            "peak_mb": got["peak_mb"],
            "cpu_s": got["cpu_s"],
            "wall_s": got["wall_s"],
            "wall_per_cpu": got["wall_s"] / max(got["cpu_s"], 1e-9),
        }
        if got["decoded"]:
            figures["decode"] = got["decoded"] / got[f"decoded_{clock}"]
        if load.is_zipf:
            figures |= _head_and_tail(asks, got["first_s"])
        if load.schema is not None:
            # A reply that was cut at its last token may be anything; what ended by itself must be whole.
            ended = [t for t, new in zip(got["texts"], got["tokens"], strict=True) if len(new) < load.new]
            if ended:
                figures["valid"] = sum(map(_follows, ended)) / len(ended)
            figures["ended"] = len(ended) / len(asks)
        return figures | {f"notes.{name}": value for name, value in got["notes"].items()}

    def _paced(self, row: Row, engine: str) -> Load:
        """The load, with the time between arrivals that the closed loop's speed allows for."""
        if "pace" not in row.opened:
            return row.load
        done = self.journal.repeats("W5 closed", engine)
        if not done:
            raise Absent("arrivals follow the closed loop's speed; measure W5 closed first")
        each_s = median(entry["figures"]["wall_s"] for entry in done) / row.load.requests
        return replace(row.load, gap_s=each_s / row.opened["pace"])

    def _switch(self, row: Row, arm: Arm, repeat: int, attempt: int) -> dict[str, float]:
        """Milliseconds until the first token: of an adapter just used, beyond those of the base; of one never seen,
        and of one that others have put out, beyond one just used. And by how much running streams' longest step
        grows when one never seen comes."""
        asks = row.load.asks(self.folder, repeat)
        named = checkpoints.adapters(self.folder, row.load.base, row.load.adapters, ranks=row.load.ranks)
        others, fresh = named[: row.opened["adapters_kept"] + 1], named[-1]
        used: list[Order] = []

        def first_ms(adapter: str | None) -> float:
            got = arm.ask("run", asks=[{"prompt": asks[0]["prompt"], "new": 1, "adapter": adapter}])
            used.append(got)
            return float(got["first_s"][0]) * 1e3

        def longest_ms(name: str | None) -> float:
            streams = [{**ask, "adapter": None} for ask in asks]
            late = {"prompt": asks[0]["prompt"], "new": 1, "adapter": name, "behind": row.load.new // 2}
            got = arm.ask("run", asks=[*streams, late])
            used.append(got)
            return float(got["gap_most_s"]) * 1e3

        copies = [self.folder / "published" / f"{arm.kind.name}-{repeat}-{attempt}-{i}" for i in range(2)]
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(fresh, copy)  # published while the engine runs: it has not seen this name
        first_ms(None)
        plain = median(first_ms(None) for _ in range(3))
        cold = first_ms(str(copies[0]))
        resident = median(first_ms(str(copies[0])) for _ in range(3))
        for other in others:
            first_ms(str(other))
        host = first_ms(str(copies[0]))
        stall = longest_ms(str(copies[1])) - longest_ms(None)
        for copy in copies:
            shutil.rmtree(copy)
        cpu_s, wall_s = (sum(got[name] for got in used) for name in ("cpu_s", "wall_s"))
        return {
            "cold_ms": cold - resident,
            "host_ms": host - resident,
            "resident_ms": resident - plain,
            "stall_ms": stall,
            "wall_per_cpu": wall_s / max(cpu_s, 1e-9),
        }

    def _start(self, row: Row, engine: str, base: Path, repeat: int) -> dict[str, float]:
        """From the start of a process to its first token, and what it takes in memory and on disk."""
        for _ in range(
            2 if repeat == 0 else 1
        ):  # the first makes what is made once, such as converted checkpoints
            arm = Arm(KINDS[engine], self.folder, here=self.here)
            try:
                opened = arm.ask("open", **self._order(row, base))
                got = arm.ask("run", asks=row.load.asks(self.folder, 0))
                start_s = time.perf_counter() - arm.began
            finally:
                arm.end()
        environment = KINDS[engine].environment
        sizes = (
            environments.sizes_mb(environments.python_of(self.folder, environment))
            if environment is not None and not self.here
            else environments.sizes_here_mb()
        )
        return {
            "start_s": start_s,
            "peak_mb": got["peak_mb"],
            "torch_mb": sizes["torch"],
            "others_mb": sizes["others"],
            "wall_per_cpu": (opened["wall_s"] + got["wall_s"]) / max(opened["cpu_s"] + got["cpu_s"], 1e-9),
        }


def _head_and_tail(asks: list[Order], first_s: list[float]) -> dict[str, float]:
    """Medians until the first token, for the tenth of the adapters that are asked for most and for the rarer half."""
    counts: dict[str, int] = {}
    for ask in asks:
        counts[ask["adapter"]] = counts.get(ask["adapter"], 0) + 1
    often = sorted(counts, key=lambda name: -counts[name])
    head, tail = set(often[: max(1, len(often) // 10)]), set(often[len(often) // 2 :])

    def of(names: set[str]) -> float:
        return median(s for ask, s in zip(asks, first_s, strict=True) if ask["adapter"] in names)

    return {"head_p50": of(head), "tail_p50": of(tail)}


def _follows(text: str) -> bool:
    """Whether a reply is what SCHEMA asks for."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    wanted = json.loads(SCHEMA)["properties"]
    return (
        isinstance(found, dict)
        and set(found) == set(wanted)
        and isinstance(found["name"], str)
        and len(found["name"]) <= wanted["name"]["maxLength"]
        and type(found["count"]) is int
        and 0 <= found["count"] <= wanted["count"]["maximum"]
        and found["kind"] in wanted["kind"]["enum"]
        and isinstance(found["open"], bool)
    )
