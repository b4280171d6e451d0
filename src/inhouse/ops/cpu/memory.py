"""Memory for what is read from end to end at every step: on large pages, where the system gives them when asked.

With pages of 4 KiB a processor spends a part of its time on finding them: a product with one row was 15 % faster on
pages of 2 MiB (measured). Where they are not to be had, memory is as it always is.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

LARGE = 2 * 2**20
"""Bytes of a large page, and the least that is worth one."""
Lay = Callable[[Tensor], Tensor]
"""Gives the same numbers in the same order, one behind another, somewhere."""
_ADVICE = 14
"""MADV_HUGEPAGE of Linux."""


def on_large_pages(tensor: Tensor) -> Tensor:
    """The same numbers in the same order, laid on large pages if they fill one."""
    if tensor.nbytes < LARGE:
        return tensor.contiguous()
    return _room(tensor.shape, tensor.dtype).copy_(tensor)


class Shelf:
    """Room on large pages for many tensors of one shape, behind one another: each by itself would begin a page.

    Called with a tensor it gives the same numbers in their place; the first call says how much each takes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._places: Iterator[Tensor] | None = None

    def __call__(self, tensor: Tensor) -> Tensor:
        if self._places is None:
            self._places = iter(_room(torch.Size((self._count, *tensor.shape)), tensor.dtype).unbind())
        return next(self._places).copy_(tensor)


def _room(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """An empty tensor that begins on a large page, where the system has any."""
    advise, nbytes = _madvise(), shape.numel() * dtype.itemsize
    if advise is None or nbytes < LARGE:
        return torch.empty(shape, dtype=dtype)
    size = -(-nbytes // LARGE) * LARGE
    room = torch.empty(size + LARGE, dtype=torch.uint8)  # not touched yet, so that it may still become large
    start = -room.data_ptr() % LARGE
    advise(room.data_ptr() + start, size, _ADVICE)
    return room[start : start + nbytes].view(dtype).view(shape)


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:
    """None where there is no such call, or where large pages are nothing that a program may ask for."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        advise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return None
    advise.argtypes, advise.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int], ctypes.c_int
    return advise
