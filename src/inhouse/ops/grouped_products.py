"""Low-rank updates of many adapters, and a mixture's experts, through torch's grouped products: for devices without a
kernel of ours. No word goes from the device to the host.

Factors of adapters are gathered first, at the highest rank of the step, so that each adapter's are one matrix of a
stack: more bytes than a kernel of its own would read. Experts lie in a stack anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor

from inhouse.device import Device
from inhouse.ops.expert_matrices import ServedExperts, each_alone
from inhouse.ops.grouped_lora import Groups, plain
from inhouse.ops.mixture import Uses
from inhouse.ops.registry import Kernel, kernels

NAME = "grouped products"
PRIORITY = 10
ALIGNMENT_BYTES = 16
"""torch's grouped products want rows that begin at multiples of this."""


def grouped_lora(y: Tensor, x: Tensor, a: Tensor, b: Tensor, groups: Groups) -> None:
    """See `ops.grouped_lora`. What torch's products do not take, the plain loop does: other types than bfloat16 on a
    device, and widths that are no multiple of 16 bytes."""
    if not (len(groups.ranks) and groups.longest and groups.highest):
        return
    if not _are_taken(x, a.shape[1], b.shape[1]):
        plain(y, x, a, b, groups)
        return
    step = ALIGNMENT_BYTES // x.itemsize
    highest = -(-groups.highest // step) * step
    number = torch.arange(highest, device=x.device)
    rows = (groups.starts.long()[:, None] + number).clamp_max_(len(a) - 1)  # [S, R]
    foreign = (number >= groups.ranks[:, None])[:, :, None]
    stack_a, stack_b = (f[rows].masked_fill_(foreign, 0.0) for f in (a, b))  # [S, R, I], [S, R, O]
    places, stops = groups.rows.long(), groups.bounds[1:]
    low = torch._grouped_mm(x[places], stack_a.mT, offs=stops)  # [N, R]
    y.index_add_(0, places, torch._grouped_mm(low, stack_b, offs=stops))


class GroupedExperts:
    """The experts of a mixture as one stack, multiplied by one call."""

    form = "grouped"

    def __init__(self, weights: Tensor, biases: Tensor | None) -> None:
        """weights [E, O, I], biases [E, O]"""
        self._weights = weights
        self._biases = biases
        self.count = len(weights)
        self.nbytes = weights.nbytes

    def products(self, x: Tensor, uses: Uses) -> Tensor:
        y = torch._grouped_mm(x, self._weights.mT, offs=uses.stops)  # [N, O]
        return y if self._biases is None else y + self._biases.index_select(0, uses.experts)


def grouped_experts(weights: Iterable[Tensor], count: int, biases: Tensor | None) -> ServedExperts:
    """See `ops.expert_matrices`. What torch's products do not take, the plain loop does, each matrix by itself."""
    stack: Tensor | None = None
    rest = iter(weights)
    for e, weight in enumerate(rest):
        if stack is None:
            if not _are_taken(weight, *weight.shape):
                return each_alone(chain([weight], rest), count, biases)
            stack = weight.new_empty(count, *weight.shape)
        stack[e] = weight
    assert stack is not None, "a mixture without experts"
    return GroupedExperts(stack, biases)


def _are_taken(matrix: Tensor, *widths: int) -> bool:
    """Whether torch's products take a type, on a device other than a processor, and rows of these widths."""
    is_taken = matrix.dtype == torch.bfloat16 or matrix.device.type == "cpu"
    return is_taken and not any(width * matrix.itemsize % ALIGNMENT_BYTES for width in widths)


def obstacle(device: Device) -> str:
    """What stands against it on a device."""
    if not device.capabilities.grouped_products:
        return "torch has no grouped products for this device"
    return ""


def register() -> None:
    """Offers it to the registry."""
    kernels.register(Kernel("grouped_lora", NAME, PRIORITY, obstacle, lambda: grouped_lora))
    kernels.register(Kernel("experts", NAME, PRIORITY, obstacle, lambda: grouped_experts))
