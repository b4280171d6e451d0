"""Training on a device whose name no code of ours knows gives the CPU's losses, and an adapter that serves there.

To the last bit until torch's attention takes another way there than on the CPU, and to its rounding from then on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhouse import ops
from inhouse.model.adapters import Adapter, TrainedLora
from inhouse.model.weights import load_base
from inhouse.tune.loop import train
from tests.device.simulated.check_serving import engine_on
from tests.engine.world import World, call, run
from tests.tune.test_loop import recipe, source


def trained_on(device: str, folder: Path) -> tuple[list[float], Adapter]:
    decoder = load_base(folder, device=torch.device(device), dtype=torch.float32)
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    losses = [step.loss for step in train(decoder, lora, source(4), recipe(epochs=4))]
    return losses, lora.adapter()


def test_losses_and_the_adapter_are_the_cpus_and_it_serves_there(tmp_path: Path) -> None:
    ops.kernels.prefer("reference")  # so that the CPU takes no kernel of its own either
    world = World(tmp_path)
    (there, adapter), (here, twin) = (trained_on(device, world.folder) for device in ("sim:0", "cpu"))
    assert len(there) > 5 and there[-1] < there[0]
    assert there[:2] == here[:2] and there == pytest.approx(here, rel=1e-4)
    for name, factors in adapter.tensors.items():
        for mine, theirs in zip(factors, twin.tensors[name], strict=True):
            assert (mine - theirs).norm() < 1e-2 * theirs.norm(), f"{name} differs"
    adapter.write(world.adapters / "trained", load_base(world.folder).config, base="tiny")
    asked = [call("with", adapter="trained"), call("without")]
    answers = [run(engine_on(world, device), *asked) for device in ("sim:0", "cpu")]
    for wanted in asked:
        assert answers[0][wanted.id].tokens == answers[1][wanted.id].tokens
    assert answers[0]["with"].tokens != answers[0]["without"].tokens
