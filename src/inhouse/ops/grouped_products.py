"""Low-rank updates of many adapters through torch's grouped products, for devices without a kernel of ours.

Factors are gathered first, at the highest rank of the step, so that each adapter's are one matrix of a stack: more
bytes than a kernel of its own would read, and no word from the device to the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inhouse.device import Device
from inhouse.ops.grouped_lora import Groups, plain
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
    step = ALIGNMENT_BYTES // x.itemsize
    is_taken = x.dtype == torch.bfloat16 or x.device.type == "cpu"
    if not is_taken or a.shape[1] % step or b.shape[1] % step:
        plain(y, x, a, b, groups)
        return
    highest = -(-groups.highest // step) * step
    number = torch.arange(highest, device=x.device)
    rows = (groups.starts.long()[:, None] + number).clamp_max_(len(a) - 1)  # [S, R]
    foreign = (number >= groups.ranks[:, None])[:, :, None]
    stack_a, stack_b = (f[rows].masked_fill_(foreign, 0.0) for f in (a, b))  # [S, R, I], [S, R, O]
    places, stops = groups.rows.long(), groups.bounds[1:]
    low = torch._grouped_mm(x[places], stack_a.mT, offs=stops)  # [N, R]
    y.index_add_(0, places, torch._grouped_mm(low, stack_b, offs=stops))


def obstacle(device: Device) -> str:
    """What stands against it on a device."""
    if not device.capabilities.grouped_products:
        return "torch has no grouped products for this device"
    return ""


def register() -> None:
    """Offers it to the registry."""
    kernels.register(Kernel("grouped_lora", NAME, PRIORITY, obstacle, lambda: grouped_lora))
