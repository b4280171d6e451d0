"""Attention of a chunk against float64."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from inhouse.ops.triton.prefill import prefill_attention
from tests.ops.interpreted.numbers import TYPES, assert_close, normal


def plainly(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    places: Tensor,
    window: int | None,
    cap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    out = torch.zeros(q.shape, dtype=torch.float64)
    repeats = q.shape[1] // keys.shape[1]
    for i in range(len(q)):
        own = len(places) - len(q) + i
        seen = places[0 if window is None else max(0, own - window + 1) : own + 1].long()
        for head in range(q.shape[1]):
            k, v = (t[seen, head // repeats].double() for t in (keys, values))
            scores = k @ q[i, head].double() * 0.3
            if cap is not None:
                scores = cap * torch.tanh(scores / cap)
            if sinks is not None:
                scores = torch.cat([scores, sinks[head].double()[None]])
            out[i, head] = scores.softmax(0)[: len(seen)] @ v
    return out


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("count", "length"), [(2, 2), (30, 30), (5, 75), (70, 90)])
@pytest.mark.parametrize(
    ("heads", "groups", "width", "window", "cap", "with_sinks"),
    [(4, 2, 8, None, None, False), (3, 1, 20, 7, None, False), (2, 2, 32, 40, 2.0, True)],
)
def test_it_equals_each_query_in_float64(
    count: int,
    length: int,
    heads: int,
    groups: int,
    width: int,
    window: int | None,
    cap: float | None,
    with_sinks: bool,
    dtype: torch.dtype,
) -> None:
    """The sequence's places are in disorder; all others are NaN."""
    q = normal(count, heads, width, dtype=dtype, seed=1)
    keys, values = (normal(length + 9, groups, width, dtype=dtype, seed=seed) for seed in (2, 3))
    order = random.Random(length).sample(range(length + 9), length)
    places = torch.tensor(order, dtype=torch.int32)
    others = sorted(set(range(length + 9)) - set(order))
    keys[others], values[others] = torch.nan, torch.nan
    sinks = normal(heads, dtype=dtype, seed=4) if with_sinks else None
    wanted = plainly(q, keys, values, places, window, cap, sinks)
    given = prefill_attention(q, keys, values, places, scale=0.3, window=window, cap=cap, sinks=sinks)
    assert_close(given, wanted)
