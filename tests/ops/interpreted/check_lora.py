"""Grouped low-rank updates against float64, in both forms."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inhouse.device import device as devices
from inhouse.ops import Groups
from inhouse.ops.triton import launch
from inhouse.ops.triton.lora import FEW, grouped_lora
from tests.ops.interpreted.numbers import TYPES, assert_close, normal

CASES = {
    "one token, rank 1": ([1], [1], 40, 24),
    "one token each": ([1] * 7, [1, 2, 4, 8, 16, 3, 64], 72, 40),
    "few tokens each, odd widths": ([FEW, 1, 0, 2], [5, 64, 9, 16], 301, 77),
    "segments": ([17, 1, 40, 0, 5], [16, 1, 8, 4, 33], 136, 100),
    "one long segment, high rank": ([70], [80], 64, 130),
    "ranks above a tile": ([3, 2], [130, 1], 48, 64),
}


def world(
    counts: list[int], ranks: list[int], inputs: int, outputs: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Groups]:
    """Tokens in random order, some of nobody; rank rows in random order, with NaN between them."""
    dice = random.Random(len(counts) + inputs)
    tokens = sum(counts) + 5
    rows = dice.sample(range(tokens), sum(counts))
    starts, at = [0] * len(ranks), 0
    for group in dice.sample(range(len(ranks)), len(ranks)):
        starts[group] = at + 1
        at += ranks[group] + 1
    a, b = (normal(at + 1, n, dtype=dtype, seed=s) * 0.3 for s, n in ((1, inputs), (2, outputs)))
    used = torch.zeros(at + 1, dtype=torch.bool)
    for start, rank in zip(starts, ranks, strict=True):
        used[start : start + rank] = True
    a[~used], b[~used] = torch.nan, torch.nan
    bounds = [sum(counts[:i]) for i in range(len(counts) + 1)]
    table = [torch.tensor(t, dtype=torch.int32) for t in (rows, bounds, starts, ranks)]
    groups = Groups(*table, longest=max(counts), highest=max(ranks))
    wide = normal(tokens, outputs + 30, dtype=dtype, seed=3)
    return wide, normal(tokens, inputs, dtype=dtype, seed=4), a, b, groups


def plainly(y: Tensor, x: Tensor, a: Tensor, b: Tensor, groups: Groups) -> Tensor:
    result = y.double()
    for g, (start, rank) in enumerate(zip(groups.starts.tolist(), groups.ranks.tolist(), strict=True)):
        for place in groups.rows[groups.bounds[g] : groups.bounds[g + 1]].tolist():
            mine = slice(start, start + rank)
            result[place] += (x[place].double() @ a[mine].double().T) @ b[mine].double()
    return result


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_it_equals_each_token_in_float64(case: str, dtype: torch.dtype) -> None:
    counts, ranks, inputs, outputs = CASES[case]
    wide, x, a, b, groups = world(counts, ranks, inputs, outputs, dtype)
    before = wide.clone()
    y = wide[:, 10 : 10 + outputs]
    wanted = plainly(y, x, a, b, groups)
    grouped_lora(y, x, a, b, groups)
    assert_close(y, wanted)
    others = sorted(set(range(len(x))) - set(groups.rows.tolist()))
    assert torch.equal(wide[others], before[others]), "a token of nobody was changed"
    assert torch.equal(wide[:, :10], before[:, :10])
    assert torch.equal(wide[:, 10 + outputs :], before[:, 10 + outputs :])


@pytest.mark.parametrize("counts", [[1, 2], [20, 3]])
def test_cut_into_parts_it_is_the_same(counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with many processors sums its first product in parts."""
    wide, x, a, b, groups = world(counts, [16, 4], 1300, 48, torch.float32)
    wanted = plainly(wide[:, :48], x, a, b, groups)
    found = devices.describe(torch.device("cpu"))
    many = replace(found, capabilities=replace(found.capabilities, processors=132))
    monkeypatch.setattr(launch, "describe", lambda _: many)
    assert launch.parts(torch.device("cpu"), len(counts), 16) > 1
    y = wide[:, :48].clone()
    grouped_lora(y, x, a, b, groups)
    assert_close(y, wanted)
    again = wide[:, :48].clone()
    grouped_lora(again, x, a, b, groups)
    assert torch.equal(y, again), "the parts are summed in another order"


def test_bounds_above_what_is_there_change_nothing() -> None:
    """A captured step knows only how many there may be, and fills the table up with empty groups."""
    wide, x, a, b, groups = world([2, 9], [3, 8], 64, 48, torch.float32)
    empty = torch.zeros(3, dtype=torch.int32)
    filled = Groups(
        torch.cat([groups.rows, empty]),
        torch.cat([groups.bounds, groups.bounds[-1:].repeat(3)]),
        torch.cat([groups.starts, empty]),
        torch.cat([groups.ranks, empty]),
        longest=64,
        highest=64,
    )
    results = []
    for table in (groups, filled):
        y = wide[:, :48].clone()
        grouped_lora(y, x, a, b, table)
        results.append(y)
    assert torch.allclose(*results, atol=1e-5)


def test_nobody_is_no_launch() -> None:
    nothing = torch.empty(0, dtype=torch.int32)
    y = torch.ones(2, 8)
    grouped_lora(
        y,
        torch.ones(2, 8),
        torch.ones(1, 8),
        torch.ones(1, 8),
        Groups(nothing, torch.zeros(1, dtype=torch.int32), nothing, nothing, 0, 0),
    )
    assert torch.equal(y, torch.ones(2, 8))
