"""Steps in which each sequence reads one token, all blocks in one call, where the processor's kernels can.

It knows which models and which steps fit; any other runs operation by operation, and gives the same bits.
"""

from __future__ import annotations

from torch import Tensor

from inhouse import ops
from inhouse.engine.adapters import Grouped, Stacked
from inhouse.engine.arena import Arena
from inhouse.engine.batch import Batch
from inhouse.engine.cache import Cache
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Block, Linear, Mlp, Norm
from inhouse.ops.cpu.linear import PackedCodes, PackedMatrix
from inhouse.ops.cpu.offered import NAME
from inhouse.ops.cpu.step import Blocks, Form, Members, Product, Weight

OPERATIONS = ("norm", "gate", "rotary", "decode_attention", "grouped_lora")
"""What the call is made of: it stands for them where the device takes the kernels for each."""


class Whole:
    """A served decoder's blocks as one call."""

    def __init__(self, decoder: Decoder, cache: Cache, arena: Arena) -> None:
        self._decoder = decoder
        self._parts = [part.name for linear in decoder.linears() for part in linear.parts]
        self._blocks = Blocks([_form(block, cache, arena) for block in decoder.blocks])
        self._adapters: Grouped | None = None
        self._members: Members | None = None

    @classmethod
    def of(cls, decoder: Decoder, cache: Cache, arena: Arena) -> Whole | None:
        """None where an operation is another's matter, or a block holds something that the call does not know."""
        if decoder.device.type != "cpu" or not decoder.blocks:
            return None
        if any(ops.kernels.choose(op, decoder.device).name != NAME for op in OPERATIONS):
            return None
        turns = [2 * len(rope.frequencies) for rope in decoder.config.ropes]
        fits = all(_fits(block, turns) for block in decoder.blocks)
        return cls(decoder, cache, arena) if fits else None

    def run(self, batch: Batch, adapters: Grouped | Stacked | None) -> Tensor | None:
        """The wanted rows' hidden states, [N + M + E, D] after the final norm; None where this batch is to be run
        another way."""
        attend, decoder = batch.attend, self._decoder
        if attend.past is None or attend.chunks or isinstance(adapters, Stacked):
            return None
        x = decoder.embed(batch.tokens, batch.positions)
        turns = decoder.turns(batch.positions, attend)
        x = self._blocks.run(x, turns, attend.write, attend.past, self._users(adapters))
        return decoder.norm(x[batch.rows])

    def _users(self, adapters: Grouped | None) -> Members | None:
        """Step after step has the same, most of the time."""
        if adapters is not self._adapters or adapters is None:
            self._adapters = adapters
            self._members = None
            if adapters is not None:
                self._members = Members([[use.groups(part) for part in self._parts] for use in adapters.uses])
        return self._members


def _fits(block: Block, turns: list[int]) -> bool:
    attention, mlp = block.attention, block.mlp
    if not isinstance(mlp, Mlp) or not mlp.is_adapted or mlp.middle is not ops.silu_mul:
        return False
    norms = (block.attention_norm, block.mlp_norm)
    own = (attention.q_norm, attention.k_norm)
    linears = (attention.qkv, attention.out, mlp.up, mlp.down)
    widths = [attention.head_width, *(linear.weight.shape[1] for linear in linears)]
    return (
        not block.is_parallel
        and block.attention_post_norm is None
        and block.mlp_post_norm is None
        and all(norm is not None and _is_plain(norm) for norm in norms)
        and (own == (None, None) or all(norm is not None and _is_plain(norm) for norm in own))
        and not attention.is_interleaved
        and (attention.rope is None or turns[attention.rope] == attention.head_width)
        and attention.head_width % 32 == 0
        and all(width % 16 == 0 for width in widths)
        and all(isinstance(linear.served, PackedMatrix | PackedCodes) for linear in linears)
    )


def _is_plain(norm: Norm) -> bool:
    return norm.bias is None and not norm.is_wide and not norm.offset and len(norm.weight) % 16 == 0


def _form(block: Block, cache: Cache, arena: Arena) -> Form:
    attention, mlp = block.attention, block.mlp
    assert isinstance(mlp, Mlp) and block.attention_norm is not None and block.mlp_norm is not None

    def product(linear: Linear) -> Product:
        assert isinstance(linear.served, PackedMatrix | PackedCodes)
        parts = tuple((arena.a[part.name], arena.b[part.name], part.start) for part in linear.parts)
        return Product(linear.served, linear.bias, parts)

    def weight(norm: Norm) -> Weight:
        return Weight(norm.weight, norm.eps)

    return Form(
        attention_norm=weight(block.attention_norm),
        qkv=product(attention.qkv),
        q_norm=None if attention.q_norm is None else weight(attention.q_norm),
        k_norm=None if attention.k_norm is None else weight(attention.k_norm),
        keys=cache.keys[attention.layer],
        values=cache.values[attention.layer],
        out=product(attention.out),
        mlp_norm=weight(block.mlp_norm),
        up=product(mlp.up),
        down=product(mlp.down),
        heads=attention.heads,
        rope=attention.rope,
        scale=attention.scale,
        window=attention.window,
        cap=attention.cap,
        sinks=attention.sinks,
    )
