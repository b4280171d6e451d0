"""The serving path on a device whose name no code of ours knows gives the CPU's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhouse import device as devices
from inhouse import ops
from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.model.weights import load_base
from inhouse.settings import Settings
from tests.engine.world import BASE_DIGEST, World, call, run
from tests.ops.interpreted.numbers import normal

ADAPTERS = (None, "small", "large", None, "attention", "small")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    world.adapter("small", rank=2, seed=1)
    world.adapter("large", rank=7, seed=2)
    world.adapter("attention", rank=4, seed=3, only="self_attn")
    return world


def engine_on(world: World, device: str) -> Engine:
    return build(
        load_base(world.folder, device=torch.device(device), dtype=torch.float32),
        world.tokenizer,
        world.template,
        base_digest=BASE_DIGEST,
        adapter_folder=world.adapter_folder,
        settings=Settings(max_running=8, cache_tokens=1024, kernels="reference"),
        token_budget=64,
    )


def test_discovery_finds_it_first_and_claims_nothing() -> None:
    found = devices.pick("auto")
    assert (found.type, found.label, found.vendor) == ("sim", "sim:0", "sim")
    assert found.torch_device == torch.device("sim:0")
    assert found.dtype() is torch.float32
    assert not found.capabilities.triton and not found.capabilities.graphs
    assert devices.pick("cpu").type == "cpu"


def test_every_operation_takes_the_plain_implementation() -> None:
    for op in ops.kernels.operations:
        assert ops.kernels.choose(op, torch.device("sim:0")).name == "torch"


def test_tensors_of_two_devices_never_meet() -> None:
    here, there = torch.ones(2, 2), torch.ones(2, 2, device="sim")
    with pytest.raises(RuntimeError, match="of sim and of cpu"):
        here + there
    with pytest.raises(RuntimeError, match="of sim and of cpu"):
        there @ here


def test_numbers_are_the_cpus() -> None:
    x, weight = (normal(*shape, dtype=torch.float32, seed=1) for shape in ((5, 16), (16,)))
    there = ops.rms_norm(x.to("sim"), weight.to("sim"), 1e-5)
    assert there.device.type == "sim"
    assert torch.equal(there.cpu(), ops.rms_norm(x, weight, 1e-5))


def test_a_mixed_batch_has_the_tokens_of_the_cpu(world: World) -> None:
    calls = [
        call(f"{adapter}-{i}", range(20 + 9 * i, 23 + 14 * i), adapter=adapter, logprobs=3)
        for i, adapter in enumerate(ADAPTERS)
    ]
    calls.append(call("drawn", range(30, 50), adapter="small", temperature=1.0, seed=7))
    engine = engine_on(world, "sim:0")
    assert engine.runner.decoder.device.type == engine.runner.cache.keys[0].device.type == "sim"
    there, here = run(engine, *calls), run(engine_on(world, "cpu"), *calls)
    for wanted in calls:
        assert there[wanted.id].tokens == here[wanted.id].tokens
        assert len(there[wanted.id].tokens[0]) > 0
    assert there["small-1"].tokens != there["None-0"].tokens


def test_an_adapter_goes_there_and_back_byte_by_byte(world: World, tmp_path: Path) -> None:
    blob = normal(7, 33, dtype=torch.bfloat16, seed=3)
    assert torch.equal(blob.to("sim").cpu().view(torch.int16), blob.view(torch.int16))
