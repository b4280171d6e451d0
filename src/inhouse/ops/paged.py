"""Attention of one token a sequence over the pages of a cache, and of a chunk of one sequence.

The plain versions gather keys and values into rectangles first. Sources: Kwon et al., "Efficient Memory Management
for Large Language Model Serving with PagedAttention", 2023, for the pages; Gemma Team, "Gemma 2", 2024, for the cap
on scores; Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023, for the sinks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.attention import causal_mask
from inhouse.ops.probe import integers, made
from inhouse.ops.registry import Implementation, kernels


@dataclass(frozen=True, slots=True)
class Past:
    """What each decoding token of a step may read: the pages of its sequence, its own token's included."""

    tables: Tensor
    """[B, P] int32, the pages of each sequence in the order of its tokens; any page behind its end"""
    lengths: Tensor
    """[B] int32, tokens of each sequence; 0 is a row that only fills the batch up, and gets zeros"""
    page_size: int
    """Tokens a page."""
    longest: int
    """Tokens of the longest sequence, or more."""
    nowhere: int
    """A place of the cache that is always zero."""
    _masks: dict[int | None, Tensor] = field(default_factory=dict)
    _places: list[Tensor] = field(default_factory=list)

    @property
    def places(self) -> Tensor:
        """Where each sequence's tokens lie: [B, longest] int64, `nowhere` behind a sequence's end. Made once a step."""
        if not self._places:
            inside = torch.arange(self.page_size, device=self.tables.device)
            places = (self.tables.long()[:, :, None] * self.page_size + inside).flatten(1)[:, : self.longest]
            within = torch.arange(self.longest, device=places.device) < self.lengths[:, None]
            self._places.append(torch.where(within, places, self.nowhere))
        return self._places[0]

    def gathered(self, store: Tensor) -> Tensor:
        """Keys or values in rectangles: store [places, G, K] → [B, longest, G, K]."""
        places = self.places
        return store.index_select(0, places.flatten()).view(*places.shape, *store.shape[1:])

    def mask(self, window: int | None) -> Tensor:
        """[B, longest] bool, true where a token may look. A row without tokens sees the first place, a zero."""
        if window not in self._masks:
            seen = torch.arange(self.longest, device=self.lengths.device)
            lengths = self.lengths[:, None]
            mask = seen < lengths.clamp_min(1)
            self._masks[window] = mask if window is None else mask & (seen >= lengths - window)
        return self._masks[window]


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
    """Each sequence's newest token attends to the sequence.

    q             [B, H, K]       H is a multiple of G
    keys, values  [places, G, K]  one layer's cache
    window        a token sees itself and at most window - 1 before it; None sees all
    cap      scores s become cap · tanh(s / cap)
    sinks         [H] a score of each head that takes its share of the softmax and gives nothing
    Returns [B, H, K].
    """
    mixed: Tensor = kernels.kernel("decode_attention", q.device)(
        q, keys, values, past, scale=scale, window=window, cap=cap, sinks=sinks
    )
    return mixed


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
    """The last n tokens of one sequence attend to it, each to itself and what came before it.

    q             [n, H, K]
    keys, values  [places, G, K]  one layer's cache
    places        [L] int32       where the sequence's tokens lie, n of them the queries' own
    Returns [n, H, K]. The rest as in `decode_attention`.
    """
    mixed: Tensor = kernels.kernel("prefill_attention", q.device)(
        q, keys, values, places, scale=scale, window=window, cap=cap, sinks=sinks
    )
    return mixed


def plain_decode(
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
    """The heads that share keys stand as several queries, so that keys and values are not repeated."""
    queries: Tensor = q.unflatten(1, (keys.shape[1], -1))  # [B, G, H/G, K]
    k, v = (past.gathered(store).transpose(1, 2) for store in (keys, values))  # [B, G, longest, K]
    mask = past.mask(window)[:, None, None]  # [B, 1, 1, longest]
    if cap is None and sinks is None:
        mixed: Tensor = F.scaled_dot_product_attention(queries, k, v, attn_mask=mask, scale=scale)
        return mixed.flatten(1, 2)
    scores = queries.float() @ k.float().mT * scale  # [B, G, H/G, longest]
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        last = sinks.float().view(1, *queries.shape[1:3], 1).expand(len(q), -1, -1, 1)
        scores = torch.cat([scores, last], -1)
    shares = scores.softmax(-1)[..., : past.longest]
    capped: Tensor = (shares @ v.float()).to(q.dtype)
    return capped.flatten(1, 2)


def plain_prefill(
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
    k, v = (store.index_select(0, places).transpose(0, 1) for store in (keys, values))  # [G, L, K]
    mask = causal_mask(len(q), len(places), window, q.device)  # [n, L]
    if cap is None and sinks is None:
        mixed: Tensor = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            k[None],
            v[None],
            attn_mask=mask,
            scale=scale,
            enable_gqa=q.shape[1] != len(k),
        )
        return mixed[0].transpose(0, 1)
    queries = q.transpose(0, 1).unflatten(0, (len(k), -1))  # [G, H/G, n, K]
    scores = queries.float() @ k.float().mT[:, None] * scale  # [G, H/G, n, L]
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        last = sinks.float().view(*queries.shape[:2], 1, 1).expand(-1, -1, len(q), 1)
        scores = torch.cat([scores, last], -1)
    shares = scores.softmax(-1)[..., : len(places)]
    capped: Tensor = (shares @ v.float()[:, None]).to(q.dtype)
    return capped.flatten(0, 1).transpose(0, 1)


def _probe_decode(
    implementation: Implementation, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Sequences of 1, 37 and 0 tokens on pages of 16; then a window, a cap and sinks. Foreign places are NaN."""
    past = Past(integers([[3, 0, 0], [4, 1, 5], [0, 0, 0]], device), integers([1, 37, 0], device), 16, 48, 96)
    q, keys, values = (
        made(*shape, device=device, dtype=dtype, seed=seed)
        for seed, shape in enumerate([(3, 6, 32), (97, 2, 32), (97, 2, 32)])
    )
    for store in (keys, values):
        store[0:16], store[85:96], store[96] = torch.nan, torch.nan, 0
    sinks = made(6, device=device, dtype=dtype, seed=3)
    return (
        implementation(q, keys, values, past, scale=0.2),
        implementation(q, keys, values, past, scale=0.2, window=9, cap=3.0, sinks=sinks),
    )


def _probe_prefill(
    implementation: Implementation, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """The last 5 of 21 tokens that lie in disorder; then 70 with a window, a cap and sinks."""
    q, keys, values = (
        made(*shape, device=device, dtype=dtype, seed=seed)
        for seed, shape in enumerate([(70, 4, 32), (90, 2, 32), (90, 2, 32)])
    )
    sinks = made(4, device=device, dtype=dtype, seed=3)
    places = integers(list(range(80, 0, -1)), device)
    return (
        implementation(q[:5], keys, values, places[:21], scale=0.2),
        implementation(q, keys, values, places, scale=0.2, window=9, cap=3.0, sinks=sinks),
    )


kernels.define("decode_attention", plain_decode, _probe_decode)
kernels.define("prefill_attention", plain_prefill, _probe_prefill)
