"""Qwen2, Qwen3, and Qwen3 as a mixture of experts."""

from __future__ import annotations

from dataclasses import replace

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ExpertNames, Experts, ModelConfig, Names
from inhouse.model.families.llama import NAMES, read_common, with_rope
from inhouse.model.keys import Keys

_NORMED = replace(NAMES, q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")
_MIXED = replace(
    _NORMED,
    experts=ExpertNames(
        router="mlp.gate",
        up=("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj"),
        down="mlp.experts.{}.down_proj",
    ),
)


def read_qwen2(keys: Keys) -> ModelConfig:
    keys.ignore("attention_bias")
    return replace(_read(keys, NAMES), qkv_bias=True, out_bias=False, qk_norm=None)


def read_qwen3(keys: Keys) -> ModelConfig:
    return _read(keys, _NORMED, head_width=128)


def read_qwen3_moe(keys: Keys) -> ModelConfig:
    config = _read(keys, _MIXED)
    # They say how experts are balanced when a model is trained from scratch, which no tune does.
    keys.ignore("router_aux_loss_coef", "output_router_logits")
    step = keys.size("decoder_sparse_step", 1)
    dense = keys.get("mlp_only_layers", list, [])
    if not all(isinstance(i, int) for i in dense):
        raise BadCheckpoint(f"{keys.file}: mlp_only_layers = {dense!r} is no list of layers.")
    experts = Experts(
        count=keys.size("num_experts", keys.get("num_local_experts", int, 128)),
        active=keys.size("num_experts_per_tok", 8),
        width=keys.size("moe_intermediate_size", 768),
        is_normalised=keys.get("norm_topk_prob", bool, False),
    )
    has_experts = tuple(i not in dense and (i + 1) % step == 0 for i in range(config.layers))
    return replace(config, experts=experts, has_experts=has_experts)


def _read(keys: Keys, names: Names, *, head_width: int | None = None) -> ModelConfig:
    config = with_rope(keys, read_common(keys, names, head_width=head_width))
    keys.expect("hidden_act", "silu")
    keys.expect("use_mrope", False)
    has_bias = keys.get("attention_bias", bool, False)
    window = keys.get("sliding_window", int, None)
    if not keys.get("use_sliding_window", bool, False):
        window = None
    first = keys.get("max_window_layers", int, 0)
    is_windowed = [window is not None and i >= first for i in range(config.layers)]
    if config.names.experts:  # here all layers have the window, or none
        is_windowed = [window is not None] * config.layers
    windows = keys.windows(config.layers, window, is_windowed)
    return replace(config, windows=windows, qkv_bias=has_bias, out_bias=has_bias, qk_norm="head")
