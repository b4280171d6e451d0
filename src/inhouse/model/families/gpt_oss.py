"""GPT-OSS: a mixture of experts in every layer, and a learned sink beside each head's scores."""

from __future__ import annotations

from dataclasses import replace

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ExpertNames, Experts, ModelConfig
from inhouse.model.families.llama import NAMES, read_common
from inhouse.model.keys import Keys
from inhouse.model.rope import read_rope, rope_of

_NAMES = replace(
    NAMES,
    sinks="self_attn.sinks",
    experts=ExpertNames(
        router="mlp.router",
        up=("mlp.experts.gate_up_proj",),
        down="mlp.experts.down_proj",
        is_stacked=True,
    ),
)
_YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
"""The rope of a config that does not name one."""
_THETA = 150_000.0


def read_gpt_oss(keys: Keys) -> ModelConfig:
    config = read_common(keys, _NAMES, eps=1e-5, head_width=64)
    keys.expect("hidden_act", "silu")  # its gate is a clamped kin of SiLU, whatever this key calls it
    keys.ignore("router_aux_loss_coef", "output_router_logits")
    keys.ignore("initial_context_length")  # the rope says the same
    head, context = config.head_width, config.context
    if "rope_parameters" in keys.values or "rope_scaling" in keys.values:
        rope = read_rope(keys, head_width=head, context=context, theta=_THETA)
    else:
        theta = keys.get("rope_theta", float, _THETA)
        rope = rope_of(keys, _YARN, head_width=head, context=context, theta=theta)
    layers = config.layers
    windows = keys.windows(layers, keys.get("sliding_window", int, 128), [i % 2 == 0 for i in range(layers)])
    active = keys.size("num_experts_per_tok", keys.size("experts_per_token", 4))
    count = keys.size("num_local_experts", keys.size("num_experts", 128))
    has_bias = keys.get("attention_bias", bool, True)
    return replace(
        config,
        activation="clamped_swiglu",
        norm_is_wide=True,
        ropes=(rope,),
        windows=windows,
        qkv_bias=has_bias,
        out_bias=has_bias,
        mlp_bias=True,
        experts=Experts(count, active, config.mlp_width, is_normalised=True),
        has_experts=(True,) * layers,
        swiglu_alpha=keys.get("swiglu_alpha", float, 1.702),
        swiglu_limit=keys.get("swiglu_limit", float, 7.0),
        is_mxfp4=_is_mxfp4(keys),
    )


def _is_mxfp4(keys: Keys) -> bool:
    """Whether the experts lie in the 4 bits that the published checkpoints use. No other quantisation is read."""
    quantised = keys.get("quantization_config", dict, None)
    if quantised is None:
        return False
    method = quantised.get("quant_method")
    if method != "mxfp4":
        raise BadCheckpoint(
            f"{keys.file}: quantization_config of method {method!r} is not read; only 'mxfp4'. Take the checkpoint "
            "as it was published, or in bfloat16."
        )
    return True
