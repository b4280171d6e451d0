"""Matrices of 8 or 4 bits a number, and the product with them: the plain version, on any device.

Each group of inputs (128 for 8 bits, 64 for 4) of each output has a scale of its own, in bfloat16. A product rounds
its inputs likewise, a row and a group at a time, to numbers of -127 to 127: so products are of whole numbers, and the
kernels give the same sums, up to the order of adding groups.

Source of scales a group and symmetric rounding: Dettmers and Zettlemoyer, "The case for 4-bit precision", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = {8: 128, 4: 64}
"""Inputs that share a scale."""
ZERO = {8: 128, 4: 8}
"""The code that stands for 0."""
_OUTPUTS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised matrix."""

    bits: int
    codes: Tensor
    """[O, I filled up to whole groups] uint8, ZERO added"""
    scales: Tensor
    """[O, groups] bfloat16"""
    inputs: int


def quantise(weight: Tensor, bits: int) -> Codes:
    """The nearest codes, each group's scale set so that its largest number is met. weight [O, I] any float."""
    group, zero = GROUP[bits], ZERO[bits]
    outputs, inputs = weight.shape
    wide = F.pad(weight.float(), (0, -inputs % group)).view(outputs, -1, group)
    scales = (wide.abs().amax(-1) / (zero - 1)).bfloat16()
    steps = torch.where(scales > 0, scales, torch.ones_like(scales)).float()
    codes = (wide / steps[..., None]).round().clamp(-zero, zero - 1) + zero
    return Codes(bits, codes.to(torch.uint8).view(outputs, -1), scales, inputs)


def restored(codes: Codes, rows: slice = slice(None)) -> Tensor:
    """The numbers that codes stand for, [O, I filled up] float32."""
    group = GROUP[codes.bits]
    numbers = codes.codes[rows].float().sub_(ZERO[codes.bits]).unflatten(1, (-1, group))
    restored: Tensor = numbers.mul_(codes.scales[rows].float()[..., None]).flatten(1)
    return restored


def rounded_inputs(x: Tensor, bits: int) -> Tensor:
    """Inputs as products see them, [T, I filled up] float32. x [T, I] any float."""
    group = GROUP[bits]
    wide = F.pad(x.float(), (0, -x.shape[1] % group)).unflatten(1, (-1, group))
    most = wide.abs().amax(-1, keepdim=True)
    inverse = torch.where(most > 0, 127.0 / most, torch.zeros_like(most))
    rounded: Tensor = ((wide * inverse).round() * (most / 127.0)).flatten(1)
    return rounded


def quantised_linear(x: Tensor, codes: Codes, bias: Tensor | None) -> Tensor:
    """x Wᵀ + bias. x [T, I] → [T, O] of x's type. A part of the outputs is restored at a time."""
    rounded = rounded_inputs(x, codes.bits)
    parts = [
        F.linear(rounded, restored(codes, slice(start, start + _OUTPUTS_AT_ONCE)))
        for start in range(0, len(codes.codes), _OUTPUTS_AT_ONCE)
    ]
    y = torch.cat(parts, 1)
    return (y if bias is None else y + bias.float()).to(x.dtype)
