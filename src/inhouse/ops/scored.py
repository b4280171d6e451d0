"""Attention with its scores in the open, for what fused kernels do not know: caps and sinks.

Scores are float32 whatever the inputs are. Queries are taken a few hundred at a time, so that the scores of a long
sequence never exist all at once where no gradient is wanted.

Sources: Gemma Team, "Gemma 2", 2024, for the cap; Xiao et al., "Efficient Streaming Language Models with Attention
Sinks", 2023, for the sink.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inhouse.ops.cross_entropy import soft_cap

QUERIES = 512
"""Rows of scores that exist at once: 64 heads over 8,000 keys are a gigabyte then."""


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    *,
    scale: float,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """softmax over what each query sees.

    q      [B, H, N, K]       queries
    k, v   [B, G, L, K]       keys and values; H is a multiple of G
    seen   [B or 1, N, L]     bool, where a query may look; each sees something
    cap    scores are bent below it; None leaves them
    sinks  [H]                a score that takes its share of the softmax and gives nothing; None for no such
    returns [B, H, N, K]
    """
    pieces = zip(q.split(QUERIES, 2), seen.split(QUERIES, 1), strict=True)
    parts = [_some(rows, k, v, mask, scale, cap, sinks) for rows, mask in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _some(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, cap: float | None, sinks: Tensor | None
) -> Tensor:
    groups, count = k.shape[1], q.shape[2]
    rows = q.unflatten(1, (groups, -1))  # [B, G, H/G, N, K]
    scores = torch.matmul(rows.flatten(2, 3).float(), k.float().mT) * scale  # [B, G, H/G · N, L]
    scores = soft_cap(scores, cap).unflatten(2, (-1, count))  # [B, G, H/G, N, L]
    scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
    if sinks is not None:
        sink = sinks.float().view(1, groups, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    mixed = torch.matmul(weights.to(v.dtype).flatten(2, 3), v)  # [B, G, H/G · N, K]
    return mixed.view(q.shape)
