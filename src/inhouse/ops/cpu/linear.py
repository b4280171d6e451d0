"""Matrices laid out for the kernels' products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.cpu import library
from inhouse.ops.cpu.calls import pointer, threads_for
from inhouse.ops.cpu.memory import on_large_pages
from inhouse.ops.quantised import GROUP, Codes

PANEL = 64
"""Outputs side by side: see kernels/linear.cpp."""


def _filled(rows: Tensor, outputs: int, inputs: int) -> Tensor:
    """Zeros behind [outputs, ≤ inputs], up to whole panels."""
    missing = inputs - rows.shape[1], -outputs % PANEL
    return F.pad(rows, (0, missing[0], 0, missing[1])) if any(missing) else rows.contiguous()


def _in_panels(rows: Tensor) -> Tensor:
    """[outputs, inputs] in whole panels and words of 4 bytes → [panels, words, 64] int32. As words, because copying
    them is three times as fast as their pairs or quads (measured)."""
    words = rows.view(torch.int32)
    return on_large_pages(words.view(-1, PANEL, words.shape[1]).permute(0, 2, 1))


class PackedMatrix:
    """float32 or bfloat16 in panels."""

    form = "packed"
    bits = 0
    """None but those of its type."""
    scales: Tensor | None = None

    def __init__(self, weight: Tensor) -> None:
        kernels = library.load()
        assert kernels is not None, "a matrix is packed for kernels that are there"
        self.outputs, inputs = weight.shape
        self.dtype = weight.dtype
        step = 4 // weight.itemsize
        self.inputs = inputs + inputs % step
        self.numbers = _in_panels(_filled(weight, self.outputs, self.inputs))
        self._linear = kernels.linear_f32 if self.dtype is torch.float32 else kernels.linear_bf16

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [T, I] of the matrix's type."""
        if x.shape[1] != self.inputs or x.stride(1) != 1:
            x = F.pad(x, (0, self.inputs - x.shape[1])).contiguous()
        rows, outputs = len(x), self.outputs
        y = torch.empty(rows, outputs, dtype=x.dtype)
        wide = None if bias is None else bias.float()
        self._linear(
            y.data_ptr(), outputs, x.data_ptr(), x.stride(0), self.numbers.data_ptr(), pointer(wide),
            rows, self.inputs, outputs, threads_for(rows * outputs * self.inputs),
        )  # fmt: skip
        return y


class PackedCodes:
    """8 or 4 bits a number, in panels."""

    def __init__(self, codes: Codes) -> None:
        kernels = library.load()
        assert kernels is not None, "a matrix is packed for kernels that are there"
        self.outputs, self.inputs = len(codes.codes), codes.inputs
        self.bits = codes.bits
        self.form = f"int{codes.bits}"
        filled = _filled(codes.codes, self.outputs, codes.codes.shape[1])
        quads = filled.unflatten(1, (-1, 4))  # [outputs, quads, 4]
        if codes.bits == 4:
            quads = quads[:, 0::2] | quads[:, 1::2] << 4
        self.numbers = _in_panels(quads.flatten(1))
        scales = F.pad(codes.scales, (0, 0, 0, -self.outputs % PANEL)).view(-1, PANEL, codes.scales.shape[1])
        self.scales = scales.permute(0, 2, 1).contiguous()  # [panels, groups, 64]
        names = (
            ("linear_int8_f32", "linear_int8_bf16")
            if codes.bits == 8
            else ("linear_int4_f32", "linear_int4_bf16")
        )
        self._linear = {torch.float32: getattr(kernels, names[0]), torch.bfloat16: getattr(kernels, names[1])}
        assert filled.shape[1] % GROUP[codes.bits] == 0, "codes are filled up to whole groups"

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes + self.scales.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [T, I] float32 or bfloat16."""
        if x.stride(1) != 1:
            x = x.contiguous()
        rows, outputs = len(x), self.outputs
        y = torch.empty(rows, outputs, dtype=x.dtype)
        wide = None if bias is None else bias.float()
        self._linear[x.dtype](
            y.data_ptr(), outputs, x.data_ptr(), x.stride(0), self.numbers.data_ptr(), self.scales.data_ptr(),
            pointer(wide), rows, self.inputs, outputs, threads_for(rows * outputs * self.inputs),
        )  # fmt: skip
        return y
