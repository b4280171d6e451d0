"""Matrices laid out for the kernels' products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.cpu import library
from inhouse.ops.cpu.calls import pointer, threads_for
from inhouse.ops.cpu.memory import Lay, on_large_pages
from inhouse.ops.quantised import GROUP, Codes

PANEL = 64
"""Outputs side by side: see kernels/linear.cpp."""


class PackedMatrix:
    """float32 or bfloat16 in panels."""

    form = "packed"

    def __init__(self, weight: Tensor, lay: Lay = on_large_pages) -> None:
        kernels = library.load()
        assert kernels is not None, "a matrix is packed for kernels that are there"
        self.outputs, inputs = weight.shape
        self.dtype = weight.dtype
        step = 4 // weight.itemsize
        self.inputs = inputs + inputs % step
        filled = F.pad(weight, (0, inputs % step, 0, -self.outputs % PANEL))
        panels = filled.view(-1, PANEL, self.inputs // step, step).permute(0, 2, 1, 3)
        self._panels = lay(panels)
        self._linear = kernels.linear_f32 if self.dtype is torch.float32 else kernels.linear_bf16

    @property
    def nbytes(self) -> int:
        return self._panels.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [T, I] of the matrix's type."""
        if x.shape[1] != self.inputs or x.stride(1) != 1:
            x = F.pad(x, (0, self.inputs - x.shape[1])).contiguous()
        rows, outputs = len(x), self.outputs
        y = torch.empty(rows, outputs, dtype=x.dtype)
        wide = None if bias is None else bias.float()
        self._linear(
            y.data_ptr(), outputs, x.data_ptr(), x.stride(0), self._panels.data_ptr(), pointer(wide),
            rows, self.inputs, outputs, threads_for(rows * outputs * self.inputs),
        )  # fmt: skip
        return y


class PackedCodes:
    """8 or 4 bits a number, in panels."""

    def __init__(self, codes: Codes, lay: Lay = on_large_pages) -> None:
        kernels = library.load()
        assert kernels is not None, "a matrix is packed for kernels that are there"
        self.outputs, self.inputs = len(codes.codes), codes.inputs
        self.form = f"int{codes.bits}"
        filled = F.pad(codes.codes, (0, 0, 0, -self.outputs % PANEL))
        quads = filled.view(-1, PANEL, filled.shape[1] // 4, 4)  # [panels, 64, quads, 4]
        if codes.bits == 4:
            quads = quads[:, :, 0::2] | quads[:, :, 1::2] << 4
        self._panels = lay(quads.permute(0, 2, 1, 3))
        scales = F.pad(codes.scales, (0, 0, 0, -self.outputs % PANEL)).view(-1, PANEL, codes.scales.shape[1])
        self._scales = scales.permute(0, 2, 1).contiguous()  # [panels, groups, 64]
        names = (
            ("linear_int8_f32", "linear_int8_bf16")
            if codes.bits == 8
            else ("linear_int4_f32", "linear_int4_bf16")
        )
        self._linear = {torch.float32: getattr(kernels, names[0]), torch.bfloat16: getattr(kernels, names[1])}
        assert filled.shape[1] % GROUP[codes.bits] == 0, "codes are filled up to whole groups"

    @property
    def nbytes(self) -> int:
        return self._panels.nbytes + self._scales.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [T, I] float32 or bfloat16."""
        if x.stride(1) != 1:
            x = x.contiguous()
        rows, outputs = len(x), self.outputs
        y = torch.empty(rows, outputs, dtype=x.dtype)
        wide = None if bias is None else bias.float()
        self._linear[x.dtype](
            y.data_ptr(), outputs, x.data_ptr(), x.stride(0), self._panels.data_ptr(), self._scales.data_ptr(),
            pointer(wide), rows, self.inputs, outputs, threads_for(rows * outputs * self.inputs),
        )  # fmt: skip
        return y
