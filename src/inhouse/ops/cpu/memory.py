"""Memory for what is read from end to end at every step: on large pages, where the system gives them when asked.

With pages of 4 KiB a processor spends a part of its time on finding them: a product with one row was 15 % faster on
pages of 2 MiB (measured). Where they are not to be had, memory is as it always is.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
import threading
import weakref

import torch
from torch import Tensor

LARGE = 2 * 2**20
"""Bytes of a large page, and the least that is worth one."""
CHUNK = 32 * LARGE
"""Asked of the system at a time. Tensors lie in it one behind the other, or every one would waste half a page; it goes
back when the last of them does."""
ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest register."""


def on_large_pages(tensor: Tensor) -> Tensor:
    """The same numbers in the same order, laid on large pages if they fill one."""
    if not hasattr(mmap, "MADV_HUGEPAGE") or tensor.nbytes < LARGE:
        return tensor.contiguous()
    room = _rooms.take(tensor.nbytes)
    return room.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def give_back() -> None:
    """Gives the system what was freed. The C library keeps it otherwise, in pieces that the next large tensor often
    does not fit into: loading a base took twice its size at last (measured)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)


class _Rooms:
    """Hands out bytes of the last chunk as long as they last. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunk: weakref.ref[mmap.mmap] | None = None
        """Tensors alone keep a chunk."""
        self._used = 0

    def take(self, count: int) -> Tensor:
        """[count] uint8"""
        with self._lock:
            chunk = self._chunk() if self._chunk is not None else None
            if chunk is None or self._used + count > len(chunk):
                chunk = mmap.mmap(-1, max(count, CHUNK) + LARGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                with contextlib.suppress(OSError):  # some kernels know the call and have no such pages
                    chunk.madvise(
                        mmap.MADV_HUGEPAGE
                    )  # none of it is touched yet, so it may still lie on such
                self._chunk, self._used = weakref.ref(chunk), 0
            whole = torch.frombuffer(chunk, dtype=torch.uint8)
            if not self._used:
                self._used = -whole.data_ptr() % LARGE
            start, stop = self._used, self._used + count
            self._used = -(-stop // ALIGNMENT) * ALIGNMENT
            return whole[start:stop]


_rooms = _Rooms()
