"""A linear layer's matrix as serving holds it: laid out, and perhaps rounded, for the fastest product where it is.

`for_serving` picks the form. Training never sees one: it needs the matrix itself.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.device import cpu_flags
from inhouse.ops.cpu import library
from inhouse.ops.cpu.linear import PackedCodes, PackedMatrix
from inhouse.ops.quantised import Codes, quantise, quantised_linear

Quantization = Literal["none", "int8", "int4"]
BITS: dict[str, int] = {"int8": 8, "int4": 4}


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
        return F.linear(x, self._weight, bias)


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


def for_serving(weight: Tensor, quantization: Quantization = "none", *, kernels: bool = True) -> Matrix:
    """The form that is fastest here. weight [O, I] float32 or bfloat16. Without `kernels`, what torch alone can do."""
    has_kernels = kernels and weight.device.type == "cpu" and library.load() is not None
    if quantization != "none":
        codes = quantise(weight, BITS[quantization])
        return PackedCodes(codes) if has_kernels else Rounded(codes)
    if weight.device.type != "cpu":
        return Plain(weight)
    if weight.dtype is torch.bfloat16 and not _has_own_pairs() and can_reorder():
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


def _has_own_pairs() -> bool:
    """Whether the kernels multiply pairs of bfloat16 by an instruction, and the processor has nothing better, which
    torch's library would use: a unit for whole tiles."""
    flags = cpu_flags()
    return library.variant().name == "avx512_bf16" and "amx_bf16" not in flags
