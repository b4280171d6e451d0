"""The paged key-value cache, and attention through it.

It knows places of tokens, not sequences: `engine.batch` says which token of a step is written where, and which
places each may read. The plain version: keys and values are gathered into rectangles before attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.model.config import ModelConfig
from inhouse.ops import scored_attention
from inhouse.ops.attention import causal_mask


class Cache:
    """Keys and values of every layer, each [places, G, K]; a page is `page_size` places in a row.

    One place more than the pages have, always zero, stands in where a rectangle has no token: stale values of an
    earlier request, which might be NaN, are never read.
    """

    def __init__(
        self, config: ModelConfig, pages: int, page_size: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.page_size = page_size
        self.device = device
        self.nowhere = pages * page_size
        shape = (self.nowhere + 1, config.kv_heads, config.head_width)
        # Not zeroed: memory that no token has reached costs nothing on most systems.
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        for store in (*self.keys, *self.values):
            store[self.nowhere] = 0

    def places(self, tables: list[list[int]], lengths: list[int]) -> Tensor:
        """Where each sequence's tokens lie: [B, longest] int64, `nowhere` behind a sequence's end.

        tables   pages of each sequence, in the order of its tokens
        lengths  tokens of each sequence
        """
        longest = max(lengths)
        width = -(-longest // self.page_size)
        padded = [(table + [0] * width)[:width] for table in tables]
        pages = torch.tensor(padded, device=self.device)  # [B, width]
        places = (
            pages[:, :, None] * self.page_size + torch.arange(self.page_size, device=self.device)
        ).flatten(1)
        within = (
            torch.arange(longest, device=self.device) < torch.tensor(lengths, device=self.device)[:, None]
        )
        return torch.where(within, places[:, :longest], self.nowhere)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Several tokens of one sequence in a row: stream[start:stop], attending to `places` [L] in causal order."""

    start: int
    stop: int
    places: Tensor


@dataclass(frozen=True, slots=True)
class PagedAttend:
    """Attention of one step: writes the step's keys and values to their places, then reads each token's past.

    The stream holds the decoding sequences' single tokens first, then the chunks.
    """

    cache: Cache
    write: Tensor
    """[T] int64, the place of each token of the stream"""
    decode: Tensor
    """[B, longest] int64, the places that the first B tokens attend to, their own last; padded with nowhere"""
    lengths: Tensor
    """[B] int64, tokens in each row of `decode`"""
    chunks: tuple[Chunk, ...]
    reaches: tuple[int, ...] = ()
    """[T] how long each token's sequence is by now, tokens that are still to be read included"""
    _masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def __call__(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int | None,
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys.index_copy_(0, self.write, k)
        values.index_copy_(0, self.write, v)
        out = torch.empty_like(q)  # [T, H, K]
        if cap is not None or sinks is not None:
            self._scored(
                out, q, keys, values, window, partial(scored_attention, scale=scale, cap=cap, sinks=sinks)
            )
            return out
        singles = len(self.decode)
        if singles:
            out[:singles] = self._single(q[:singles], keys, values, scale, window)
        for number, chunk in enumerate(self.chunks):
            rows = slice(chunk.start, chunk.stop)
            out[rows] = F.scaled_dot_product_attention(
                q[rows].transpose(0, 1)[None],  # [1, H, n, K]
                keys.index_select(0, chunk.places).transpose(0, 1)[None],  # [1, G, L, K]
                values.index_select(0, chunk.places).transpose(0, 1)[None],
                attn_mask=self._chunk_mask(number, window),
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )[0].transpose(0, 1)
        return out

    def reach(self) -> Tensor:
        return torch.tensor(self.reaches)

    def _scored(
        self,
        out: Tensor,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        window: int | None,
        attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    ) -> None:
        """The same for caps and sinks, which fused kernels do not know. Fills out [T, H, K]."""
        if singles := len(self.decode):
            k, v = (self._gathered(store).transpose(1, 2) for store in (keys, values))  # [B, G, longest, K]
            seen = self._single_mask(window)[:, None]  # [B, 1, longest]
            out[:singles] = attention(q[:singles, :, None], k, v, seen).squeeze(2)
        for number, chunk in enumerate(self.chunks):
            rows = slice(chunk.start, chunk.stop)
            k, v = (s.index_select(0, chunk.places).transpose(0, 1)[None] for s in (keys, values))
            seen = self._chunk_mask(number, window)[None]  # [1, n, L]
            out[rows] = attention(q[rows].transpose(0, 1)[None], k, v, seen)[0].transpose(0, 1)

    def _single(self, q: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
        """One query a sequence; the heads that share keys stand as several queries. q [B, H, K] → [B, H, K]."""
        groups = keys.shape[1]
        mixed = F.scaled_dot_product_attention(
            q.unflatten(1, (groups, -1)),  # [B, G, H/G, K]
            self._gathered(keys).transpose(1, 2),  # [B, G, longest, K]
            self._gathered(values).transpose(1, 2),
            attn_mask=self._single_mask(window)[:, None, None],  # [B, 1, 1, longest]
            scale=scale,
        )
        return mixed.flatten(1, 2)

    def _gathered(self, store: Tensor) -> Tensor:
        """What each decoding token attends to: [B, longest, G, K]."""
        return store.index_select(0, self.decode.flatten()).view(*self.decode.shape, *store.shape[1:])

    def _single_mask(self, window: int | None) -> Tensor:
        key = (-1, window)
        if key not in self._masks:
            seen = torch.arange(self.decode.shape[1], device=self.decode.device)
            mask = seen < self.lengths[:, None]
            self._masks[key] = mask if window is None else mask & (seen >= self.lengths[:, None] - window)
        return self._masks[key]

    def _chunk_mask(self, number: int, window: int | None) -> Tensor:
        key = (number, window)
        if key not in self._masks:
            chunk = self.chunks[number]
            self._masks[key] = causal_mask(
                chunk.stop - chunk.start, len(chunk.places), window, chunk.places.device
            )
        return self._masks[key]
