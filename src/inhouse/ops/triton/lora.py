"""Low-rank updates of many adapters: x A in parts, then the sum of the parts times B.

Two forms. Where an adapter has many tokens, a program takes a tile of them and the matrix unit multiplies; where it
has a few, as in decoding, a program takes one token and reads each factor once, which is what takes the time. The
first product's inner dimension is cut into parts where there would be too few programs to fill the device; the parts
are summed in order, so that results repeat. Sources: Chen et al., "Punica: Multi-Tenant LoRA Serving", 2023; Sheng
et al., "S-LoRA", 2023.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inhouse.ops.grouped_lora import Groups
from inhouse.ops.triton.launch import SMALLEST_DOT, depth, launch, parts, power

FEW = 4
"""Most tokens of one adapter up to which each is a program of its own: a matrix unit's tile would be mostly empty."""
MOST_ROWS, MOST_RANKS, MOST_OUTPUTS = 64, 64, 64
"""Sides of the largest tiles."""
MOST_PARTS = 16
VECTOR_DEPTH = 256
"""Inputs that a program of the second form reads at once."""


@triton.jit
def shrink_kernel(
    x,
    a,
    low,
    rows,
    bounds,
    starts,
    ranks,
    inputs,
    x_stride,
    a_stride,
    low_stride,
    part_stride,
    rank_blocks,
    cut,
    block_rows: tl.constexpr,
    block_ranks: tl.constexpr,
    block_inputs: tl.constexpr,
):
    """low[part] = x[rows] Aᵀ over the part's inputs. One program: a tile of one group's tokens, some ranks, a part."""
    group = tl.program_id(1)
    part = tl.program_id(2) // rank_blocks
    first = tl.load(bounds + group) + tl.program_id(0) * block_rows
    stop = tl.load(bounds + group + 1)
    rank = tl.load(ranks + group)
    rank_begin = (tl.program_id(2) % rank_blocks) * block_ranks
    if (first < stop) & (rank_begin < rank):
        at = first + tl.arange(0, block_rows)
        token = tl.load(rows + at, mask=at < stop, other=0).to(tl.int64)
        number = rank_begin + tl.arange(0, block_ranks)
        factor = tl.load(starts + group).to(tl.int64) + number
        total = tl.zeros((block_rows, block_ranks), dtype=tl.float32)
        for begin in range(part * block_inputs, inputs, cut * block_inputs):
            column = begin + tl.arange(0, block_inputs)
            mine = (at < stop)[:, None] & (column < inputs)[None, :]
            left = tl.load(x + token[:, None] * x_stride + column[None, :], mask=mine, other=0.0)
            known = (number < rank)[None, :] & (column < inputs)[:, None]
            right = tl.load(a + factor[None, :] * a_stride + column[:, None], mask=known, other=0.0)
            total = tl.dot(left, right, total, input_precision="ieee")
        target = low + part * part_stride + at[:, None] * low_stride + number[None, :]
        tl.store(target, total, mask=(at < stop)[:, None] & (number < rank)[None, :])


@triton.jit
def expand_kernel(
    low,
    b,
    y,
    rows,
    bounds,
    starts,
    ranks,
    outputs,
    low_stride,
    part_stride,
    b_stride,
    y_stride,
    cut,
    block_rows: tl.constexpr,
    block_ranks: tl.constexpr,
    block_outputs: tl.constexpr,
):
    """y[rows] += (sum of low's parts) B. One program: a tile of one group's tokens, some outputs."""
    group = tl.program_id(1)
    first = tl.load(bounds + group) + tl.program_id(0) * block_rows
    stop = tl.load(bounds + group + 1)
    if first < stop:
        rank = tl.load(ranks + group)
        start = tl.load(starts + group).to(tl.int64)
        at = first + tl.arange(0, block_rows)
        token = tl.load(rows + at, mask=at < stop, other=0).to(tl.int64)
        column = tl.program_id(2) * block_outputs + tl.arange(0, block_outputs)
        total = tl.zeros((block_rows, block_outputs), dtype=tl.float32)
        for begin in range(0, rank, block_ranks):
            number = begin + tl.arange(0, block_ranks)
            mine = (at < stop)[:, None] & (number < rank)[None, :]
            source = low + at[:, None] * low_stride + number[None, :]
            left = tl.load(source, mask=mine, other=0.0)
            for part in range(1, cut):
                left += tl.load(source + part * part_stride, mask=mine, other=0.0)
            known = (number < rank)[:, None] & (column < outputs)[None, :]
            right = tl.load(b + (start + number)[:, None] * b_stride + column[None, :], mask=known, other=0.0)
            total = tl.dot(left.to(right.dtype), right, total, input_precision="ieee")
        inside = (at < stop)[:, None] & (column < outputs)[None, :]
        target = y + token[:, None] * y_stride + column[None, :]
        tl.store(target, tl.load(target, mask=inside, other=0.0).to(tl.float32) + total, mask=inside)


@triton.jit
def shrink_one_kernel(
    x,
    a,
    low,
    rows,
    bounds,
    starts,
    ranks,
    inputs,
    x_stride,
    a_stride,
    low_stride,
    part_stride,
    rank_blocks,
    cut,
    block_ranks: tl.constexpr,
    block_inputs: tl.constexpr,
):
    """The same for one token a program, without the matrix unit."""
    group = tl.program_id(1)
    part = tl.program_id(2) // rank_blocks
    at = tl.load(bounds + group) + tl.program_id(0)
    rank = tl.load(ranks + group)
    rank_begin = (tl.program_id(2) % rank_blocks) * block_ranks
    if (at < tl.load(bounds + group + 1)) & (rank_begin < rank):
        token = tl.load(rows + at).to(tl.int64)
        number = rank_begin + tl.arange(0, block_ranks)
        factor = tl.load(starts + group).to(tl.int64) + number
        total = tl.zeros((block_ranks,), dtype=tl.float32)
        for begin in range(part * block_inputs, inputs, cut * block_inputs):
            column = begin + tl.arange(0, block_inputs)
            left = tl.load(x + token * x_stride + column, mask=column < inputs, other=0.0).to(tl.float32)
            known = (number < rank)[:, None] & (column < inputs)[None, :]
            right = tl.load(a + factor[:, None] * a_stride + column[None, :], mask=known, other=0.0)
            total += tl.sum(right.to(tl.float32) * left[None, :], axis=1)
        target = low + part * part_stride + at * low_stride + number
        tl.store(target, total, mask=number < rank)


@triton.jit
def expand_one_kernel(
    low,
    b,
    y,
    rows,
    bounds,
    starts,
    ranks,
    outputs,
    low_stride,
    part_stride,
    b_stride,
    y_stride,
    cut,
    block_ranks: tl.constexpr,
    block_outputs: tl.constexpr,
):
    """The same for one token a program, without the matrix unit."""
    group = tl.program_id(1)
    at = tl.load(bounds + group) + tl.program_id(0)
    if at < tl.load(bounds + group + 1):
        rank = tl.load(ranks + group)
        start = tl.load(starts + group).to(tl.int64)
        token = tl.load(rows + at).to(tl.int64)
        column = tl.program_id(2) * block_outputs + tl.arange(0, block_outputs)
        total = tl.zeros((block_outputs,), dtype=tl.float32)
        for begin in range(0, rank, block_ranks):
            number = begin + tl.arange(0, block_ranks)
            source = low + at * low_stride + number
            left = tl.load(source, mask=number < rank, other=0.0)
            for part in range(1, cut):
                left += tl.load(source + part * part_stride, mask=number < rank, other=0.0)
            known = (number < rank)[:, None] & (column < outputs)[None, :]
            right = tl.load(b + (start + number)[:, None] * b_stride + column[None, :], mask=known, other=0.0)
            total += tl.sum(right.to(tl.float32) * left[:, None], axis=0)
        target = y + token * y_stride + column
        inside = column < outputs
        tl.store(target, tl.load(target, mask=inside, other=0.0).to(tl.float32) + total, mask=inside)


def grouped_lora(y: Tensor, x: Tensor, a: Tensor, b: Tensor, groups: Groups) -> None:
    """See `ops.grouped_lora`."""
    count, inputs, outputs = len(groups.ranks), x.shape[1], y.shape[1]
    if not (count and groups.longest and groups.highest):
        return
    x = x if x.stride(1) == 1 else x.contiguous()
    assert all(t.stride(1) == 1 for t in (y, a, b)), "factors and outputs lie row by row"
    is_few = groups.longest <= FEW
    block_ranks = power(groups.highest, SMALLEST_DOT, MOST_RANKS)
    block_rows = power(groups.longest, SMALLEST_DOT, MOST_ROWS)
    block_inputs = VECTOR_DEPTH if is_few else depth(x, block_rows + block_ranks)
    tiles = groups.longest if is_few else triton.cdiv(groups.longest, block_rows)
    rank_blocks = triton.cdiv(groups.highest, block_ranks)
    deepest = min(MOST_PARTS, triton.cdiv(inputs, block_inputs))
    cut = parts(x.device, tiles * count * rank_blocks, deepest)
    low = torch.empty(cut, len(groups.rows), rank_blocks * block_ranks, dtype=torch.float32, device=x.device)
    table = (groups.rows, groups.bounds, groups.starts, groups.ranks)
    sides = {} if is_few else {"block_rows": block_rows}
    launch(
        shrink_one_kernel if is_few else shrink_kernel,
        (tiles, count, rank_blocks * cut),
        x,
        a,
        low,
        *table,
        inputs,
        x.stride(0),
        a.stride(0),
        low.stride(1),
        low.stride(0),
        rank_blocks,
        cut,
        block_ranks=block_ranks,
        block_inputs=block_inputs,
        **sides,
    )
    launch(
        expand_one_kernel if is_few else expand_kernel,
        (tiles, count, triton.cdiv(outputs, MOST_OUTPUTS)),
        low,
        b,
        y,
        *table,
        outputs,
        low.stride(1),
        low.stride(0),
        b.stride(0),
        y.stride(0),
        cut,
        block_ranks=block_ranks,
        block_outputs=MOST_OUTPUTS,
        **sides,
    )
