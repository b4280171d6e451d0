"""Offers the kernels to the registry: each beside the plain operation, for tensors in a processor's own memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from inhouse.ops.cpu import attention, library, lora, small
from inhouse.ops.gate import plain as plain_gate
from inhouse.ops.grouped_lora import plain as plain_lora
from inhouse.ops.norm import plain as plain_norm
from inhouse.ops.paged import plain_decode, plain_prefill
from inhouse.ops.registry import Implementation, Kernel, kernels
from inhouse.ops.rotary import plain as plain_rotary

NAME = "c++"
PRIORITY = 10


def register() -> None:
    """Offers the kernels to the registry."""
    _offer("norm", plain_norm, small.norm)
    _offer("gate", plain_gate, small.gate)
    _offer("rotary", plain_rotary, small.rotary)
    _offer("decode_attention", plain_decode, attention.decode)
    _offer("prefill_attention", plain_prefill, attention.prefill)
    _offer("grouped_lora", plain_lora, lora.grouped)


def _offer(op: str, plain: Implementation, make: Callable[[Implementation], Implementation]) -> None:
    """`make` gets the plain operation, for what the kernel does not take."""
    kernels.register(Kernel(op, NAME, PRIORITY, library.obstacle, partial(make, plain)))
