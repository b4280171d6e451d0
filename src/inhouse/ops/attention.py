"""Causal attention within each segment of a token stream without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WIDE_BELOW = 768
"""Segments shorter than this attend in float32 on a CPU: its bfloat16 attention is slower there (measured)."""


def attend_segments(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], *, scale: float, window: int | None = None
) -> Tensor:
    """Each segment attends causally to itself and to nothing else.

    q        [T, H, K]  queries
    k, v     [T, G, K]  keys and values; H is a multiple of G (grouped-query attention)
    lengths  sum T      tokens of each segment, in stream order
    window   a token sees itself and at most window - 1 before it; None sees all
    """
    grouped = q.shape[1] != k.shape[1]
    kind = q.dtype
    if kind is torch.bfloat16 and max(lengths) < WIDE_BELOW and q.device.type == "cpu":
        q, k, v = q.float(), k.float(), v.float()
    out = []
    # split, not slices: the gradient of a slice is as long as the whole stream
    parts = zip(q.split(list(lengths)), k.split(list(lengths)), v.split(list(lengths)), strict=True)
    for q_part, k_part, v_part in parts:
        length = len(q_part)
        mask = None if window is None or window >= length else causal_mask(length, length, window, q.device)
        mixed = F.scaled_dot_product_attention(
            q_part.transpose(0, 1)[None],  # [1, H, length, K]
            k_part.transpose(0, 1)[None],
            v_part.transpose(0, 1)[None],
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=grouped,
        )
        out.append(mixed[0].transpose(0, 1))
    return (torch.cat(out) if len(out) > 1 else out[0]).to(kind)


def causal_mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """True where a query may look: the queries are the last rows of the keys.

    Returns [queries, keys] bool.
    """
    at = torch.arange(keys - queries, keys, device=device)[:, None]
    seen = torch.arange(keys, device=device)[None]
    mask = seen <= at
    return mask if window is None else mask & (seen > at - window)
