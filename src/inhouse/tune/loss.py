"""Losses: plain functions of a packed stream. Logits are made only where a token carries loss."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from inhouse import ops
from inhouse.data.pack import Packed as PackedExamples
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Adapters, Packed


class Loss(Protocol):
    """A loss of one stream, each trained token weighing `weight`.

    Returns [] with gradient, and for each trained token its loss [N] and whether it is the likeliest one [N].
    """

    def __call__(
        self, decoder: Decoder, adapters: Adapters | None, batch: PackedExamples, weight: float
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def supervised(
    decoder: Decoder, adapters: Adapters | None, batch: PackedExamples, weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the replies' tokens, in natural logarithms."""
    hidden = decoder.forward(batch.tokens, batch.positions, Packed(batch.lengths), adapters, batch.rows)
    weights = torch.full((len(batch.targets),), weight, device=hidden.device)
    return ops.chunked_cross_entropy(
        hidden, decoder.head, batch.targets, weights, cap=decoder.config.logit_cap
    )
