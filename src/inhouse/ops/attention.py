"""Causal attention within each segment of a token stream without padding.

Segments of about one length are computed side by side, the shorter ones filled up behind: what is filled up lies
after every real token, so causality hides it and no mask is needed. One call for many short chats is much
cheaper than a call for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.scored import scored_attention

WIDE_BELOW = 768
"""Segments shorter than this attend in float32 on a CPU: its bfloat16 attention is slower there (measured)."""

PRODUCTS_BELOW = 256
"""Segments shorter than this attend in bfloat16 on a CPU by two plain products: half the time of the fused kernel
(measured), for the memory of their scores."""

FILL = 0.8
"""A segment joins longer ones when it has at least this share of the longest one's length: attention's work grows
with the square of what is filled up."""


def attend_segments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Each segment attends causally to itself and to nothing else.

    q        [T, H, K]  queries
    k, v     [T, G, K]  keys and values; H is a multiple of G (grouped-query attention)
    lengths  sum T      tokens of each segment, in stream order
    window   a token sees itself and at most window - 1 before it; None sees all
    cap, sinks  as in `scored_attention`, which computes it where one is given
    """
    how = _How(scale, window, cap, sinks)
    plan = _plan(tuple(lengths), q.device)
    if plan is None:
        return _attend(q, k, v, 1, how)
    q, k, v = (_filled(x, plan) for x in (q, k, v))
    sizes = [count * length for count, length in plan.groups]
    parts = zip(plan.groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
    mixed = torch.cat([_attend(q_, k_, v_, count, how) for (count, _), q_, k_, v_ in parts])
    return _Unfill.apply(mixed, plan.places)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True, slots=True)
class _How:
    scale: float
    window: int | None
    cap: float | None
    sinks: Tensor | None


def _attend(q: Tensor, k: Tensor, v: Tensor, count: int, how: _How) -> Tensor:
    """`count` segments of one length, one after the other: q [count · L, H, K], k, v [count · L, G, K]."""
    length, heads, groups = len(q) // count, q.shape[1], k.shape[1]
    window = None if how.window is None or how.window >= length else how.window
    q, k, v = (x.unflatten(0, (count, length)).transpose(1, 2) for x in (q, k, v))  # [count, H or G, L, K]
    if how.cap is not None or how.sinks is not None:
        seen = causal_mask(length, length, window, q.device)[None]  # [1, L, L]
        mixed = scored_attention(q, k, v, seen, scale=how.scale, cap=how.cap, sinks=how.sinks)
        return mixed.transpose(1, 2).flatten(0, 1)
    mask = None if window is None else causal_mask(length, length, window, q.device)
    if q.dtype is torch.bfloat16 and q.device.type == "cpu" and length < WIDE_BELOW:
        attend = _by_products if length < PRODUCTS_BELOW else _in_float32
    else:
        attend = _fused
    mixed = attend(q, k, v, mask, how.scale, heads // groups)
    return mixed.transpose(1, 2).flatten(0, 1)  # [count · L, H, K]


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, repeats: int) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=repeats > 1
    )


def _in_float32(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, repeats: int) -> Tensor:
    return _fused(q.float(), k.float(), v.float(), mask, scale, repeats).to(q.dtype)


def _by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, repeats: int) -> Tensor:
    length = q.shape[2]
    seen = causal_mask(length, length, None, q.device) if mask is None else mask
    hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, -torch.inf).repeat(repeats, 1)
    rows = q.unflatten(1, (-1, repeats)).flatten(2, 3).flatten(0, 1)  # [count · G, repeats · L, K]
    scores = torch.baddbmm(hidden[None], rows, k.flatten(0, 1).mT, alpha=scale)
    mixed = torch.bmm(scores.softmax(-1), v.flatten(0, 1))
    return mixed.view(q.shape)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where each token of the stream goes when segments are laid side by side."""

    groups: tuple[tuple[int, int], ...]
    """(segments, length of each once filled up)"""
    filled: Tensor
    """[P] int64: the stream's token at each place; a segment's first one where it is filled up."""
    places: Tensor
    """[T] int64: the place of each token of the stream."""


@lru_cache(maxsize=4)
def _plan(lengths: tuple[int, ...], device: torch.device) -> _Plan | None:
    """None where the stream is one segment. Kept for the other layers of the same pass."""
    if len(lengths) == 1:
        return None
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[i] >= FILL * lengths[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    filled: list[Tensor] = []
    places = torch.empty(starts[-1], dtype=torch.int64)
    at = 0
    for group in groups:
        longest = lengths[group[0]]
        for i in group:
            offsets = torch.arange(longest)
            filled.append(torch.where(offsets < lengths[i], offsets, 0) + starts[i])
            places[starts[i] : starts[i + 1]] = torch.arange(at, at + lengths[i])
            at += longest
    shapes = tuple((len(group), lengths[group[0]]) for group in groups)
    return _Plan(shapes, torch.cat(filled).to(device), places.to(device))


def _filled(x: Tensor, plan: _Plan) -> Tensor:
    return _Fill.apply(x, plan.filled, plan.places)  # type: ignore[no-any-return, no-untyped-call]


class _Fill(torch.autograd.Function):
    """Lays tokens out. What is filled up gets no gradient: nothing real looks at it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filled: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return x[filled]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return grads[0][places], None, None


class _Unfill(torch.autograd.Function):
    """Takes the tokens back in the stream's order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return x[places]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.shape).index_copy_(0, places, grads[0]), None


def causal_mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """True where a query may look: the queries are the last rows of the keys.

    Returns [queries, keys] bool.
    """
    at = torch.arange(keys - queries, keys, device=device)[:, None]
    seen = torch.arange(keys, device=device)[None]
    mask = seen <= at
    return mask if window is None else mask & (seen > at - window)
