"""Rotation of queries and keys and the write to the cache, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inhouse.ops.triton.launch import launch, power

HEADS = 4
"""Heads a program: a few kilobytes, as much as one warp reads at once."""


@triton.jit
def rotate_and_write_kernel(
    q,
    k,
    v,
    cos,
    sin,
    out,
    keys,
    values,
    write,
    heads,
    groups,
    width,
    half,
    query_blocks,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    block_heads: tl.constexpr,
    block_half: tl.constexpr,
    block_width: tl.constexpr,
    has_rest: tl.constexpr,
):
    """One program: some query heads of a token, or some of its key heads with their values."""
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    pair = tl.arange(0, block_half)[None]
    turns = pair < half
    column = tl.arange(0, block_width)[None]
    rest = (column >= 2 * half) & (column < width)
    c = tl.load(cos + token * half + pair, mask=turns, other=0.0)  # [1, n]
    s = tl.load(sin + token * half + pair, mask=turns, other=0.0)
    if block < query_blocks:
        head = block * block_heads + tl.arange(0, block_heads)[:, None]
        here = head < heads
        source = q + token * q_stride + head * q_head_stride
        target = out + (token * heads + head) * width
        low = tl.load(source + pair, mask=here & turns, other=0.0).to(tl.float32)  # [heads, n]
        high = tl.load(source + half + pair, mask=here & turns, other=0.0).to(tl.float32)
        tl.store(target + pair, low * c - high * s, mask=here & turns)
        tl.store(target + half + pair, high * c + low * s, mask=here & turns)
        if has_rest:
            tl.store(target + column, tl.load(source + column, mask=here & rest), mask=here & rest)
    else:
        head = (block - query_blocks) * block_heads + tl.arange(0, block_heads)[:, None]
        here = head < groups
        place = tl.load(write + token)
        source = k + token * k_stride + head * k_head_stride
        target = keys + (place * groups + head) * width
        low = tl.load(source + pair, mask=here & turns, other=0.0).to(tl.float32)
        high = tl.load(source + half + pair, mask=here & turns, other=0.0).to(tl.float32)
        tl.store(target + pair, low * c - high * s, mask=here & turns)
        tl.store(target + half + pair, high * c + low * s, mask=here & turns)
        if has_rest:
            tl.store(target + column, tl.load(source + column, mask=here & rest), mask=here & rest)
        all_here = here & (column < width)
        value = tl.load(v + token * v_stride + head * v_head_stride + column, mask=all_here, other=0.0)
        tl.store(values + (place * groups + head) * width + column, value, mask=all_here)


def rotate_and_write(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rotation: tuple[Tensor, Tensor] | None,
    keys: Tensor,
    values: Tensor,
    write: Tensor,
) -> Tensor:
    """See `ops.rotate_and_write`."""
    if rotation is None:  # nothing to fuse
        keys.index_copy_(0, write, k)
        values.index_copy_(0, write, v)
        return q
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    cos, sin = (x.contiguous() for x in rotation)
    heads, groups, width, half = q.shape[1], k.shape[1], q.shape[2], cos.shape[-1]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    query_blocks = triton.cdiv(heads, HEADS)
    launch(
        rotate_and_write_kernel,
        (len(q), query_blocks + triton.cdiv(groups, HEADS)),
        q,
        k,
        v,
        cos,
        sin,
        out,
        keys,
        values,
        write,
        heads,
        groups,
        width,
        half,
        query_blocks,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        block_heads=HEADS,
        block_half=power(half),
        block_width=power(width),
        has_rest=2 * half < width,
        warps=1,
    )
    return out
