"""Llama, and the families that speak its config's language with few differences: Mistral, OLMo 2, SmolLM3."""

from __future__ import annotations

from dataclasses import replace

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig, Names
from inhouse.model.keys import Keys
from inhouse.model.rope import read_rope

NAMES = Names(
    embedding="model.embed_tokens",
    block="model.layers.{}",
    norm="model.norm",
    head="lm_head",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
    attention_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
)


def read_common(
    keys: Keys,
    names: Names = NAMES,
    *,
    eps: float = 1e-6,
    is_tied: bool = False,
    head_width: int | None = None,
) -> ModelConfig:
    """What every family with Llama's key names says the same way; no ropes, no windows, no biases yet.

    `eps`, `is_tied` and `head_width` are the family's defaults; without the last, heads share the width.
    """
    width, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    return ModelConfig(
        family=keys.get("model_type", str),
        names=names,
        vocab_size=keys.size("vocab_size"),
        width=width,
        layers=keys.size("num_hidden_layers"),
        heads=heads,
        kv_heads=keys.size("num_key_value_heads", heads),
        head_width=keys.size("head_dim", head_width or width // heads),
        mlp_width=keys.size("intermediate_size"),
        context=keys.size("max_position_embeddings"),
        norm_eps=keys.get("rms_norm_eps", float, eps),
        tie_embeddings=keys.get("tie_word_embeddings", bool, is_tied),
        activation="silu",
        eos_ids=keys.eos(),
    )


def with_rope(keys: Keys, config: ModelConfig, *, theta: float = 10_000.0) -> ModelConfig:
    """The same, all its layers turning by one rope over the whole head."""
    rope = read_rope(keys, head_width=config.head_width, context=config.context, theta=theta)
    return replace(config, ropes=(rope,))


def read_llama(keys: Keys) -> ModelConfig:
    config = with_rope(keys, read_common(keys))
    keys.expect("hidden_act", "silu")
    keys.expect("layer_types", None, ["full_attention"] * config.layers)
    keys.ignore("sliding_window")
    has_bias = keys.get("attention_bias", bool, False)
    return replace(config, qkv_bias=has_bias, out_bias=has_bias, mlp_bias=keys.get("mlp_bias", bool, False))


def read_mistral(keys: Keys) -> ModelConfig:
    config = with_rope(keys, read_common(keys))
    keys.expect("hidden_act", "silu")
    keys.expect("attention_bias", False)
    window = keys.get("sliding_window", int, None)
    is_windowed = [window is not None] * config.layers
    return replace(config, windows=keys.windows(config.layers, window, is_windowed))


def read_olmo2(keys: Keys) -> ModelConfig:
    """Norms stand behind attention and MLP instead of before them, and queries and keys are normed as a whole."""
    names = replace(
        NAMES,
        attention_norm=None,
        attention_post_norm="post_attention_layernorm",
        mlp_norm=None,
        mlp_post_norm="post_feedforward_layernorm",
        q_norm="self_attn.q_norm",
        k_norm="self_attn.k_norm",
    )
    config = with_rope(keys, read_common(keys, names, eps=1e-5))
    keys.expect("hidden_act", "silu")
    has_bias = keys.get("attention_bias", bool, False)
    return replace(config, norm_is_wide=True, qk_norm="width", qkv_bias=has_bias, out_bias=has_bias)


def read_smollm3(keys: Keys) -> ModelConfig:
    """Some layers do not turn: they see what stands before them, and not how far away."""
    config = with_rope(keys, read_common(keys, is_tied=True), theta=2_000_000.0)
    keys.expect("hidden_act", "silu")
    keys.ignore("pretraining_tp")  # how it was trained; nothing here is split by it
    layers = config.layers
    every = keys.size("no_rope_layer_interval", 4)
    turns = keys.get("no_rope_layers", list, [int((i + 1) % every != 0) for i in range(layers)])
    if len(turns) < layers or not all(t in (0, 1) for t in turns):
        raise BadCheckpoint(f"{keys.file}: no_rope_layers does not say 0 or 1 for each of {layers} layers.")
    window = keys.get("sliding_window", int, None)
    if not keys.get("use_sliding_window", bool, False):
        window = None
    windows = keys.windows(layers, window, [window is not None and not t for t in turns[:layers]])
    has_bias = keys.get("attention_bias", bool, False)
    return replace(
        config,
        rope_of=tuple(0 if t else None for t in turns[:layers]),
        windows=windows,
        qkv_bias=has_bias,
        out_bias=has_bias,
        mlp_bias=keys.get("mlp_bias", bool, False),
    )
