"""Kernels in Triton: one source for every vendor whose compiler Triton has.

Which device they run on is its capabilities' matter, and so are the sizes of their tiles (`launch`); nothing here names
a vendor. This file imports no Triton: a kernel's module is imported when a device is about to use it.
"""

from __future__ import annotations

from importlib import import_module

from inhouse.device import Device
from inhouse.ops.registry import Implementation, Kernel, kernels

NAME = "triton"
PRIORITY = 20

_FUNCTIONS = {
    "norm": "norm:norm",
    "rotary": "rotary:rotate_and_write",
    "decode_attention": "attention:decode_attention",
    "prefill_attention": "prefill:prefill_attention",
    "gate": "gate:silu_mul",
    "grouped_lora": "lora:grouped_lora",
}
"""Operation to module:function of this package."""


def register() -> None:
    """Offers these kernels to the registry."""
    for op in _FUNCTIONS:
        kernels.register(Kernel(op, NAME, PRIORITY, obstacle, lambda op=op: _load(op)))  # type: ignore[misc]


def obstacle(device: Device) -> str:
    """What stands against Triton on a device."""
    if not device.capabilities.triton:
        return "Triton is not installed, or does not compile for this device"
    return ""


def _load(op: str) -> Implementation:
    module, _, function = _FUNCTIONS[op].partition(":")
    found: Implementation = getattr(import_module(f"{__name__}.{module}"), function)
    return found
