"""Our engine as an arm: put together as a serving job does it, stepped in its own process.

It speaks to the engine through `engine.build`, `Intake.prepare`, `Engine.add` and `Engine.step` alone.
"""

from __future__ import annotations

import cProfile
import json
import pstats
from pathlib import Path
from typing import Any

import torch

from benchmarks.serve.peers.wire import Absent, Answer, Arrivals, Ask, Order, Watch, serve
from inhouse import device as devices
from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.errors import NotFound
from inhouse.model.weights import load_base
from inhouse.schema import EngineRequest, Sampling, Structure
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer

PRECISIONS = {"bf16": ("bfloat16", "none"), "float32": ("float32", "none"), "int8": ("bfloat16", "int8"),
              "int4": ("bfloat16", "int4")}  # fmt: skip
"""Name here → what is computed in, and what weights are rounded to."""
BASE_DIGEST = "b" * 64


class House:
    """An engine on one base, with all the adapters that are asked for."""

    def __init__(self, order: Order) -> None:
        torch.set_num_threads(order.get("threads", 1))
        folder = Path(order["base"])
        device = devices.pick(order.get("device", "cpu"))
        dtype, quantization = PRECISIONS[order["precision"]]
        settings = Settings(
            max_running=order.get("max_running", 32),
            cache_tokens=order.get("cache_tokens", 2 * order["context"] + 8192),
            device=order.get("device", "cpu"),
            dtype=dtype,
            quantization=quantization,
            adapter_rows=_rank_rows(order),
        )
        tokenizer = Tokenizer.load(folder)
        self.engine: Engine = build(
            load_base(
                folder, device=device.torch_device, dtype=getattr(torch, dtype), quantization=quantization
            ),
            tokenizer,
            ChatTemplate.load(folder, tokenizer),
            base_digest=BASE_DIGEST,
            adapter_folder=_adapter_folder,
            settings=settings,
            reuses_prefixes=order.get("shares_prefix", False),
        )
        self.runs = 0

    def run(self, asks: list[Ask], order: Order) -> Answer:
        engine, self.runs = self.engine, self.runs + 1
        tokens: list[list[int]] = [[] for _ in asks]
        texts = [""] * len(asks)
        requests: dict[str, Any] = {}
        before = dict(engine.stats)
        watch = Watch(len(asks))
        arrivals = Arrivals(asks, order, watch)
        while arrivals.left or requests:
            for i in arrivals.due(len(requests)):
                name = f"{self.runs}-{i}"
                requests[name] = engine.intake.prepare(_call(name, asks[i]), name)
                engine.add(requests[name])
            for reply in engine.step():
                i = int(reply.request_id.split("-")[1])
                if reply.frame.fault is not None:
                    raise Absent(f"the engine refused a request: {reply.frame.fault}")
                if reply.frame.delta is not None:
                    texts[i] += reply.frame.delta.text
                    watch.token(i, reply.frame.delta.tokens)
                if reply.is_last:
                    choice = requests.pop(reply.request_id).choices[0]
                    tokens[i] = choice.tokens[choice.prompt_length :]
            watch.step()
        watch.stop()
        after = engine.stats
        notes = {k: after[k] - before.get(k, 0.0) for k in after if k.endswith("_total")}
        return Answer(tokens, watch, texts, notes)


def profile(house: House, order: Order) -> dict[str, Any]:
    """Where a run's time goes: seconds inside each function itself, the longest first. Kernels of our own are called
    from functions of their own, so their time is that function's."""
    asks = [Ask(**ask) for ask in order["asks"]]
    recorder = cProfile.Profile()
    recorder.enable()
    house.run(asks, order)
    recorder.disable()
    entries = [(f"{Path(file).stem}.{name}" if line else name, spent, calls)
               for (file, line, name), (_, calls, spent, _, _) in pstats.Stats(recorder).stats.items()]  # type: ignore[attr-defined]  # fmt: skip
    entries.sort(key=lambda entry: -entry[1])
    return {
        "s": sum(spent for _, spent, _ in entries),
        "top": [{"what": what, "s": spent, "calls": calls} for what, spent, calls in entries[:16]],
    }


def _call(name: str, ask: Ask) -> EngineRequest:
    structure = None
    if ask.schema is not None:
        structure = Structure(param="structured_outputs", json_schema=json.loads(ask.schema))
    return EngineRequest(
        id=name,
        tokens=tuple(ask.prompt),
        adapter=ask.adapter,
        sampling=Sampling(temperature=ask.temperature, max_new_tokens=ask.new, seed=1),
        structure=structure,
    )


def _rank_rows(order: Order) -> int:
    """Room on the device for as many adapters as the order says; 0 is the engine's own choice."""
    return round(order.get("adapters_kept", order.get("adapters_at_once", 0)) * order.get("mean_rank", 0))


def _adapter_folder(digest: str) -> Path:
    """The path itself stands for an adapter's digest here."""
    if not Path(digest).is_dir():
        raise NotFound(f"There is no adapter {digest}.")
    return Path(digest)


if __name__ == "__main__":
    serve(House, profile=profile)
