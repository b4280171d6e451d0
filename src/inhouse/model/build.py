"""Builds a decoder from a source of tensors, and names every tensor as its checkpoint does.

The one place that knows each family's tensor names; loading, saving and fresh initialisation all go through it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from inhouse.model.config import ModelConfig, rope_frequencies
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Attention, Block, Linear, Mlp, Norm, Part, Rotation

Take = Callable[[str, tuple[int, ...]], Tensor]
"""Hands out the tensor of a checkpoint name, in the shape asked for ([out, in] for linear weights)."""


def build(config: ModelConfig, take: Take) -> Decoder:
    """A decoder whose tensors all come from `take`, asked for once each and in a fixed order."""
    embedding = take(embedding_name(config), (config.vocab_size, config.width))
    positions = take("transformer.wpe.weight", (config.context, config.width)) if config.is_gpt2 else None
    block = _gpt2_block if config.is_gpt2 else _llama_block
    blocks = [block(config, i, take) for i in range(config.layers)]
    final = "transformer.ln_f" if config.is_gpt2 else "model.norm"
    norm = _norm(config, final, config.width, take)
    head = embedding if config.tie_embeddings else take("lm_head.weight", (config.vocab_size, config.width))
    rotation = None if config.is_gpt2 else Rotation(rope_frequencies(config), embedding.device)
    return Decoder(config, embedding, positions, blocks, norm, head, rotation)


def fresh(config: ModelConfig, seed: int, *, dtype: torch.dtype = torch.float32) -> Decoder:
    """A randomly initialised decoder, a pure function of (config, seed): normal with deviation 0.02, and
    residual outputs smaller by the square root of twice the depth (Radford et al., GPT-2, 2019)."""

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith(".bias"):
            return torch.zeros(shape, dtype=dtype)
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype)
        generator = torch.Generator().manual_seed((seed << 32) ^ zlib.crc32(name.encode()))
        is_residual = name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight"))
        deviation = 0.02 / (2 * config.layers) ** 0.5 if is_residual else 0.02
        return (torch.randn(shape, generator=generator) * deviation).to(dtype)

    return build(config, take)


def checkpoint_tensors(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its checkpoint name, fused layers taken apart, in the checkpoint's own layout."""
    config = decoder.config
    yield embedding_name(config), decoder.embedding
    if decoder.positions is not None:
        yield "transformer.wpe.weight", decoder.positions
    for i, block in enumerate(decoder.blocks):
        for linear in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down):
            for part in linear.parts:
                weight = linear.weight[part.start : part.stop]
                yield f"{part.name}.weight", weight.T if config.is_gpt2 else weight
                if linear.bias is not None:
                    yield f"{part.name}.bias", linear.bias[part.start : part.stop]
        prefix = f"transformer.h.{i}" if config.is_gpt2 else f"model.layers.{i}"
        names = ("ln_1", "ln_2") if config.is_gpt2 else ("input_layernorm", "post_attention_layernorm")
        yield from _norm_out(f"{prefix}.{names[0]}", block.attention_norm)
        yield from _norm_out(f"{prefix}.{names[1]}", block.mlp_norm)
        yield from _norm_out(f"{prefix}.self_attn.q_norm", block.attention.q_norm)
        yield from _norm_out(f"{prefix}.self_attn.k_norm", block.attention.k_norm)
    yield from _norm_out("transformer.ln_f" if config.is_gpt2 else "model.norm", decoder.norm)
    if decoder.head is not decoder.embedding:
        yield "lm_head.weight", decoder.head


def embedding_name(config: ModelConfig) -> str:
    return "transformer.wte.weight" if config.is_gpt2 else "model.embed_tokens.weight"


def _llama_block(config: ModelConfig, layer: int, take: Take) -> Block:
    prefix = f"model.layers.{layer}"
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    q_out, kv_out = config.heads * config.head_width, config.kv_heads * config.head_width
    projections = {f"{attention}.q_proj": q_out, f"{attention}.k_proj": kv_out, f"{attention}.v_proj": kv_out}
    gates = {f"{mlp}.gate_proj": config.mlp_width, f"{mlp}.up_proj": config.mlp_width}
    return Block(
        attention_norm=_norm(config, f"{prefix}.input_layernorm", config.width, take),
        attention=Attention(
            layer=layer,
            qkv=_fused(projections, config.width, config.qkv_bias, take),
            out=_fused({f"{attention}.o_proj": config.width}, q_out, config.out_bias, take),
            q_norm=_norm(config, f"{attention}.q_norm", config.head_width, take) if config.qk_norm else None,
            k_norm=_norm(config, f"{attention}.k_norm", config.head_width, take) if config.qk_norm else None,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_width=config.head_width,
            window=config.window_of(layer),
        ),
        mlp_norm=_norm(config, f"{prefix}.post_attention_layernorm", config.width, take),
        mlp=Mlp(
            up=_fused(gates, config.width, config.mlp_bias, take),
            down=_fused({f"{mlp}.down_proj": config.width}, config.mlp_width, config.mlp_bias, take),
            gated=True,
        ),
    )


def _gpt2_block(config: ModelConfig, layer: int, take: Take) -> Block:
    prefix, width = f"transformer.h.{layer}", config.width
    return Block(
        attention_norm=_norm(config, f"{prefix}.ln_1", width, take),
        attention=Attention(
            layer=layer,
            qkv=_fused({f"{prefix}.attn.c_attn": 3 * width}, width, True, take),
            out=_fused({f"{prefix}.attn.c_proj": width}, width, True, take),
            q_norm=None,
            k_norm=None,
            heads=config.heads,
            kv_heads=config.heads,
            head_width=config.head_width,
            window=None,
        ),
        mlp_norm=_norm(config, f"{prefix}.ln_2", width, take),
        mlp=Mlp(
            up=_fused({f"{prefix}.mlp.c_fc": config.mlp_width}, width, True, take),
            down=_fused({f"{prefix}.mlp.c_proj": width}, config.mlp_width, True, take),
            gated=False,
        ),
    )


def _fused(outputs: dict[str, int], inputs: int, has_bias: bool, take: Take) -> Linear:
    """One linear layer from the projections named, each with its count of output rows."""
    weights = [take(f"{name}.weight", (rows, inputs)) for name, rows in outputs.items()]
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
    bias = take(f"{name}.bias", (width,)) if config.is_gpt2 else None
    return Norm(weight, bias, config.norm_eps)


def _norm_out(name: str, norm: Norm | None) -> Iterator[tuple[str, Tensor]]:
    if norm is not None:
        yield f"{name}.weight", norm.weight
        if norm.bias is not None:
            yield f"{name}.bias", norm.bias
