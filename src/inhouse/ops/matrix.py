"""A linear layer's matrix as serving holds it: laid out, and perhaps rounded, for the fastest product where it is.

`for_serving` picks the form. Training never sees one: it needs the matrix itself.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from inhouse.device import cpu_flags
from inhouse.errors import InvalidRequest
from inhouse.ops.cpu import library
from inhouse.ops.cpu.linear import PackedCodes, PackedMatrix
from inhouse.ops.linear import linear
from inhouse.ops.quantised import Codes, quantise, quantised_linear

BITS = {"none": 0, "int8": 8, "int4": 4}
"""Bits a number by the setting's word; 0 leaves them as they are."""


class Matrix(Protocol):
    """W [O, I] in some form."""

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x Wᵀ + bias. x [T, I], bias [O] → [T, O] of x's type."""

    @property
    def nbytes(self) -> int:
        """Memory it takes, which is what a product with one row reads."""

    @property
    def form(self) -> str:
        """One word on how it lies, for people."""


class Plain:
    """As it was, multiplied by torch."""

    form = "plain"

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, self._weight, bias)


class Reordered:
    """bfloat16 in the order that torch's own library for processors wants, so that it need not reorder at each
    product. The operations are private to torch: `can_reorder` says whether they are there."""

    form = "reordered"

    def __init__(self, weight: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 32)
        self.nbytes = weight.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, bias, "none", [], "")
        return y


class Rounded:
    """8 or 4 bits a number, multiplied by torch: small, but not fast."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self.form = f"int{codes.bits}, plain"

    @property
    def nbytes(self) -> int:
        return self._codes.codes.nbytes + self._codes.scales.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return quantised_linear(x, self._codes, bias)


def for_serving(weight: Tensor, quantization: str = "none", *, kernels: bool = True) -> Matrix:
    """The form that is fastest here. weight [O, I] float32 or bfloat16. Without `kernels`, what torch alone can do.

    Raises InvalidRequest for a quantization that there is not.
    """
    if quantization not in BITS:
        raise InvalidRequest(
            f"quantization = {quantization!r} is not none, int8 or int4.", param="quantization"
        )
    has_kernels = kernels and weight.device.type == "cpu" and library.load() is not None
    if bits := BITS[quantization]:
        codes = quantise(weight, bits)
        return PackedCodes(codes) if has_kernels else Rounded(codes)
    if weight.device.type != "cpu":
        return Plain(weight)
    if weight.dtype is torch.bfloat16 and not _kernels_are_best() and can_reorder():
        return Reordered(weight)
    if has_kernels and weight.dtype in (torch.float32, torch.bfloat16):
        return PackedMatrix(weight)
    if weight.dtype is torch.bfloat16 and can_reorder():
        return Reordered(weight)
    # Column by column: 2.0 ms instead of 3.1 for 45 MB of float32 and one row, and no slower for many.
    return Plain(weight.t().contiguous().t() if weight.dtype is torch.float32 else weight)


def can_reorder() -> bool:
    """Whether torch's private operations for reordered bfloat16 are there and work on this processor."""
    try:
        weight = torch.eye(32, dtype=torch.bfloat16)
        return torch.equal(Reordered(weight).product(weight, None), weight)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _kernels_are_best() -> bool:
    """Whether our products of bfloat16 are the fastest here: the processor multiplies pairs, and has no unit for whole
    tiles, which torch's library would use."""
    flags = cpu_flags()
    return library.variant().name == "avx512_bf16" and "amx_bf16" not in flags
