"""Attention over the paged cache by the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from inhouse.ops.cpu import library
from inhouse.ops.cpu.calls import LANES, name_of, pointer, threads_for
from inhouse.ops.paged import Past
from inhouse.ops.registry import Implementation


def decode(plain: Implementation) -> Implementation:
    """The operation "decode_attention": see ops.paged."""
    call = library.functions("decode_attention")

    def decode_attention(
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        past: Past,
        *,
        scale: float,
        window: int | None = None,
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        rows, heads, width = q.shape
        kernel = call.get(name_of(q, keys, values))
        if kernel is None or width % (2 * LANES):
            return plain(  # type: ignore[no-any-return]
                q, keys, values, past, scale=scale, window=window, cap=cap, sinks=sinks
            )
        q, wide = q.contiguous(), None if sinks is None else sinks.float()
        out = torch.empty(rows, heads, width, dtype=q.dtype)
        kernel(
            out.data_ptr(), q.data_ptr(), keys.data_ptr(), values.data_ptr(), past.tables.data_ptr(),
            past.lengths.data_ptr(), rows, heads, keys.shape[1], width, past.page_size, past.tables.shape[1],
            q.stride(0), scale, cap or 0.0, window or 0, pointer(wide),
            threads_for(rows * heads * width * past.longest),
        )  # fmt: skip
        return out

    return decode_attention


def prefill(plain: Implementation) -> Implementation:
    """The operation "prefill_attention": see ops.paged."""
    call = library.functions("prefill_attention")

    def prefill_attention(
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        places: Tensor,
        *,
        scale: float,
        window: int | None = None,
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        count, heads, width = q.shape
        kernel = call.get(name_of(q, keys, values))
        if kernel is None or width % (2 * LANES):
            return plain(  # type: ignore[no-any-return]
                q, keys, values, places, scale=scale, window=window, cap=cap, sinks=sinks
            )
        q, wide = q.contiguous(), None if sinks is None else sinks.float()
        out = torch.empty(count, heads, width, dtype=q.dtype)
        kernel(
            out.data_ptr(), q.data_ptr(), keys.data_ptr(), values.data_ptr(), places.data_ptr(),
            len(places) - count, count, heads, keys.shape[1], width, 1, q.stride(0), scale, cap or 0.0,
            window or 0, pointer(wide), threads_for(count * heads * width * len(places)),
        )  # fmt: skip
        return out

    return prefill_attention
