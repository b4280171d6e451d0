"""Attention of one token a sequence over the pages of a cache.

A program takes the query heads that share one key head, so that keys and values are read once, and walks through a
piece of the past. Long pasts are cut into pieces where there would be too few programs; a second kernel joins them.
Sources: Kwon et al., "PagedAttention", 2023; Dao et al., "Flash-Decoding for long-context inference", 2023.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inhouse.ops.paged import Past
from inhouse.ops.triton.launch import SMALLEST_DOT, WARPS, WIDE, launch, parts, power, side, stages

MOST_PIECES = 16
MOST_TOKENS = 32
"""Tokens a step of a program: with 64, registers do not suffice on some devices (tests/ops/test_cross_compile.py)."""
LEAST_PIECE = 128
"""Tokens that a piece should have at least: joining costs about as much as reading these."""


@triton.jit
def decode_kernel(
    q,
    keys,
    values,
    tables,
    lengths,
    sinks,
    out,
    peaks,
    sums,
    scale,
    cap,
    window,
    heads,
    repeats,
    width,
    table_stride,
    pieces,
    page_size: tl.constexpr,
    has_window: tl.constexpr,
    has_cap: tl.constexpr,
    has_sinks: tl.constexpr,
    block_heads: tl.constexpr,
    block_tokens: tl.constexpr,
    block_width: tl.constexpr,
):
    """One program: a sequence, a key head, a piece of the past. The softmax goes along: its peak and its sum."""
    sequence = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    piece = tl.program_id(2)
    groups = heads // repeats
    length = tl.load(lengths + sequence)
    begin = tl.maximum(length - window, 0) if has_window else 0
    reach = tl.cdiv(tl.cdiv(length - begin, pieces), block_tokens) * block_tokens
    first = begin + piece * reach
    stop = tl.minimum(first + reach, length)

    query = tl.arange(0, block_heads)
    column = tl.arange(0, block_width)
    is_query, is_column = query < repeats, column < width
    head = group * repeats + query
    both = is_query[:, None] & is_column[None, :]
    asked = tl.load(q + (sequence * heads + head)[:, None] * width + column[None, :], mask=both, other=0.0)

    peak = tl.full((block_heads,), -float("inf"), tl.float32)
    total = tl.zeros((block_heads,), tl.float32)
    mixed = tl.zeros((block_heads, block_width), tl.float32)
    if has_sinks:
        if piece == 0:
            peak = tl.load(sinks + head, mask=is_query, other=0.0).to(tl.float32)
            total += 1.0
    for at in range(first, stop, block_tokens):
        token = at + tl.arange(0, block_tokens)
        seen = token < stop
        page = tl.load(tables + sequence * table_stride + token // page_size, mask=seen, other=0)
        place = (page.to(tl.int64) * page_size + token % page_size) * groups + group
        k = tl.load(
            keys + place[None, :] * width + column[:, None],
            mask=seen[None, :] & is_column[:, None],
            other=0.0,
        )
        scores = tl.dot(asked, k, input_precision="ieee") * scale  # [heads, tokens]
        if has_cap:
            scores = cap * (2.0 * tl.sigmoid(2.0 * scores / cap) - 1.0)
        scores = tl.where(seen[None, :], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        shares = tl.exp(scores - higher[:, None])
        fading = tl.exp(peak - higher)
        total = total * fading + tl.sum(shares, 1)
        v = tl.load(
            values + place[:, None] * width + column[None, :],
            mask=seen[:, None] & is_column[None, :],
            other=0.0,
        )
        mixed = tl.dot(shares.to(v.dtype), v, mixed * fading[:, None], input_precision="ieee")
        peak = higher
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]  # a row without tokens is zero
    row = (sequence * pieces + piece) * heads + head
    tl.store(out + row[:, None] * width + column[None, :], mixed, mask=both)
    tl.store(peaks + row, peak, mask=is_query)
    tl.store(sums + row, total, mask=is_query)


@triton.jit
def join_kernel(
    partial,
    peaks,
    sums,
    out,
    heads,
    width,
    pieces,
    block_pieces: tl.constexpr,
    block_width: tl.constexpr,
):
    """One program: a sequence and a query head; the pieces weigh as much as their part of the softmax."""
    sequence = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    piece = tl.arange(0, block_pieces)
    column = tl.arange(0, block_width)
    row = (sequence * pieces + piece) * heads + head
    there, inside = piece < pieces, column < width
    peak = tl.load(peaks + row, mask=there, other=-float("inf"))
    total = tl.load(sums + row, mask=there, other=0.0)
    highest = tl.maximum(tl.max(peak), -1e30)  # a row without tokens has only -inf
    weight = total * tl.exp(peak - highest)
    share = weight / tl.maximum(tl.sum(weight), 1e-30)
    part = tl.load(
        partial + row[:, None] * width + column[None, :], mask=there[:, None] & inside[None, :], other=0.0
    )
    mixed = tl.sum(part * share[:, None], axis=0)
    tl.store(out + (sequence * heads + head) * width + column, mixed, mask=inside)


def decode_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    past: Past,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """See `ops.decode_attention`."""
    q = q.contiguous()
    count, heads, width = q.shape
    groups = keys.shape[1]
    block_heads = power(heads // groups, SMALLEST_DOT)
    block_width = power(width, SMALLEST_DOT)
    block_tokens = side(q, block_width, MOST_TOKENS)
    longest = past.longest if window is None else min(past.longest, window)
    pieces = parts(q.device, count * groups, min(MOST_PIECES, max(longest // LEAST_PIECE, 1)))
    out = torch.empty_like(q)
    partial = out
    if pieces > 1:
        partial = torch.empty(count, pieces, heads, width, dtype=torch.float32, device=q.device)
    peaks, sums = (torch.empty(count, pieces, heads, dtype=torch.float32, device=q.device) for _ in range(2))
    launch(
        decode_kernel,
        (count, groups, pieces),
        q,
        keys,
        values,
        past.tables,
        past.lengths,
        q if sinks is None else sinks,
        partial,
        peaks,
        sums,
        scale,
        0.0 if cap is None else cap,
        0 if window is None else window,
        heads,
        heads // groups,
        width,
        past.tables.stride(0),
        pieces,
        page_size=past.page_size,
        has_window=window is not None,
        has_cap=cap is not None,
        has_sinks=sinks is not None,
        block_heads=block_heads,
        block_tokens=block_tokens,
        block_width=block_width,
        warps=WARPS if block_width <= WIDE else 2 * WARPS,
        stages=stages(q, block_width),
    )
    if pieces > 1:
        launch(
            join_kernel,
            (count, heads),
            partial,
            peaks,
            sums,
            out,
            heads,
            width,
            pieces,
            block_pieces=power(pieces),
            block_width=block_width,
            warps=1,
        )
    return out
