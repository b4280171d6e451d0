"""Builds a decoder from a source of tensors, and gives every tensor back under its checkpoint's name.

The one place where the names and shapes that a config describes become layers; loading, saving and fresh
initialisation all go through it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse import ops
from inhouse.model.config import ExpertNames, Experts, ModelConfig
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Attention, Block, Linear, Middle, Mixture, Mlp, Norm, Part, Rotation
from inhouse.ops.cpu.memory import give_back

Take = Callable[[str, tuple[int, ...]], Tensor]
"""Hands out the tensor of a checkpoint name, in the shape asked for, which is the checkpoint's own."""
TakeEach = Callable[[str, tuple[int, ...]], Iterable[Tensor]]
"""The same for a stack of matrices, one after another, so that the stack need never be there as a whole."""


def build(
    config: ModelConfig, take: Take, *, take_each: TakeEach | None = None, quantization: str | None = None
) -> Decoder:
    """A decoder whose tensors all come from `take` and `take_each`, asked for once each and in a fixed order.

    take_each     by default takes the stack whole
    quantization  lays everything out for serving (see `Decoder.serve`), each expert and each block before the next is
                  asked for, so that one at a time is there in its plain form; None leaves all plain
    """
    mixture = partial(_mixture, config, take=take, take_each=take_each or take, quantization=quantization)
    names, vocabulary = config.names, (config.vocab_size, config.width)
    embedding = take(f"{names.embedding}.weight", vocabulary)
    positions = None
    if names.positions is not None:
        positions = take(f"{names.positions}.weight", (config.context, config.width))
    blocks = []
    for i in range(config.layers):
        blocks.append(_block(config, i, take, mixture))
        if quantization is not None:
            blocks[-1].serve(quantization)
            give_back()
    norm = _norm(config, names.norm, config.width, take)
    head = embedding if config.tie_embeddings else take(f"{names.head}.weight", vocabulary)
    rotation = Rotation(config.ropes, embedding.device) if config.ropes else None
    decoder = Decoder(config, embedding, positions, blocks, norm, head, rotation)
    if quantization is not None:
        decoder.serve(quantization)
    return decoder


def fresh(config: ModelConfig, seed: int, *, dtype: torch.dtype = torch.float32) -> Decoder:
    """A randomly initialised decoder, a pure function of (config, seed): normal with deviation 0.02, and
    residual outputs smaller by the square root of twice the depth (Radford et al., GPT-2, 2019)."""
    residual = tuple(f".{name.rsplit('.', 1)[-1]}" for name in (config.names.out, config.names.down))

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith(("bias", ".sinks")):
            return torch.zeros(shape, dtype=dtype)
        if len(shape) == 1:
            return torch.full(shape, 1.0 - config.norm_offset, dtype=dtype)
        generator = torch.Generator().manual_seed((seed << 32) ^ zlib.crc32(name.encode()))
        is_residual = name.removesuffix(".weight").endswith(residual)
        deviation = 0.02 / (2 * config.layers) ** 0.5 if is_residual else 0.02
        return (torch.randn(shape, generator=generator) * deviation).to(dtype)

    return build(config, take)


def checkpoint_tensors(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its checkpoint name, fused layers taken apart, in the checkpoint's own layout."""
    names = decoder.config.names
    yield f"{names.embedding}.weight", decoder.embedding
    if decoder.positions is not None:
        yield f"{names.positions}.weight", decoder.positions
    for i, block in enumerate(decoder.blocks):
        prefix = names.block.format(i)
        linears = [block.attention.qkv, block.attention.out]
        if isinstance(block.mlp, Mixture):
            assert names.experts is not None
            yield from _mixture_out(block.mlp, prefix, names.experts)
        else:
            linears += [block.mlp.up, block.mlp.down]
        for linear in linears:
            for part in linear.parts:
                weight = linear.weight[part.start : part.stop]
                yield f"{part.name}.weight", weight.T if names.is_transposed else weight
                if linear.bias is not None:
                    yield f"{part.name}.bias", linear.bias[part.start : part.stop]
        for name, norm in (
            (names.attention_norm, block.attention_norm),
            (names.attention_post_norm, block.attention_post_norm),
            (names.mlp_norm, block.mlp_norm),
            (names.mlp_post_norm, block.mlp_post_norm),
            (names.q_norm, block.attention.q_norm),
            (names.k_norm, block.attention.k_norm),
        ):
            if norm is not None:
                yield from norm.named_tensors(f"{prefix}.{name}")
        if block.attention.sinks is not None:
            yield f"{prefix}.{names.sinks}", block.attention.sinks
    yield from decoder.norm.named_tensors(names.norm)
    if decoder.head is not decoder.embedding:
        yield f"{names.head}.weight", decoder.head


def _block(config: ModelConfig, layer: int, take: Take, mixture: Callable[[Experts, str], Mixture]) -> Block:
    names, experts = config.names, config.experts_of(layer)
    prefix = names.block.format(layer)

    def norm(name: str | None) -> Norm | None:
        return None if name is None else _norm(config, f"{prefix}.{name}", config.width, take)

    return Block(
        attention_norm=norm(names.attention_norm),
        attention=_attention(config, layer, prefix, take),
        attention_post_norm=norm(names.attention_post_norm),
        mlp_norm=norm(names.mlp_norm),
        mlp=_mlp(config, prefix, take) if experts is None else mixture(experts, prefix),
        mlp_post_norm=norm(names.mlp_post_norm),
        is_parallel=config.is_parallel,
    )


def _attention(config: ModelConfig, layer: int, prefix: str, take: Take) -> Attention:
    names, head = config.names, config.head_width
    q_out, kv_out = config.heads * head, config.kv_heads * head
    sizes = [q_out, kv_out, kv_out] if len(names.qkv) == 3 else [q_out + 2 * kv_out]
    projections = {f"{prefix}.{name}": rows for name, rows in zip(names.qkv, sizes, strict=True)}

    def norm(name: str | None, heads: int) -> Norm | None:
        if config.qk_norm is None or name is None:
            return None
        width = head if config.qk_norm == "head" else heads * head
        return _norm(config, f"{prefix}.{name}", width, take)

    return Attention(
        layer=layer,
        qkv=_fused(config, projections, config.width, config.qkv_bias, take),
        out=_fused(config, {f"{prefix}.{names.out}": config.width}, q_out, config.out_bias, take),
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_width=head,
        scale=head**-0.5 if config.attention_scale is None else config.attention_scale,
        q_norm=norm(names.q_norm, config.heads),
        k_norm=norm(names.k_norm, config.kv_heads),
        rope=config.rope_index(layer),
        window=config.window_of(layer),
        cap=config.attention_cap,
        sinks=None if names.sinks is None else take(f"{prefix}.{names.sinks}", (config.heads,)),
        is_interleaved=config.has_interleaved_qkv,
    )


def _mlp(config: ModelConfig, prefix: str, take: Take) -> Mlp:
    names, middle = config.names, config.mlp_width
    rows = middle * (2 if config.is_gated else 1) // len(names.up)
    up = {f"{prefix}.{name}": rows for name in names.up}
    return Mlp(
        up=_fused(config, up, config.width, config.mlp_bias, take),
        down=_fused(config, {f"{prefix}.{names.down}": config.width}, middle, config.mlp_bias, take),
        middle=_middle(config),
        is_adapted=config.experts is None,
    )


def _mixture(
    config: ModelConfig,
    experts: Experts,
    prefix: str,
    *,
    take: Take,
    take_each: TakeEach,
    quantization: str | None,
) -> Mixture:
    names, count, middle, width = config.names.experts, experts.count, experts.width, config.width
    assert names is not None, "a mixture without names"
    router = _fused(config, {f"{prefix}.{names.router}": count}, width, config.mlp_bias, take)
    up_bias = down_bias = None
    ups: Iterable[Tensor]
    downs: Iterable[Tensor]
    if names.is_stacked:
        up_name, down_name = f"{prefix}.{names.up[0]}", f"{prefix}.{names.down}"
        ups = (matrix.mT for matrix in take_each(up_name, (count, width, 2 * middle)))
        downs = (matrix.mT for matrix in take_each(down_name, (count, middle, width)))
        if config.mlp_bias:
            up_bias = take(f"{up_name}_bias", (count, 2 * middle))
            down_bias = take(f"{down_name}_bias", (count, width))
    else:
        ups = (
            torch.cat([take(f"{prefix}.{name.format(e)}.weight", (middle, width)) for name in names.up])
            for e in range(count)
        )
        downs = (take(f"{prefix}.{names.down.format(e)}.weight", (width, middle)) for e in range(count))

    def stack(matrices: Iterable[Tensor], *shape: int) -> Tensor:
        """[E, O, I] of them, or an empty one of that shape where they are to be laid out otherwise."""
        if quantization is not None:
            return router.weight.new_empty(count, *shape, device="meta")
        whole = router.weight.new_empty(count, *shape)
        for e, matrix in enumerate(matrices):
            whole[e] = matrix
        return whole

    mixture = Mixture(
        router=router,
        up=stack(ups, 2 * middle, width),
        up_bias=up_bias,
        down=stack(downs, width, middle),
        down_bias=down_bias,
        active=experts.active,
        is_normalised=experts.is_normalised,
        middle=_middle(config),
    )
    if quantization is not None:
        mixture.lay_out(ups, downs, quantization)
    return mixture


def _mixture_out(mixture: Mixture, prefix: str, names: ExpertNames) -> Iterator[tuple[str, Tensor]]:
    yield from mixture.router.named_tensors(f"{prefix}.{names.router}")
    if names.is_stacked:
        up, down = f"{prefix}.{names.up[0]}", f"{prefix}.{names.down}"
        yield up, mixture.up.mT
        yield down, mixture.down.mT
        if mixture.up_bias is not None and mixture.down_bias is not None:
            yield f"{up}_bias", mixture.up_bias
            yield f"{down}_bias", mixture.down_bias
        return
    for e in range(len(mixture.up)):
        for name, weight in zip(names.up, mixture.up[e].chunk(len(names.up)), strict=True):
            yield f"{prefix}.{name.format(e)}.weight", weight
        yield f"{prefix}.{names.down.format(e)}.weight", mixture.down[e]


def _middle(config: ModelConfig) -> Middle:
    if config.activation == "clamped_swiglu":
        return partial(ops.clamped_swiglu, alpha=config.swiglu_alpha, limit=config.swiglu_limit)
    known: dict[tuple[str, bool], Middle] = {
        ("silu", True): ops.silu_mul,
        ("gelu_tanh", True): ops.gelu_tanh_mul,
        ("gelu_tanh", False): partial(F.gelu, approximate="tanh"),
        ("gelu", False): F.gelu,
    }
    return known[config.activation, config.is_gated]


def _fused(config: ModelConfig, outputs: dict[str, int], inputs: int, has_bias: bool, take: Take) -> Linear:
    """One linear layer from the projections named, each with its count of output rows."""

    def weight_of(name: str, rows: int) -> Tensor:
        if config.names.is_transposed:
            return take(f"{name}.weight", (inputs, rows)).T.contiguous()
        return take(f"{name}.weight", (rows, inputs))

    weights = [weight_of(name, rows) for name, rows in outputs.items()]
    biases = [take(f"{name}.bias", (rows,)) for name, rows in outputs.items()] if has_bias else []
    parts, start = [], 0
    for name, rows in outputs.items():
        parts.append(Part(name, start, start + rows))
        start += rows
    weight = torch.cat(weights) if len(weights) > 1 else weights[0].contiguous()
    bias = None if not biases else torch.cat(biases) if len(biases) > 1 else biases[0]
    return Linear(weight, bias, tuple(parts))


def _norm(config: ModelConfig, name: str, width: int, take: Take) -> Norm:
    weight = take(f"{name}.weight", (width,))
    bias = take(f"{name}.bias", (width,)) if config.norm_kind == "layer" else None
    return Norm(weight, bias, config.norm_eps, config.norm_offset, config.norm_is_wide)
