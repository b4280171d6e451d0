"""Decoding of a toy mixture of experts (8, of which a token uses 2) on one core: tokens a CPU-second, and memory.

    python -m benchmarks.mixture

A base of 53 million numbers with random weights, in bfloat16; prompts of 16 tokens, replies of 64, greedy, with 1
and with 16 streams. It prints, and writes no table: the median of its repeats and their range stand for each arm. It
speaks to the engine through `engine.build` and `Engine` alone, so it measures an older checkout as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.core import pin
from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.model.weights import load_base
from inhouse.schema import EngineRequest, Sampling
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests.tiny import base_folder

SHAPE = {
    "hidden_size": 512,
    "head_dim": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "mlp_only_layers": [],
    "moe_intermediate_size": 1024,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
STREAMS = (1, 16)
TOKENS = 64


def engine(folder: Path, quantization: str) -> Engine:
    tokenizer = Tokenizer.load(folder)
    return build(
        load_base(folder, dtype=torch.bfloat16),
        tokenizer,
        ChatTemplate.load(folder, tokenizer),
        base_digest="b" * 64,
        adapter_folder=Path,
        settings=Settings(max_running=16, cache_tokens=4096, lookup="off", quantization=quantization),
        reuses_prefixes=False,
    )


def decoded(running: Engine, streams: int) -> float:
    """Tokens a CPU-second of steps in which every stream decodes."""
    sampling = Sampling(temperature=0.0, max_new_tokens=TOKENS, logit_bias={2: -100.0})
    for i in range(streams):
        tokens = tuple(range(20 + i, 36 + i))
        request = EngineRequest(id=f"{streams}-{i}", tokens=tokens, sampling=sampling)
        running.add(running.intake.prepare(request, request.id))
    running.step()  # the prompts, and first tokens
    count, began = 0, time.process_time()
    while running.has_work:
        running.step()
        count += streams
    return count / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--core", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    pin(given.core)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = base_folder(Path(folder), "qwen3_moe", **SHAPE)
        for quantization in ("none", "int8", "int4"):
            running = engine(base, quantization)
            megabytes = running.runner.decoder.weight_bytes / 1e6
            print(f"{quantization}: {megabytes:.1f} MB a token", flush=True)
            for streams in STREAMS:
                decoded(running, streams)
                found = [decoded(running, streams) for _ in range(given.repeats)]
                print(
                    f"  {streams} streams: {median(found):.1f} ({min(found):.1f} to {max(found):.1f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
