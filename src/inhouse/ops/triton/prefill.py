"""Attention of a chunk of one sequence, whose keys and values lie at places of a cache.

A program takes some of the chunk's queries, with all heads that share one key head as further rows, and walks through
the part of the sequence that they may see; nothing of the size of the scores is written down. Source: Dao et al.,
"FlashAttention", 2022.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inhouse.ops.triton.launch import SMALLEST_DOT, launch, power, side, stages

MOST_ROWS, MOST_TOKENS = 64, 32
"""Sides of the largest tile of scores."""
WARPS = 8
"""With four, registers do not suffice on devices whose warps are narrow (tests/ops/test_cross_compile.py)."""


@triton.jit
def prefill_kernel(
    q,
    keys,
    values,
    places,
    sinks,
    out,
    scale,
    cap,
    window,
    count,
    length,
    heads,
    repeats,
    width,
    has_window: tl.constexpr,
    has_cap: tl.constexpr,
    has_sinks: tl.constexpr,
    block_rows: tl.constexpr,
    block_tokens: tl.constexpr,
    block_width: tl.constexpr,
):
    """One program: a tile of rows, each a query and one of the heads that share a key head."""
    tile, group = tl.program_id(0), tl.program_id(1)
    groups = heads // repeats
    row = tile * block_rows + tl.arange(0, block_rows)
    query, head = row // repeats, group * repeats + row % repeats
    own = length - count + query  # the query's place in its sequence
    column = tl.arange(0, block_width)
    is_row, is_column = query < count, column < width
    both = is_row[:, None] & is_column[None, :]
    at_row = (query.to(tl.int64) * heads + head)[:, None] * width + column[None, :]
    asked = tl.load(q + at_row, mask=both, other=0.0)

    earliest = length - count + (tile * block_rows) // repeats
    latest = length - count + ((tile + 1) * block_rows - 1) // repeats
    first = tl.maximum(earliest - window + 1, 0) if has_window else 0
    stop = tl.minimum(latest + 1, length)
    peak = tl.full((block_rows,), -float("inf"), tl.float32)
    total = tl.zeros((block_rows,), tl.float32)
    if has_sinks:
        peak = tl.load(sinks + head, mask=is_row, other=0.0).to(tl.float32)
        total += 1.0
    mixed = tl.zeros((block_rows, block_width), tl.float32)
    for at in range(first, stop, block_tokens):
        token = at + tl.arange(0, block_tokens)
        place = tl.load(places + token, mask=token < stop, other=0).to(tl.int64) * groups + group
        k = tl.load(
            keys + place[None, :] * width + column[:, None],
            mask=(token < stop)[None, :] & is_column[:, None],
            other=0.0,
        )
        scores = tl.dot(asked, k, input_precision="ieee") * scale  # [rows, tokens]
        if has_cap:
            scores = cap * (2.0 * tl.sigmoid(2.0 * scores / cap) - 1.0)
        seen = token[None, :] <= own[:, None]
        if has_window:
            seen = seen & (token[None, :] > own[:, None] - window)
        scores = tl.where(seen & is_row[:, None], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        known = tl.where(higher == -float("inf"), 0.0, higher)  # a row may see nothing of this piece
        shares = tl.exp(scores - known[:, None])
        fading = tl.exp(peak - known)
        total = total * fading + tl.sum(shares, 1)
        v = tl.load(
            values + place[:, None] * width + column[None, :],
            mask=(token < stop)[:, None] & is_column[None, :],
            other=0.0,
        )
        mixed = tl.dot(shares.to(v.dtype), v, mixed * fading[:, None], input_precision="ieee")
        peak = higher
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(out + at_row, mixed, mask=both)


def prefill_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    places: Tensor,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """See `ops.prefill_attention`."""
    q = q.contiguous()
    count, heads, width = q.shape
    groups = keys.shape[1]
    block_width = power(width, SMALLEST_DOT)
    block_rows = power(count * (heads // groups), SMALLEST_DOT, side(q, block_width, MOST_ROWS))
    out = torch.empty_like(q)
    launch(
        prefill_kernel,
        (triton.cdiv(count * (heads // groups), block_rows), groups),
        q,
        keys,
        values,
        places,
        q if sinks is None else sinks,
        out,
        scale,
        0.0 if cap is None else cap,
        0 if window is None else window,
        count,
        len(places),
        heads,
        heads // groups,
        width,
        has_window=window is not None,
        has_cap=cap is not None,
        has_sinks=sinks is not None,
        block_rows=block_rows,
        block_tokens=side(q, block_width, MOST_TOKENS),
        block_width=block_width,
        warps=WARPS,
        stages=stages(q, block_width),
    )
    return out
