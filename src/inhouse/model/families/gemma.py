"""Gemma 2 and 3: norms before and behind both parts of a block, and windows in most layers."""

from __future__ import annotations

from dataclasses import replace

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig, Names
from inhouse.model.families.llama import NAMES, read_common, with_rope
from inhouse.model.keys import Keys
from inhouse.model.rope import rope_of

_NAMES = replace(
    NAMES,
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
_NAMES3 = replace(_NAMES, q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")


def read_gemma2(keys: Keys) -> ModelConfig:
    """Scores and logits are bent below a cap; every other layer has a window."""
    config = with_rope(keys, _read(keys, _NAMES))
    keys.ignore("sliding_window_size")  # an older copy of sliding_window
    window = keys.get("sliding_window", int, 4096)
    windows = keys.windows(config.layers, window, [i % 2 == 0 for i in range(config.layers)])
    return replace(
        config,
        windows=windows,
        attention_cap=_cap(keys, "attn_logit_softcapping", 50.0),
        logit_cap=_cap(keys, "final_logit_softcapping", 30.0),
    )


def read_gemma3(keys: Keys) -> ModelConfig:
    """Layers with a window turn by a fast rope, the others by a slow one; queries and keys are normed."""
    config = _read(keys, _NAMES3)
    layers = config.layers
    every = keys.size("sliding_window_pattern", keys.size("_sliding_window_pattern", 6))
    window = keys.get("sliding_window", int, 4096)
    windows = keys.windows(layers, window, [(i + 1) % every != 0 for i in range(layers)])
    tables = keys.get("rope_parameters", dict, {})
    if unknown := sorted(set(tables) - {"full_attention", "sliding_attention"}):
        raise BadCheckpoint(f"{keys.file}: rope_parameters does not know {', '.join(unknown)}.")
    wide = {**(tables.get("full_attention") or {}), **keys.get("rope_scaling", dict, {})}
    theta = keys.get("rope_theta", float, 1_000_000.0)
    local_theta = keys.get("rope_local_base_freq", float, 10_000.0)
    near = tables.get("sliding_attention") or {}
    ropes = tuple(
        rope_of(keys, table, head_width=config.head_width, context=config.context, theta=base)
        for table, base in ((wide, theta), (near, local_theta))
    )
    return replace(
        config,
        windows=windows,
        ropes=ropes,
        rope_of=tuple(0 if window is None else 1 for window in windows),
        qk_norm="head",
        attention_cap=_cap(keys, "attn_logit_softcapping", None),
        logit_cap=_cap(keys, "final_logit_softcapping", None),
    )


def _read(keys: Keys, names: Names) -> ModelConfig:
    config = read_common(keys, names, is_tied=True, head_width=256)
    keys.expect("hidden_activation", "gelu_pytorch_tanh")
    keys.ignore("hidden_act")  # an older spelling that says "gelu" and means hidden_activation
    keys.expect("use_bidirectional_attention", None, False)
    has_bias = keys.get("attention_bias", bool, False)
    return replace(
        config,
        activation="gelu_tanh",
        embedding_scale=config.width**0.5,
        norm_offset=1.0,
        norm_is_wide=True,
        attention_scale=keys.get("query_pre_attn_scalar", float, 256.0) ** -0.5,
        qkv_bias=has_bias,
        out_bias=has_bias,
    )


def _cap(keys: Keys, name: str, default: float | None) -> float | None:
    """A cap that the checkpoint may switch off by saying null."""
    cap = keys.get(name, float, None if name in keys.values else default)
    if cap is not None and not cap > 0:
        raise BadCheckpoint(f"{keys.file}: {name} = {cap!r} is no cap; use null for none.")
    return None if cap is None else float(cap)
