"""The frozen part of a base, computed once: what every step of training its last layers would compute again.

It knows blocks and streams. It knows neither what is trained behind the cut nor how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from inhouse.data.examples import Example
from inhouse.data.pack import pack
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Adapters, Linear, Mlp, Packed


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the frozen trunk ends: before a block's attention, or between its attention and its MLP, if the one follows
    the other."""

    block: int
    before: Literal["attention", "mlp"]

    def first(self, decoder: Decoder) -> Linear:
        """The linear layer that is computed first behind the cut; its own product is part of the trunk."""
        block = decoder.blocks[self.block]
        if self.before == "attention":
            return block.attention.qkv
        assert isinstance(block.mlp, Mlp) and not block.is_parallel, "no cut between attention and this MLP"
        return block.mlp.up

    def is_at_rows(self, decoder: Decoder) -> bool:
        """Whether nothing behind the cut mixes tokens, so that only places with loss are needed."""
        return self.before == "mlp" and self.block == len(decoder.blocks) - 1


@dataclass(frozen=True, slots=True)
class Trunk:
    """A stream of examples at the cut, on the decoder's device.

    hidden     [T, D]  the stream at the cut; [N, D] where the cut is at rows
    product    [T, O]  what the first linear layer behind the cut makes of it, without adapters; or [N, O]
    positions  [T]     int64, each token's place in its example
    lengths    tokens of each example
    rows       [N]     int64, places whose next token carries loss
    targets    [N]     int64, those next tokens
    """

    hidden: Tensor
    product: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    rows: Tensor
    targets: Tensor


def compute(decoder: Decoder, groups: Sequence[Sequence[Example]], cut: Cut) -> list[Trunk]:
    """The trunk of each group of examples. All are read in one pass: the caller minds its size."""
    packs = [pack(group).to(decoder.device) for group in groups]
    whole = pack([example for group in groups for example in group]).to(decoder.device)
    attend = Packed(whole.lengths)
    with torch.no_grad():
        x = decoder.embed(whole.tokens, whole.positions)  # [T, D]
        turns = decoder.turns(whole.positions, attend)
        for block in decoder.blocks[: cut.block]:
            x = block(x, turns, attend, None)
        block = decoder.blocks[cut.block]
        if cut.before == "mlp":
            x = x + block.mix(x, turns, attend, None)
        if cut.is_at_rows(decoder):
            x = x[whole.rows]  # [N, D]
        product = _product(decoder, x, cut)
    sizes = [len(p.rows) if cut.is_at_rows(decoder) else len(p.tokens) for p in packs]
    return [
        # Cloned, so that a group that is done gives its memory back although another is not.
        Trunk(hidden.clone(), made.clone(), p.positions, p.lengths, p.rows, p.targets)
        for p, hidden, made in zip(packs, x.split(sizes), product.split(sizes), strict=True)
    ]


def disturb(decoder: Decoder, trunk: Trunk, noise: Tensor, cut: Cut) -> Trunk:
    """The same stream with noise added at the cut, in units of each token's own size. noise is as `hidden`."""
    size = trunk.hidden.float().square().mean(-1, keepdim=True).sqrt()
    hidden = trunk.hidden + (size * noise).to(trunk.hidden.dtype)
    return replace(trunk, hidden=hidden, product=_product(decoder, hidden, cut))


def join(trunks: Sequence[Trunk]) -> Trunk:
    """The same examples as one stream."""
    starts = [0, *accumulate(len(t.positions) for t in trunks)]
    return Trunk(
        torch.cat([t.hidden for t in trunks]),
        torch.cat([t.product for t in trunks]),
        torch.cat([t.positions for t in trunks]),
        tuple(length for t in trunks for length in t.lengths),
        torch.cat([t.rows + start for t, start in zip(trunks, starts, strict=False)]),
        torch.cat([t.targets for t in trunks]),
    )


def tail(decoder: Decoder, trunk: Trunk, cut: Cut, adapters: Adapters) -> Tensor:
    """Final hidden states at the places with loss, after the final norm. → [N, D]

    `adapters` is asked for every linear layer behind the cut: with [T, I] as long as tokens are mixed, and with
    [N, I] from the last block's attention on. Without updates the result is `Decoder.forward`'s.
    """
    x = trunk.hidden
    attend = Packed(trunk.lengths)
    turns = decoder.turns(trunk.positions, attend)
    last = len(decoder.blocks) - 1

    def attend_rows(
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
        return attend(layer, q, k, v, rotation, scale=scale, window=window, cap=cap, sinks=sinks)[trunk.rows]

    for i in range(cut.block, last + 1):
        block = decoder.blocks[i]
        before = x
        if i > cut.block or cut.before == "attention":
            added = block.mix(x, turns, attend_rows if i == last else attend, adapters)
            before = x[trunk.rows] if i == last else x
            x = before + added
        x = x + block.feed(before if block.is_parallel else x, adapters)
    return decoder.norm(x)


def _product(decoder: Decoder, x: Tensor, cut: Cut) -> Tensor:
    """What the first linear layer behind the cut makes of the stream there."""
    block = decoder.blocks[cut.block]
    norm = block.attention_norm if cut.before == "attention" else block.mlp_norm
    return cut.first(decoder).product(x if norm is None else norm(x))
