"""The decoder: one forward pass for training and for serving.

It works on a flat stream of tokens, without a batch dimension and without padding; which tokens see which is
`attend`'s matter, what is added to a linear layer is `adapters`'. It knows no files: `model.weights` builds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from inhouse import ops
from inhouse.model.config import ModelConfig
from inhouse.model.layers import Adapters, Block, Linear, Norm, Packed, Rotation, Stream, Turns


@dataclass(slots=True)
class Decoder:
    """A model of one of the families, with its weights on one device and in one type."""

    config: ModelConfig
    embedding: Tensor
    """[V, D]"""
    positions: Tensor | None
    """[context, D] learned positions; without them, positions turn."""
    blocks: list[Block]
    norm: Norm
    head: Tensor
    """[V, D]; the embedding itself when tied."""
    rotation: Rotation | None
    served_head: ops.Matrix | None = None
    """The head as serving holds it."""
    recompute: bool = False
    """Keep only each block's input for the backward pass: less memory, a third more work."""

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Stream,
        adapters: Adapters | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states of the stream, or of its `rows` alone.

        tokens     [T]       int64
        positions  [T]       int64, each token's place in its own sequence
        rows       [N]       int64, which places of the stream are wanted; None is all
        returns    [N or T, D], after the final norm
        """
        x = self.embed(tokens, positions)  # [T, D]
        turns = self.turns(positions, attend)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, turns, attend, adapters, use_reentrant=False)
            else:
                x = block(x, turns, attend, adapters)
        return self.norm(x if rows is None else x[rows])

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The stream before the first block. tokens and positions [T] int64 → [T, D]."""
        x = F.embedding(tokens, self.embedding)
        if self.config.embedding_scale != 1:
            # Rounded to the weights' type first, as it was in training.
            x = x * torch.tensor(self.config.embedding_scale, dtype=x.dtype).item()
        return x if self.positions is None else x + F.embedding(positions, self.positions)

    def turns(self, positions: Tensor, attend: Stream) -> Turns:
        """What rotary layers turn a stream's positions [T] int64 by."""
        if self.rotation is None:
            return ()
        reach = attend.reach() if self.rotation.asks_reach else None
        return self.rotation(positions, self.config.context, reach)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every token of the vocabulary. hidden [N, D] → [N, V] float32."""
        head = self.served_head
        scores = F.linear(hidden, self.head) if head is None else head.product(hidden, None)
        return ops.soft_cap(scores.float(), self.config.logit_cap)

    def score(self, sequences: list[list[int]], adapters: Adapters | None = None) -> Tensor:
        """Logits at every place of each sequence, one after the other: the plain oracle. → [sum of T, V]."""
        tokens = torch.tensor([t for s in sequences for t in s], device=self.device)
        positions = torch.cat([torch.arange(len(s)) for s in sequences]).to(self.device)
        return self.logits(self.forward(tokens, positions, Packed([len(s) for s in sequences]), adapters))

    def serve(self, quantization: str = "none") -> None:
        """Lays every matrix out for the fastest products here, rounded to fewer bits where that is asked for; a
        mixture's routers are never rounded. From then on the decoder is for serving alone: there is nothing left to
        train or to save. Done once."""
        if self.served_head is not None:
            return
        for block in self.blocks:
            block.serve(quantization)
        self.served_head = ops.for_serving(self.head, quantization)
        if self.head is not self.embedding:
            self.head = self.head.to("meta")

    @property
    def weight_bytes(self) -> int:
        """Bytes of matrices that a step with one token reads."""
        return sum(block.weight_bytes for block in self.blocks) + (self.served_head or self.head).nbytes

    def linears(self) -> Iterator[Linear]:
        """Every linear layer that an adapter may change, in order."""
        for block in self.blocks:
            yield from block.linears()

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight under the name of its first part, fused ones whole: what full tuning trains."""
        yield "embedding", self.embedding
        if self.positions is not None:
            yield "positions", self.positions
        for i, block in enumerate(self.blocks):
            for label, tensor in block.named_tensors():
                yield f"blocks.{i}.{label}", tensor
        yield from self.norm.named_tensors("norm")
        if self.head is not self.embedding:
            yield "head", self.head

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(t.numel() for _, t in self.named_tensors())


def greedy(
    decoder: Decoder,
    prompt: list[int],
    count: int,
    adapters: Adapters | None = None,
    stop: frozenset[int] = frozenset(),
) -> list[int]:
    """The slow, obvious way to generate: the whole sequence again for every token. The engine's oracle."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            stream = torch.tensor(tokens, device=decoder.device)
            places = torch.arange(len(tokens), device=decoder.device)
            hidden = decoder.forward(stream, places, Packed([len(tokens)]), adapters, places[-1:])
            tokens.append(int(decoder.logits(hidden).argmax()))
            if tokens[-1] in stop:
                break
    return tokens[len(prompt) :]
