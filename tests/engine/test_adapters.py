"""Many adapters in one product: both ways give what each adapter gives alone, wherever the arena holds it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inhouse import ops
from inhouse.engine.adapters import Bank
from inhouse.engine.arena import Arena, factors_of
from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.layers import Linear
from tests.engine.memory_world import Together
from tests.engine.world import World, random_adapter

WAYS = pytest.mark.parametrize("is_stacked", [True, False], ids=["stacked", "grouped"])
RANKS = (1, 2, 5, 8, 3)


@pytest.fixture
def way(is_stacked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "prefers_stack", lambda *_, **__: is_stacked)


def made(world: World, rank: int, only: str = "", seed: int = 0) -> Adapter:
    tensors = random_adapter(world.decoder, rank=rank, seed=100 * seed + rank, only=only)
    return Adapter(rank, 3.0, tensors, {})


def inputs(linear: Linear, rows: int) -> Tensor:
    return torch.randn(rows, linear.weight.shape[1], generator=torch.Generator().manual_seed(rows))


def check(world: World, bank: Bank, adapters: dict[int, Adapter], slots: Sequence[tuple[int, ...]]) -> None:
    """Every row of every layer equals its own adapters' plain sum; rows of the base are the base's to the bit."""
    mix = bank.mix(list(slots))
    assert mix is not None
    for linear in world.decoder.linears():
        x = inputs(linear, len(slots))
        mixed, plain = mix(linear, x), linear.product(x)
        for row, used in enumerate(slots):
            if not used:
                assert torch.equal(mixed[row], plain[row])
                continue
            alone = Together(world.decoder, *(adapters[slot] for slot in used))(linear, x[row : row + 1])[0]
            torch.testing.assert_close(mixed[row], alone, atol=1e-5, rtol=1e-5)


@WAYS
@pytest.mark.usefixtures("way")
def test_a_mixed_batch_of_any_ranks_equals_each_alone(world: World) -> None:
    bank = Bank(world.decoder, sum(RANKS))
    adapters = {slot: made(world, rank) for slot, rank in enumerate(RANKS)}
    adapters[3] = made(world, 8, only="mlp")  # leaves attention alone
    for slot, adapter in adapters.items():
        bank.load(slot, factors_of(adapter, torch.float32))
    check(world, bank, adapters, [(), (0,), (0,), (4, 1), (1,), (3,), (2, 3), (), (3,), (1, 2)])


@WAYS
@pytest.mark.usefixtures("way")
def test_loads_and_evictions_in_any_order_never_mix_adapters_up(world: World) -> None:
    source = random.Random(5)
    bank, adapters = Bank(world.decoder, 24), dict[int, Adapter]()
    for number in range(40):
        slot, rank = source.randrange(6), source.choice((1, 2, 3, 5, 8))
        adapters.pop(slot, None)
        bank.release(slot)
        if sum(adapter.rank for adapter in adapters.values()) + rank <= 24:
            adapters[slot] = made(world, rank, only=source.choice(("", "mlp", "down")), seed=number)
            bank.load(slot, factors_of(adapters[slot], torch.float32))
        bank.arena.ranges.check_integrity()
        used = [source.choice([(), *((s,) for s in adapters)]) for _ in range(5)]
        if any(used):
            check(world, bank, adapters, used)


@WAYS
@pytest.mark.usefixtures("way")
def test_ranks_and_scales_of_their_own_are_kept_for_each_module(world: World) -> None:
    mixed = made(world, 4)
    names = list(mixed.tensors)
    tensors = {
        name: (a[: 1 + i % 4], b[:, : 1 + i % 4]) for i, (name, (a, b)) in enumerate(mixed.tensors.items())
    }
    adapter = Adapter(4, 4.0, tensors, {}, {names[0]: 0.5, names[3]: 7.0})
    bank = Bank(world.decoder, 10)
    other = made(world, 6)
    for slot, one in enumerate((other, adapter)):
        bank.load(slot, factors_of(one, torch.float32))
    check(world, bank, {0: other, 1: adapter}, [(1,), (0,), (1,), ()])


def test_rows_that_no_adapter_has_reached_are_never_read(world: World) -> None:
    for is_stacked in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ops, "prefers_stack", lambda *_, is_stacked=is_stacked, **__: is_stacked)
            bank = Bank(world.decoder, 20)
            for store in (*bank.arena.a.values(), *bank.arena.b.values()):
                store.fill_(torch.nan)
            adapters = {0: made(world, 3), 1: made(world, 5, only="mlp")}
            for slot, adapter in adapters.items():
                bank.load(slot, factors_of(adapter, torch.float32))
            check(world, bank, adapters, [(0,), (1,), ()])


@WAYS
@pytest.mark.usefixtures("way")
def test_an_adapter_whose_products_overflow_spoils_its_own_rows_alone(world: World) -> None:
    """Infinity in a column of a row that does not use it would be NaN there, were it multiplied away."""
    loud = made(world, 2)
    tensors = {name: (torch.full_like(a, 3e38), b) for name, (a, b) in loud.tensors.items()}
    bank, quiet = Bank(world.decoder, 8), made(world, 3)
    for slot, adapter in enumerate((quiet, Adapter(2, 2.0, tensors, {}))):
        bank.load(slot, factors_of(adapter, torch.float32))
    linear = world.decoder.blocks[0].mlp.up
    x = inputs(linear, 3) * 10
    mix = bank.mix([(0,), (1,), ()])
    assert mix is not None
    mixed = mix(linear, x)
    assert not torch.isfinite(mixed[1]).all()
    alone = LoadedLora(quiet, world.decoder)(linear, x)
    torch.testing.assert_close(mixed[0], alone[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(mixed[2], linear.product(x)[2])


def test_an_arena_takes_no_more_than_the_ranks_of_its_adapters(world: World) -> None:
    arena = Arena(world.decoder, 12)
    for slot, rank in enumerate((1, 8, 3)):
        arena.load(slot, factors_of(made(world, rank), torch.float32))
    assert [arena.start(slot) for slot in range(3)] == [0, 1, 9]


@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, 3e38])
def test_numbers_that_the_type_does_not_hold_are_refused_by_name(world: World, spoilt: float) -> None:
    adapter = made(world, 2)
    name = list(adapter.tensors)[3]
    adapter.tensors[name][1][0, 0] = spoilt
    tall = Adapter(2, 100.0, adapter.tensors, {})
    with pytest.raises(BadCheckpoint, match=f"in 1 modules: {name}"):
        factors_of(tall, torch.float16 if spoilt == 3e38 else torch.float32)


def test_the_scale_is_rounded_once(world: World, tmp_path: Path) -> None:
    """B times its scale is rounded to bfloat16 after the product, not before and after."""
    adapter = made(world, 4)
    factors = factors_of(adapter, torch.bfloat16)
    for name, (_, b) in adapter.tensors.items():
        assert torch.equal(factors.parts[name][1], (b.T.double() * 0.75).float().bfloat16())


def test_loaded_lora_honours_scales_of_its_own(world: World) -> None:
    adapter = made(world, 2)
    name = "model.layers.0.mlp.down_proj"
    linear = next(one for one in world.decoder.linears() if one.parts[0].name == name)
    x = inputs(linear, 3)
    a, b = adapter.tensors[name]
    other = Adapter(2, 3.0, adapter.tensors, {}, {name: 9.0})
    expected = linear.product(x) + 9.0 * (x @ a.T) @ b.T
    torch.testing.assert_close(LoadedLora(other, world.decoder)(linear, x), expected, atol=1e-5, rtol=1e-5)
