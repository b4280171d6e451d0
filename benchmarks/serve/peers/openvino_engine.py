"""OpenVINO GenAI's continuous batching, one adapter at a time. Run in an environment of its own.

The checkpoint is exported once for each precision, beside the environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import openvino
import openvino_genai
from wire import Absent, Answer, Arrivals, Ask, Order, Watch, in_batches, serve

EXPORTS = {"bf16": "fp16", "int8": "int8", "int4": "int4"}
"""Weight formats of the exporter. Its 16-bit one is float16; a CPU that multiplies bfloat16 computes in that."""


class OpenVino:
    """A pipeline, and the adapters that it was opened with: those must be known beforehand."""

    def __init__(self, order: Order) -> None:
        if order["precision"] not in EXPORTS:
            raise Absent(f"there is no export for {order['precision']}")
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 2  # GiB
        scheduler.max_num_seqs = order.get("max_running", 32)
        scheduler.max_num_batched_tokens = max(4096, order["context"])
        scheduler.enable_prefix_caching = order.get("shares_prefix", False)
        self.adapters = {folder: _adapter(folder) for folder in order.get("adapters", [])}
        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": order.get("threads", 1)}
        if order["precision"] == "bf16":
            properties["KV_CACHE_PRECISION"] = (
                "bf16"  # its own choice is 8 bits, which no other engine takes here
            )
        if self.adapters:
            properties["adapters"] = openvino_genai.AdapterConfig(list(self.adapters.values()))
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(_exported(order)), scheduler, "CPU", properties
        )
        self.runs = 0

    def run(self, asks: list[Ask], order: Order) -> Answer:
        if any(ask.adapter for ask in asks):
            reading, _ = self._by_adapter([replace(ask, new=1) for ask in asks], order)
            watch, tokens = self._by_adapter(asks, order)
            watch.split(reading, [len(new) for new in tokens])
            return Answer(tokens, watch)
        tokens = [[] for _ in asks]
        watch = Watch(len(asks))
        self._stepped(asks, order, watch, tokens)
        watch.stop()
        return Answer(tokens, watch)

    def _by_adapter(self, asks: list[Ask], order: Order) -> tuple[Watch, list[list[int]]]:
        """One adapter after the other, by `generate`: only that applies them, and it tells nothing while it runs."""
        tokens: list[list[int]] = [[] for _ in asks]
        watch = Watch(len(asks))
        for places in in_batches(asks, {**order, "alone": True}):
            ids = [_tensor(asks[i].prompt) for i in places]
            done = self.pipeline.generate(ids, [self._config(asks[i]) for i in places])
            for i, answer in zip(places, done, strict=True):
                tokens[i] = list(answer.m_generation_ids[0])
        watch.stop()
        return watch, tokens

    def _stepped(self, asks: list[Ask], order: Order, watch: Watch, tokens: list[list[int]]) -> None:
        arrivals = Arrivals(asks, order, watch)
        handles: dict[int, Any] = {}
        while arrivals.left or handles:
            for i in arrivals.due(len(handles)):
                self.runs += 1
                handles[i] = self.pipeline.add_request(
                    self.runs, _tensor(asks[i].prompt), self._config(asks[i])
                )
            self.pipeline.step()
            for i, handle in list(handles.items()):
                if handle.can_read():
                    new = [t for part in handle.read().values() for t in part.generated_ids]
                    watch.token(i, len(new))
                    tokens[i] += new
                if len(tokens[i]) >= asks[i].new:
                    del handles[i]
            watch.step()
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()

    def _config(self, ask: Ask) -> Any:
        if ask.schema is not None:
            raise Absent("structured output is not measured here")
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = ask.new
        config.ignore_eos, config.do_sample = True, False
        if self.adapters:
            chosen = openvino_genai.AdapterConfig()
            if ask.adapter is not None:
                if ask.adapter not in self.adapters:
                    raise Absent("adapters must be known when the pipeline is opened")
                chosen = openvino_genai.AdapterConfig(self.adapters[ask.adapter], _scale(ask.adapter))
            config.adapters = chosen
        return config


def _tensor(prompt: list[int]) -> openvino.Tensor:
    return openvino.Tensor(numpy.array([prompt], dtype=numpy.int64))


def _adapter(folder: str) -> Any:
    return openvino_genai.Adapter(str(Path(folder) / "adapter_model.safetensors"))


def _scale(folder: str) -> float:
    """What the product is multiplied by. It stands beside the weights, in a file that the library does not read."""
    settings = json.loads((Path(folder) / "adapter_config.json").read_text())
    return float(settings["lora_alpha"] / settings["r"])


def _exported(order: Order) -> Path:
    """The folder of the exported base, made where it is not there."""
    base = Path(order["base"])
    target = Path(order["scratch"]) / f"{base.name}-{order['precision']}"
    if not (target / "openvino_model.xml").is_file():
        exporter = Path(sys.executable).with_name("optimum-cli")
        line = [exporter, "export", "openvino", "--model", base, "--task", "text-generation-with-past"]
        done = subprocess.run(
            [*line, "--weight-format", EXPORTS[order["precision"]], target], capture_output=True, text=True
        )
        if done.returncode:
            raise Absent(f"the exporter failed: {done.stderr.strip().splitlines()[-1][:300]}")
    return target


if __name__ == "__main__":
    serve(OpenVino)
