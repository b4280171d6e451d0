"""A linear layer's matrix as serving holds it: laid out, and perhaps rounded, for the fastest product where it is.

`for_serving` picks the form, among those of the registry's operations "linear", "linear_int8" and "linear_int4": each
implementation lays a matrix out and gives what multiplies with it. Training never sees one: it needs the matrix itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.device import Device, cpu_flags
from inhouse.errors import InvalidRequest
from inhouse.ops.cpu import library
from inhouse.ops.cpu.linear import PackedCodes, PackedMatrix
from inhouse.ops.probe import made
from inhouse.ops.quantised import Codes, quantise, quantised_linear
from inhouse.ops.registry import Implementation, Kernel, kernels

QUANTIZATIONS = ("none", "int8", "int4")


class Matrix(Protocol):
    """W [O, I] in some form."""

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x Wᵀ + bias. x [T, I], bias [O] → [T, O] of x's type."""

    @property
    def nbytes(self) -> int:
        """Memory it takes, which is what a product with one row reads."""

    @property
    def form(self) -> str:
        """A word or two on how it lies, for people."""


class Plain:
    """As it was, multiplied by torch."""

    form = "plain"

    def __init__(self, weight: Tensor) -> None:
        if weight.device.type == "cpu" and weight.dtype is torch.float32:
            # Column by column: 2.0 ms instead of 3.1 for 45 MB and one row, and no slower for many.
            weight = weight.t().contiguous().t()
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
    """8 or 4 bits a number, a byte each, multiplied by torch: small, but not fast."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self.form = f"int{codes.bits}, plain"

    @property
    def nbytes(self) -> int:
        return self._codes.codes.nbytes + self._codes.scales.nbytes

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return quantised_linear(x, self._codes, bias)


def for_serving(weight: Tensor, quantization: str = "none") -> Matrix:
    """The form that the registry chooses for where it lies. weight [O, I] float32 or bfloat16.

    Raises InvalidRequest for a quantization that there is not.
    """
    if quantization not in QUANTIZATIONS:
        raise InvalidRequest(
            f"quantization = {quantization!r} is not {', '.join(QUANTIZATIONS[:-1])} or {QUANTIZATIONS[-1]}.",
            param="quantization",
        )
    op = "linear" if quantization == "none" else f"linear_{quantization}"
    laid_out: Matrix = kernels.kernel(op, weight.device)(weight)
    return laid_out


def can_reorder() -> bool:
    """Whether torch's private operations for reordered bfloat16 are there and work on this processor."""
    try:
        weight = torch.eye(32, dtype=torch.bfloat16)
        return torch.equal(Reordered(weight).product(weight, None), weight)
    except (AttributeError, RuntimeError):
        return False


def _packed(weight: Tensor) -> Matrix:
    return PackedMatrix(weight) if weight.dtype in (torch.float32, torch.bfloat16) else Plain(weight)


def _reordered(weight: Tensor) -> Matrix:
    return Reordered(weight) if weight.dtype is torch.bfloat16 else _otherwise(weight)


def _otherwise(weight: Tensor) -> Matrix:
    return Plain(weight) if library.load() is None else _packed(weight)


def _rounded(bits: int, form: Callable[[Codes], Matrix]) -> Implementation:
    return lambda weight: form(quantise(weight, bits))


def _against_reordering(device: Device) -> str:
    if device.type != "cpu":
        return "not a processor"
    if (
        "amx_bf16" not in cpu_flags()
        and library.variant().name == "avx512_bf16"
        and library.load() is not None
    ):
        return "the kernels multiply pairs of bfloat16 faster"
    return "" if can_reorder() else "torch has no reordered products here"


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, weight, bias = (made(*shape, device=device, dtype=dtype) for shape in ((5, 200), (70, 200), (70,)))
    matrix = implementation(weight)
    return matrix.product(x, bias), matrix.product(x[:1], None)


kernels.define("linear", Plain, _probe)
kernels.register(Kernel("linear", "c++", 10, library.obstacle, lambda: _packed))
kernels.register(Kernel("linear", "reordered", 20, _against_reordering, lambda: _reordered))
for _bits in (8, 4):
    kernels.define(f"linear_int{_bits}", _rounded(_bits, Rounded), _probe)
    _form = _rounded(_bits, PackedCodes)
    kernels.register(Kernel(f"linear_int{_bits}", "c++", 10, library.obstacle, lambda form=_form: form))  # type: ignore[misc]
