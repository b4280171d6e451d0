"""Attention over pages against float64."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inhouse.device import device as devices
from inhouse.ops import Past
from inhouse.ops.triton import launch
from inhouse.ops.triton.attention import decode_attention
from tests.ops.interpreted.numbers import TYPES, assert_close, normal

LENGTHS = ([1], [16], [17, 0, 70])


def world(
    lengths: list[int], heads: int, groups: int, width: int, page_size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Past]:
    """Pages in random order; every place that no sequence has reached is NaN."""
    needed = [-(-n // page_size) for n in lengths]
    pages = random.Random(sum(lengths)).sample(range(sum(needed) + 3), sum(needed))
    columns = max([*needed, 1])
    places = (sum(needed) + 3) * page_size + 1
    q = normal(len(lengths), heads, width, dtype=dtype, seed=1)
    keys, values = (normal(places, groups, width, dtype=dtype, seed=s) for s in (2, 3))
    tables, reached, at = [], torch.zeros(places, dtype=torch.bool), 0
    for length, count in zip(lengths, needed, strict=True):
        table = pages[at : at + count]
        at += count
        tables.append(table + [0] * (columns - count))
        for n in range(length):
            reached[table[n // page_size] * page_size + n % page_size] = True
    keys[~reached], values[~reached] = torch.nan, torch.nan
    keys[-1], values[-1] = 0, 0
    past = Past(
        torch.tensor(tables, dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.int32),
        page_size,
        max(lengths),
        places - 1,
    )
    return q, keys, values, past


def plainly(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    past: Past,
    scale: float,
    window: int | None,
    cap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    out = torch.zeros(q.shape, dtype=torch.float64)
    repeats = q.shape[1] // keys.shape[1]
    for i, length in enumerate(past.lengths.tolist()):
        seen = range(0 if window is None else max(0, length - window), length)
        size = past.page_size
        places = [int(past.tables[i, n // size]) * size + n % size for n in seen]
        for head in range(q.shape[1] if places else 0):
            k, v = (t[places, head // repeats].double() for t in (keys, values))
            scores = k @ q[i, head].double() * scale
            if cap is not None:
                scores = cap * torch.tanh(scores / cap)
            if sinks is not None:
                scores = torch.cat([scores, sinks[head].double()[None]])
            out[i, head] = scores.softmax(0)[: len(places)] @ v
    return out


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(
    ("heads", "groups", "width", "page_size", "window", "cap", "with_sinks"),
    [
        (4, 2, 8, 16, None, None, False),
        (3, 1, 20, 8, 5, None, False),
        (2, 2, 16, 16, None, 3.0, False),
        (8, 2, 32, 4, 40, 2.0, True),
    ],
)
def test_it_equals_each_head_in_float64(
    lengths: list[int],
    heads: int,
    groups: int,
    width: int,
    page_size: int,
    window: int | None,
    cap: float | None,
    with_sinks: bool,
    dtype: torch.dtype,
) -> None:
    q, keys, values, past = world(lengths, heads, groups, width, page_size, dtype)
    sinks = normal(heads, dtype=dtype, seed=5) if with_sinks else None
    wanted = plainly(q, keys, values, past, 0.3, window, cap, sinks)
    given = decode_attention(q, keys, values, past, scale=0.3, window=window, cap=cap, sinks=sinks)
    assert_close(given, wanted)


@pytest.mark.parametrize("window", [None, 260])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_a_past_in_pieces_is_the_same(
    window: int | None, with_sinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, keys, values, past = world([290, 3, 0], 2, 1, 16, 16, torch.float32)
    sinks = normal(2, dtype=torch.float32, seed=5) if with_sinks else None
    wanted = plainly(q, keys, values, past, 0.3, window, None, sinks)
    found = devices.describe(torch.device("cpu"))
    many = replace(found, capabilities=replace(found.capabilities, processors=132))
    monkeypatch.setattr(launch, "describe", lambda _: many)
    assert launch.parts(torch.device("cpu"), 3, 260 // 128) > 1
    given = decode_attention(q, keys, values, past, scale=0.3, window=window, sinks=sinks)
    assert_close(given, wanted)


def test_longer_than_it_is_changes_nothing() -> None:
    """A captured step knows only how long a past may be: tables are wider, and `longest` is a bound."""
    q, keys, values, past = world([37, 5], 4, 2, 16, 16, torch.float32)
    wide = replace(
        past, tables=torch.cat([past.tables, torch.zeros(2, 9, dtype=torch.int32)], 1), longest=512
    )
    one, other = (decode_attention(q, keys, values, p, scale=0.3) for p in (past, wide))
    assert torch.equal(one, other)
