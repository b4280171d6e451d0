"""The paged key-value cache, and attention through it.

It knows places of tokens, not sequences: `engine.batch` says which token of a step is written where, and which
places each may read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inhouse import ops
from inhouse.model.config import ModelConfig


class Cache:
    """Keys and values of every layer, each [places, G, K]; a page is `page_size` places in a row.

    Two places more than the pages have: `nowhere`, always zero, stands in where a rectangle has no token, so that
    stale values of an earlier request, which might be NaN, are never read; `spare` takes what the rows write that
    only fill a batch up, and nobody reads it.
    """

    def __init__(
        self, config: ModelConfig, pages: int, page_size: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.page_size = page_size
        self.device = device
        self.nowhere = pages * page_size
        self.spare = self.nowhere + 1
        shape = (self.spare + 1, config.kv_heads, config.head_width)
        # Not zeroed: memory that no token has reached costs nothing on most systems.
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        for store in (*self.keys, *self.values):
            store[self.nowhere] = 0

    def place(self, table: list[int], index: int) -> int:
        """Where a sequence's token lies, by the sequence's pages."""
        return table[index // self.page_size] * self.page_size + index % self.page_size

    def places(self, table: list[int], length: int) -> Tensor:
        """Where a sequence's first tokens lie: [length] int64, on the host."""
        pages = torch.tensor(table[: -(-length // self.page_size)])
        inside = torch.arange(self.page_size)
        return (pages[:, None] * self.page_size + inside).flatten()[:length]

    def past(self, tables: list[list[int]], lengths: list[int]) -> ops.Past:
        """What single tokens of sequences may read: each sequence's pages and its tokens. On the host."""
        longest = max(lengths)
        width = -(-longest // self.page_size)
        padded = [(table + [0] * width)[:width] for table in tables]
        return ops.Past(
            torch.tensor(padded, dtype=torch.int32),
            torch.tensor(lengths, dtype=torch.int32),
            self.page_size,
            longest,
            self.nowhere,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Several tokens of one sequence in a row: stream[start:stop], attending to `places` [L] in causal order."""

    start: int
    stop: int
    places: Tensor
    """[L] int32"""


@dataclass(frozen=True, slots=True)
class PagedAttend:
    """Attention of one step: writes the step's keys and values to their places, then reads each token's past.

    The stream holds the decoding sequences' single tokens first, then the chunks.
    """

    cache: Cache
    write: Tensor
    """[T] int64, the place of each token of the stream"""
    past: ops.Past | None
    """What the first tokens of the stream, one a sequence, attend to, themselves included; None without such"""
    chunks: tuple[Chunk, ...]
    reaches: Tensor
    """[T] int64, how long each token's sequence is by now, tokens that are still to be read included"""

    def to(self, device: torch.device) -> PagedAttend:
        """The same, on a device."""
        past = self.past
        if past is not None:
            past = replace(past, tables=past.tables.to(device), lengths=past.lengths.to(device))
        chunks = tuple(replace(chunk, places=chunk.places.to(device)) for chunk in self.chunks)
        return PagedAttend(self.cache, self.write.to(device), past, chunks, self.reaches.to(device))

    def __call__(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        *,
        scale: float,
        window: int | None,
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        q = ops.rotate_and_write(q, k, v, rotation, keys, values, self.write)
        singles = 0 if self.past is None else len(self.past.lengths)
        parts: list[Tensor] = []
        if self.past is not None:
            parts.append(
                ops.decode_attention(
                    q[:singles], keys, values, self.past, scale=scale, window=window, cap=cap, sinks=sinks
                )
            )
        for chunk in self.chunks:
            mine = q[chunk.start : chunk.stop]
            parts.append(
                ops.prefill_attention(
                    mine, keys, values, chunk.places, scale=scale, window=window, cap=cap, sinks=sinks
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)  # [T, H, K]

    def reach(self) -> Tensor:
        return self.reaches
