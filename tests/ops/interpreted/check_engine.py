"""The engine on these kernels, step for step as on a device that compiles them, gives the plain way's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhouse import ops
from tests.engine.world import World, call, run

OPS = ("norm", "rotary", "decode_attention", "gate", "grouped_lora")


@pytest.mark.parametrize(("family", "graphs"), [("llama", "plain"), ("mistral", "off"), ("qwen3", "plain")])
def test_a_mixed_batch_has_the_tokens_of_the_plain_way(family: str, graphs: str, tmp_path: Path) -> None:
    world = World(tmp_path, family)
    world.adapter("small", rank=2, seed=1)
    world.adapter("large", rank=7, seed=2)
    engine = world.engine(kernels="triton", graphs=graphs)
    for op in OPS:
        choice = ops.kernels.choose(op, torch.device("cpu"))
        assert choice.name == "triton", choice.passed_over
    calls = [
        call(f"{adapter}", range(20 + 9 * i, 26 + 14 * i), adapter=adapter, max_new_tokens=4)
        for i, adapter in enumerate((None, "small", "large"))
    ]
    given = run(engine, *calls)
    ops.kernels.prefer("reference")
    for asked in calls:
        assert given[asked.id].tokens == [world.plainly(asked)]
