"""What works row by row, against float64: the norm, the gate, the rotation with the write to the cache."""

from __future__ import annotations

import pytest
import torch

from inhouse.ops.triton.gate import silu_mul
from inhouse.ops.triton.norm import norm
from inhouse.ops.triton.rotary import rotate_and_write
from tests.ops.interpreted.numbers import TYPES, assert_close, normal


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (3, 33), (5, 640), (2, 1025)], ids=str)
def test_the_norm_of_a_sum(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, update = (normal(*shape, dtype=dtype, seed=seed) for seed in (1, 2))
    weight = normal(shape[1], dtype=dtype, seed=3)
    summed, normed = norm(x, update, weight, 1e-5)
    assert torch.equal(summed, x + update)
    wide = summed.double()
    assert_close(normed, wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.double())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_norm_of_heads_cut_from_wider_rows(dtype: torch.dtype) -> None:
    heads = normal(4, 9, 24, dtype=dtype, seed=1)[:, 2:5]
    weight = normal(24, dtype=dtype, seed=2)
    same, normed = norm(heads, None, weight, 1e-6)
    assert same is heads
    wide = heads.double()
    assert_close(normed, wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 16), (1, 2), (3, 66), (2, 2 * 1025)], ids=str)
def test_the_gate(shape: tuple[int, int], dtype: torch.dtype) -> None:
    gate_up = normal(*shape, dtype=dtype, seed=1) * 3
    gate, up = gate_up.double().chunk(2, -1)
    assert_close(silu_mul(gate_up), gate * torch.sigmoid(gate) * up)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    ("heads", "groups", "width", "pairs"), [(4, 2, 8, 4), (5, 1, 12, 6), (9, 3, 64, 32), (3, 1, 20, 3)]
)
def test_queries_turn_and_keys_and_values_are_where_they_belong(
    heads: int, groups: int, width: int, pairs: int, dtype: torch.dtype
) -> None:
    tokens = 6
    qkv = normal(tokens, heads + 2 * groups, width, dtype=dtype, seed=1)
    q, k, v = qkv.split((heads, groups, groups), 1)
    angles = normal(tokens, 1, pairs, dtype=torch.float32, seed=2) * 3
    write = torch.tensor([9, 0, 4, 5, 2, 7])
    keys, values = (torch.full((11, groups, width), 7.0, dtype=dtype) for _ in range(2))

    def turned(x: torch.Tensor) -> torch.Tensor:
        low, high, rest = x.double().split((pairs, pairs, width - 2 * pairs), -1)
        cos, sin = angles.cos().double(), angles.sin().double()
        return torch.cat([low * cos - high * sin, high * cos + low * sin, rest], -1)

    out = rotate_and_write(q, k, v, (angles.cos(), angles.sin()), keys, values, write)
    assert_close(out, turned(q))
    assert_close(keys[write], turned(k))
    assert torch.equal(values[write], v)
    others = sorted(set(range(11)) - set(write.tolist()))
    assert (keys[others] == 7).all() and (values[others] == 7).all()
