"""Norms, rotation and the gate of an MLP by the kernels. What a kernel does not take, the plain operation does."""

from __future__ import annotations

import torch
from torch import Tensor

from inhouse.ops.cpu import library
from inhouse.ops.cpu.calls import LANES, name_of, pointer, threads_for
from inhouse.ops.registry import Implementation


def norm(plain: Implementation) -> Implementation:
    """The operation "norm": see ops.norm."""
    call = library.functions("rms")

    def norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        width = x.shape[-1]
        kernel = call.get(name_of(x, weight, *(() if update is None else (update,))))
        is_odd = update is not None and (update.shape != x.shape or not update.is_contiguous())
        if kernel is None or is_odd or width % LANES or x.ndim > 3 or x.stride(-1) != 1:
            return plain(x, update, weight, eps)  # type: ignore[no-any-return]
        heads = x.shape[1] if x.ndim == 3 else 1
        if x.ndim == 3 and heads > 1 and x.stride(1) != width:
            x = x.contiguous()
        y = torch.empty(x.shape, dtype=x.dtype)
        total = x if update is None else torch.empty(x.shape, dtype=x.dtype)
        kernel(
            y.data_ptr(), total.data_ptr(), x.data_ptr(), x.stride(0), pointer(update), weight.data_ptr(),
            len(x) if x.ndim > 1 else 1, heads, width, eps,
        )  # fmt: skip
        return total, y

    return norm


def gate(plain: Implementation) -> Implementation:
    """The operation "gate": see ops.gate."""
    call = library.functions("gate")

    def gate(gate_up: Tensor) -> Tensor:
        rows, width = len(gate_up), gate_up.shape[-1] // 2
        kernel = call.get(name_of(gate_up))
        if kernel is None or width % LANES or gate_up.ndim != 2 or not gate_up.is_contiguous():
            return plain(gate_up)  # type: ignore[no-any-return]
        y = torch.empty(rows, width, dtype=gate_up.dtype)
        kernel(y.data_ptr(), gate_up.data_ptr(), rows, width, threads_for(rows * width))
        return y

    return gate


def rotary(plain: Implementation) -> Implementation:
    """The operation "rotary": see ops.rotary."""
    call = library.functions("rotate_and_write")

    def rotary(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        keys: Tensor,
        values: Tensor,
        write: Tensor,
    ) -> Tensor:
        rows, heads, width = q.shape
        kernel = call.get(name_of(q, k, v, keys, values))
        turned = 2 * rotation[0].shape[-1] if rotation is not None else width
        if kernel is None or width % (2 * LANES) or turned != width or not all(map(_heads_touch, (q, k, v))):
            return plain(q, k, v, rotation, keys, values, write)  # type: ignore[no-any-return]
        out = torch.empty(rows, heads, width, dtype=q.dtype)
        cos, sin = (None, None) if rotation is None else (t.contiguous() for t in rotation)
        kernel(
            out.data_ptr(), q.data_ptr(), q.stride(0), k.data_ptr(), k.stride(0), v.data_ptr(), v.stride(0),
            pointer(cos), pointer(sin), keys.data_ptr(), values.data_ptr(), write.data_ptr(),
            rows, heads, k.shape[1], width,
        )  # fmt: skip
        return out

    return rotary


def _heads_touch(x: Tensor) -> bool:
    """Whether the heads of a token stand one behind the other. x [T, H, K]."""
    return x.stride(2) == 1 and (x.shape[1] == 1 or x.stride(1) == x.shape[2])
