"""A plugin for processes in which Triton interprets: kernels run on the CPU, program by program.

Triton's interpreter keeps bfloat16 as bare bits: it multiplies those in a dot product, and rounds towards zero where
devices round to the nearest. Here they become float32 numbers first, and are rounded as devices do.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

assert os.environ.get("TRITON_INTERPRET") == "1", "run by tests/ops/test_triton_interpreted.py"


def _numbers(handle: Any) -> Any:
    if handle.dtype.scalar is not tl.bfloat16:
        return handle
    wide = (handle.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return interpreter.TensorHandle(wide, tl.float32)


_create_dot = interpreter.InterpreterBuilder.create_dot


def _dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
    return _create_dot(self, _numbers(a), _numbers(b), *rest)


interpreter.InterpreterBuilder.create_dot = _dot


_cast = interpreter.InterpreterBuilder.cast_impl


def _to_nearest(self: Any, source: Any, kind: Any) -> Any:
    if source.dtype.scalar is not tl.float32 or kind.scalar is not tl.bfloat16:
        return _cast(self, source, kind)
    bits = source.data.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    quiet = np.where(np.isnan(source.data), np.uint16(0x7FC0), rounded)
    return interpreter.TensorHandle(quiet, tl.bfloat16)


interpreter.InterpreterBuilder.cast_impl = _to_nearest
