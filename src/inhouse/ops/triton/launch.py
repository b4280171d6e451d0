"""Launches kernels, and chooses the sizes of their tiles by what a device can hold.

It knows capabilities, never a vendor. No launch waits for the device: grids come from numbers that the host has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from triton.errors import TritonError

from inhouse.device import describe

WARPS = 4
"""Groups of lanes a program; on the widest ones known, of 64 lanes, that is 256 of 1,024 threads."""
STAGES = 2
"""Tiles on their way at once: more pays on some devices, and bursts the smallest shared memories (64 KiB)."""
SMALLEST_DOT = 16
"""Rows and columns of the smallest tile that matrix units take."""
ROOMY_BYTES = 96 * 1024
ROOMY_TILE, TIGHT_TILE = 8192, 4096
"""Numbers of a tile of heads: with shared memory of that size, and with less."""
WIDE = 128
"""Heads wider than this are spread over twice as many warps."""
PROGRAMS_A_PROCESSOR = 2
"""As many as hide each other's waiting."""


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    *arguments: Any,
    warps: int = WARPS,
    stages: int = STAGES,
    **constants: Any,
) -> None:
    """Runs a kernel over a grid. Raises RuntimeError where it cannot be compiled or does not fit the device."""
    if 0 in grid:
        return
    try:
        kernel[grid](*arguments, **constants, num_warps=warps, num_stages=stages)
    except TritonError as e:
        raise RuntimeError(f"{type(e).__name__}: {e}") from e


def power(size: int, least: int = 1, most: int = 1 << 20) -> int:
    """The power of two that holds `size`, within bounds: tiles have such sizes."""
    return max(least, min(most, 1 << max(size - 1, 0).bit_length()))


def depth(x: Tensor, breadth: int, most: int = 64) -> int:
    """How deep tiles of a product may be so that all on their way fit: `breadth` is the rows and columns together."""
    room = describe(x.device).capabilities.shared_memory_bytes or 64 * 1024
    deep = most
    while deep > SMALLEST_DOT and STAGES * breadth * deep * x.itemsize > room:
        deep //= 2
    return deep


def side(x: Tensor, width: int, most: int) -> int:
    """Rows or tokens of a tile of attention over heads of this width, so that registers suffice.

    Nobody tells how many registers there are; devices of little shared memory run out of them first (found by
    tests/ops/test_cross_compile.py).
    """
    return max(SMALLEST_DOT, min(most, (ROOMY_TILE if _is_roomy(x.device) else TIGHT_TILE) // width))


def stages(x: Tensor, width: int) -> int:
    """Tiles on their way at once over heads of this width: what is on its way takes registers as well."""
    return STAGES if width <= WIDE or _is_roomy(x.device) else 1


def _is_roomy(device: torch.device) -> bool:
    return describe(device).capabilities.shared_memory_bytes >= ROOMY_BYTES


def parts(device: torch.device, programs: int, most: int) -> int:
    """Into how many parts each program's work is cut where the programs alone would leave processors idle."""
    wanted = PROGRAMS_A_PROCESSOR * describe(device).capabilities.processors // max(programs, 1)
    cut = 1
    while cut * 2 <= min(wanted, most):
        cut *= 2
    return cut
