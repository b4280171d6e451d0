"""silu(gate) · up in one pass."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from inhouse.ops.triton.launch import launch

BLOCK = 1024
"""Columns a program."""


@triton.jit
def silu_mul_kernel(gate_up, out, width, row_stride, block: tl.constexpr):
    """One program: `block` columns of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    gate = tl.load(gate_up + row * row_stride + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * row_stride + width + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, gate * tl.sigmoid(gate) * up, mask=inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """See `ops.silu_mul`."""
    rows = gate_up.reshape(-1, gate_up.shape[-1])
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    width = rows.shape[1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    grid = (len(rows), triton.cdiv(width, BLOCK))
    launch(silu_mul_kernel, grid, rows, out, width, rows.stride(0), block=BLOCK)
    return out
