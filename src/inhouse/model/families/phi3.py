"""Phi-3 and Phi-4-mini: one projection makes queries, keys and values, and one makes gate and up."""

from __future__ import annotations

from dataclasses import replace

from inhouse.model.config import ModelConfig
from inhouse.model.families.llama import NAMES, read_common
from inhouse.model.keys import Keys
from inhouse.model.rope import read_rope

_NAMES = replace(NAMES, qkv=("self_attn.qkv_proj",), up=("mlp.gate_up_proj",))
_OLD_NAMES = {"su": "longrope", "yarn": "longrope"}
"""What early Phi-3 checkpoints call their rope."""


def read_phi3(keys: Keys) -> ModelConfig:
    config = read_common(keys, _NAMES, eps=1e-5)
    keys.expect("hidden_act", "silu")
    for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
        keys.expect(name, False)
    keys.expect("full_attn_mod", 1)
    keys.expect("interpolate_factor", 1)
    keys.ignore("embd_pdrop", "resid_pdrop")
    rope = read_rope(
        keys, head_width=config.head_width, context=config.context, share=1.0, old_names=_OLD_NAMES
    )
    window = keys.get("sliding_window", int, None)
    return replace(config, ropes=(rope,), windows=(window,) * config.layers)
