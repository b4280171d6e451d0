"""Steps whose blocks run in one call give the very bits of the same operations called one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inhouse import ops
from inhouse.engine.adapters import Grouped, Stacked
from inhouse.engine.batch import Batch
from inhouse.engine.engine import Engine
from inhouse.engine.whole import OPERATIONS, Whole
from inhouse.model.weights import load_base
from inhouse.ops.cpu import library
from inhouse.schema import EngineRequest
from tests.engine.memory_world import FACTS, PRICE, Book, Books, ask, expert_blob
from tests.engine.world import Answer, World, call, run, start

pytestmark = pytest.mark.skipif(library.load() is None, reason="there are no kernels here")

WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 32}
"""As the kernels want it: widths of whole vectors."""
FITTING = ("llama", "llama3-rope", "mistral", "qwen2", "qwen3", "smollm3")
OTHERS = ("gpt2", "gemma2", "gemma3", "olmo2", "gpt_neox", "qwen3_moe", "gpt_oss")


class Counting(Whole):
    """Counts the steps that ran whole."""

    count = 0

    def run(self, batch: Batch, adapters: Grouped | Stacked | None) -> Tensor | None:
        hidden = super().run(batch, adapters)
        self.count += hidden is not None
        return hidden


def wide_world(folder: Path, family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> World:
    world = World(folder, family, **{**WIDE, **changes})
    world.decoder = load_base(world.folder, dtype=dtype)
    world.adapter("small", rank=2, seed=1)
    world.adapter("large", rank=7, seed=2)
    world.adapter("attention", rank=4, seed=3, only="att")
    return world


def counting(engine: Engine) -> Counting:
    runner = engine.runner
    counted = Counting.of(runner.decoder, runner.cache, runner.bank.arena)
    assert isinstance(counted, Counting)
    runner.whole = counted
    return counted


def calls() -> list[EngineRequest]:
    return [
        call(f"{i}", range(20 + i, 30 + 7 * i), adapter=adapter, logprobs=5, max_new_tokens=9 + 3 * i)
        for i, adapter in enumerate((None, "small", "large", "attention", None, "small"))
    ]


def assert_same_bits(one: dict[str, Answer], other: dict[str, Answer]) -> None:
    assert one.keys() == other.keys()
    for name, mine in one.items():
        assert mine.tokens == other[name].tokens
        assert mine.logprobs == other[name].logprobs


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FITTING)
def test_whole_steps_give_the_bits_of_single_operations(
    family: str, dtype: torch.dtype, quantization: str, tmp_path: Path
) -> None:
    world = wide_world(tmp_path, family, dtype)
    engines = [world.engine(quantization=quantization) for _ in range(2)]
    counted = counting(engines[0])
    engines[1].runner.whole = None
    assert_same_bits(*(run(engine, *calls()) for engine in engines))
    assert counted.count > 10


@pytest.mark.parametrize("family", OTHERS)
def test_what_the_call_does_not_know_runs_as_ever(family: str, tmp_path: Path) -> None:
    world = World(tmp_path, family)
    assert world.engine().runner.whole is None


def test_narrow_models_and_the_setting_for_plain_operations_run_as_ever(tmp_path: Path) -> None:
    assert World(tmp_path / "narrow").engine().runner.whole is None
    world = wide_world(tmp_path / "wide", "llama")
    try:
        assert world.engine(kernels="reference").runner.whole is None
    finally:
        ops.kernels.prefer("auto")
    device = world.decoder.device
    assert {ops.kernels.choose(op, device).name for op in OPERATIONS} == {"c++"}


def test_what_is_kept_of_a_mix_does_not_outlive_its_adapters(tmp_path: Path) -> None:
    world = wide_world(tmp_path, "llama")
    runner = world.engine().runner
    part = next(iter(runner.bank.arena.a))

    def rank() -> list[int]:
        mixed = runner.bank.mix([(0,), ()])
        assert isinstance(mixed, Grouped) and runner.bank.mix([(0,), ()]) is mixed
        groups = mixed.uses[0].groups(part)
        return [] if groups is None else groups.ranks.tolist()

    for name, expected in (("small", [2]), ("large", [7])):
        runner.bank.load(0, runner.library.read(name))
        assert rank() == expected
    runner.bank.load(1, runner.library.read("small"))
    runner.bank.release(0)  # another may lie elsewhere now
    assert runner.bank.mix([(1,)]) is not runner.bank.mix([()])


def test_an_adapter_and_an_expert_in_one_whole_step(tmp_path: Path) -> None:
    world = wide_world(tmp_path, "llama")
    books = Books(Book(list(FACTS)))
    books.experts[("f1", 3)] = expert_blob(world.decoder, "f1", 3, seed=11)
    asked = {"mode": "expert", "max_new_tokens": 9, "logit_bias": {2: -100}}
    wanted = [ask("both", PRICE, adapter="large", **asked), ask("expert", PRICE, **asked), call("none")]
    tokens = []
    for is_whole in (True, False):
        engine = world.engine(banks=books)
        counted = counting(engine)
        if not is_whole:
            engine.runner.whole = None
        requests = [start(engine, one)[0] for one in wanted]
        while engine.has_work:
            engine.step()
        tokens.append([request.choices[0].tokens for request in requests])
        assert (counted.count > 0) is is_whole
    assert tokens[0] == tokens[1] and tokens[0][0] != tokens[0][1]
