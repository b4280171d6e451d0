"""Root-mean-square norm, with the sum before it in the same pass."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from inhouse.ops.triton.launch import WARPS, launch, power

ONE_WARP = 512
"""Columns that a single warp reads at once without waiting for others."""


@triton.jit
def norm_kernel(
    x,
    update,
    weight,
    summed,
    out,
    heads,
    width,
    eps,
    row_stride,
    head_stride,
    update_stride,
    has_update: tl.constexpr,
    block: tl.constexpr,
):
    """One program: one row of `width` numbers. Rows of x may be heads cut from wider rows."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    at = x + (row // heads) * row_stride + (row % heads) * head_stride + columns
    wide = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    if has_update:
        wide += tl.load(update + row * update_stride + columns, mask=inside, other=0.0).to(tl.float32)
        rounded = wide.to(summed.dtype.element_ty)
        tl.store(summed + row * width + columns, rounded, mask=inside)
        wide = rounded.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide) / width + eps)
    scale = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    normed = (wide * inverse).to(out.dtype.element_ty).to(tl.float32)  # as the plain version rounds
    tl.store(out + row * width + columns, normed * scale, mask=inside)


def norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `ops.add_rms_norm`; x itself comes back where there is no update."""
    width = x.shape[-1]
    rows = x.unsqueeze(-2) if x.ndim < 3 else x
    if rows.ndim != 3 or rows.stride(-1) != 1:
        rows = rows.reshape(-1, 1, width).contiguous()
    count, heads = rows.shape[:2]
    out = x.new_empty(x.shape)
    summed, added = x, rows
    if update is not None:
        summed = x.new_empty(x.shape)
        added = update.reshape(-1, width)
        added = added if added.stride(-1) == 1 else added.contiguous()
    block = power(width)
    launch(
        norm_kernel,
        (count * heads,),
        rows,
        added,
        weight,
        summed,
        out,
        heads,
        width,
        eps,
        rows.stride(0),
        rows.stride(1),
        added.stride(0),
        has_update=update is not None,
        block=block,
        warps=1 if block <= ONE_WARP else WARPS,
    )
    return summed, out
