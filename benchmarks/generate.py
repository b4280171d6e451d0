"""What HTTP, the gateway and the client cost a batch: `inhouse generate` beside the bare engine, same rows.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.generate [--rows 200] [--tokens 64]

The bare engine runs in this process: text in, text out, as many at once as the server's engine decodes. Then a
server, its worker and its engine run as processes on the same core, and the client in this one. Rows are the
examples' questions with a shared system prompt; every reply is made `--tokens` long, so that both do the same work.
The share is bare CPU seconds over all processes' CPU seconds: neighbours on the machine change it little. That of the
engine's process alone is what remains where gateway and client have a core of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from inhouse import Client, rows
from inhouse.engine.build import build
from inhouse.engine.engine import Engine, Reply
from inhouse.model.locate import EMBEDDED, locate
from inhouse.model.weights import load_base
from inhouse.schema import EngineRequest, Message, Sampling
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests.house.house import descendants

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SYSTEM = "You are the assistant of Aurora Ferry. Answer in a few words."
END_TOKENS = {0: -100, 2: -100}
"""Never chosen, so that each reply is as long as it may be."""


def questions(count: int) -> list[str]:
    files = [EXAMPLES / "aurora_ferry.jsonl", EXAMPLES / "aurora_ferry_reworded.jsonl"]
    found = [row.messages[0].text for file in files for row in rows.load(file)]
    return list(islice(cycle(found), count))


def bare_engine(*, reuses_prefixes: bool = True, **settings: Any) -> Engine:
    """An engine on the embedded base, without adapters."""
    folder = locate("seedling", EMBEDDED)
    tokenizer = Tokenizer.load(folder)
    return build(
        load_base(folder),
        tokenizer,
        ChatTemplate.load(folder, tokenizer),
        base_digest="b" * 64,
        adapter_folder=Path,
        settings=Settings(**settings),
        reuses_prefixes=reuses_prefixes,
    )


def bare(engine: Engine, asked: list[str], tokens: int) -> list[str]:
    """Every reply's text, by the engine alone; like the server, it is handed a request when one has ended."""
    texts = [""] * len(asked)
    waiting = iter(enumerate(asked))

    def hear(replies: list[Reply]) -> int:
        ended = 0
        for reply in replies:
            if reply.frame.delta is not None:
                texts[int(reply.request_id)] += reply.frame.delta.text
            ended += reply.is_last
        return ended

    def add(count: int) -> None:
        for number, question in islice(waiting, count):
            messages = (Message(role="system", content=SYSTEM), Message(role="user", content=question))
            sampling = Sampling(max_new_tokens=tokens, temperature=0, logit_bias=END_TOKENS)
            call = EngineRequest(id=str(number), messages=messages, sampling=sampling)
            engine.add(engine.intake.prepare(call, call.id))

    add(2 * engine.scheduler.max_running)
    while engine.has_work:
        add(hear(engine.step()))
    return texts


def cpu_s(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def served(asked: list[str], tokens: int, repeats: int) -> tuple[list[str], list[dict[str, float]]]:
    """Every reply's text, by server and client, and the CPU seconds of each process kind, run by run."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        environment = {**os.environ, "INHOUSE_DATA_DIR": str(data)}
        command = [sys.executable, "-m", "inhouse.server", "--port", "0"]
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        place = data / "run" / "server.json"
        while not place.is_file():
            time.sleep(0.1)
        told = json.loads(place.read_text())
        how: dict[str, Any] = {"system": SYSTEM, "max_tokens": tokens, "logit_bias": END_TOKENS}
        try:
            with Client(told["url"], told["key"]) as client:
                list(client.generate(asked[:64], model="seedling", **how))
                spent = []
                for run in range(repeats):
                    pids = {server.pid: "gateway", os.getpid(): "client"}
                    for pid, line in descendants(server.pid).items():
                        pids[pid] = "engine" if "child" in line else "worker"
                    before = {pid: cpu_s(pid) for pid in pids}
                    started = time.monotonic()
                    out = Path(folder) / f"out{run}.jsonl"
                    client.generate(asked, model="seedling", out=out, **how)
                    one = {"wall": time.monotonic() - started}
                    for pid, kind in pids.items():
                        one[kind] = one.get(kind, 0.0) + cpu_s(pid) - before[pid]
                    spent.append(one)
                texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    return texts, spent


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=200)
    arguments.add_argument("--tokens", type=int, default=64)
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args()
    asked = questions(chosen.rows)
    engine = bare_engine()
    bare(engine, asked[:64], chosen.tokens)
    alone = []
    for _ in range(chosen.repeats):
        started, wall = time.process_time(), time.monotonic()
        expected = bare(engine, asked, chosen.tokens)
        alone.append({"engine": time.process_time() - started, "wall": time.monotonic() - wall})
    texts, spent = served(asked, chosen.tokens, chosen.repeats)
    assert sum(a != b for a, b in zip(texts, expected, strict=True)) <= len(asked) // 100, "other replies"
    best_alone = min(one["engine"] for one in alone)
    best = min(spent, key=lambda one: sum(one.values()) - one["wall"])
    whole = sum(best.values()) - best["wall"]
    generated = chosen.rows * chosen.tokens
    print(json.dumps({"bare": alone, "served": spent}, indent=1))
    print(f"bare {generated / best_alone:,.0f} tokens a CPU second, served {generated / whole:,.0f}")
    engine_share = best_alone / best["engine"]
    wall = min(one["wall"] for one in alone) / min(one["wall"] for one in spent)
    print(f"share {best_alone / whole:.3f}; of the engine's process {engine_share:.3f}; wall {wall:.3f}")


if __name__ == "__main__":
    main()
