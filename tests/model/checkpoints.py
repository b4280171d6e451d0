"""Tiny checkpoints of every family as transformers itself saves them, with the options that published ones use.

The configs are in the spelling of published checkpoints. Windows, caps and limits are small enough to matter here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.tiny import write_tokenizer

_SMALL: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "attention_dropout": 0.0,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.02,
    "use_cache": True,
    "torch_dtype": "float32",
}
_SILU = {**_SMALL, "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
_LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [1.5, 2.0, 4.0, 8.0],
}
_LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 32, "type": "yarn"}
_GEMMA = {
    **_SMALL,
    "attention_bias": False,
    "cache_implementation": "hybrid",
    "head_dim": 16,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24,
    "rms_norm_eps": 1e-6,
    "sliding_window": 8,
}
_GEMMA2 = {
    **_GEMMA,
    "model_type": "gemma2",
    "attn_logit_softcapping": 1.5,
    "final_logit_softcapping": 4.0,
    "hidden_act": "gelu_pytorch_tanh",
    "rope_theta": 10000.0,
}
_GEMMA3 = {
    **_GEMMA,
    "model_type": "gemma3_text",
    "num_hidden_layers": 3,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "rope_local_base_freq": 100.0,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window_pattern": 3,
}
_PHI3 = {
    **_SILU,
    "model_type": "phi3",
    "attention_bias": False,
    "embd_pdrop": 0.0,
    "original_max_position_embeddings": 256,
    "resid_pdrop": 0.0,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 24,
}
_NEOX = {
    "model_type": "gpt_neox",
    "vocab_size": 264,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "use_parallel_residual": True,
}
_GPT_OSS = {
    **_SILU,
    "model_type": "gpt_oss",
    "attention_bias": True,
    "experts_per_token": 2,
    "head_dim": 16,
    "initial_context_length": 32,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_experts_per_tok": 2,
    "num_local_experts": 5,
    "output_router_logits": False,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "router_aux_loss_coef": 0.9,
    "sliding_window": 8,
    "swiglu_limit": 0.4,
}
_OLMO2 = {
    **_SILU,
    "model_type": "olmo2",
    "attention_bias": False,
    "rope_scaling": None,
    "rope_theta": 500000,
}
_SMOLLM3 = {
    **_SILU,
    "model_type": "smollm3",
    "num_hidden_layers": 4,
    "attention_bias": False,
    "layer_types": ["full_attention"] * 4,
    "max_window_layers": 28,
    "mlp_bias": False,
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0],
    "pretraining_tp": 2,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
_LLAMA = {**_SILU, "model_type": "llama", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
_QWEN3 = {
    **_SILU,
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 16,
    "max_window_layers": 2,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
}
_QWEN3_MOE = {
    **_QWEN3,
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "rope_theta": 500000.0, "rope_scaling": None},
    "llama tied, llama3 rope": {
        **_LLAMA,
        "tie_word_embeddings": True,
        "rope_theta": 500000.0,
        "rope_scaling": _LLAMA3,
    },
    "llama linear rope, biases": {
        **_LLAMA,
        "attention_bias": True,
        "mlp_bias": True,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    "mistral": {**_SILU, "model_type": "mistral", "rope_theta": 10000.0, "sliding_window": 8},
    "mistral without a window": {**_SILU, "model_type": "mistral", "head_dim": 16, "sliding_window": None},
    "qwen2": {
        **_SILU,
        "model_type": "qwen2",
        "max_window_layers": 2,
        "sliding_window": 8,
        "use_mrope": False,
        "use_sliding_window": False,
    },
    "qwen2 tied, yarn": {
        **_SILU,
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "rope_scaling": _YARN,
        "rope_theta": 1000000.0,
    },
    "qwen2 with windows": {
        **_SILU,
        "model_type": "qwen2",
        "max_window_layers": 1,
        "sliding_window": 8,
        "use_sliding_window": True,
    },
    "qwen3": _QWEN3,
    "qwen3 tied, yarn": {
        **_QWEN3,
        "tie_word_embeddings": True,
        "rope_scaling": {**_YARN, "attention_factor": 1.3, "beta_fast": 16.0},
    },
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_moe, shares not normalised, a dense layer": {
        **_QWEN3_MOE,
        "norm_topk_prob": False,
        "mlp_only_layers": [0],
        "rope_scaling": _YARN,
    },
    "qwen3_moe, every other layer, tied, a window": {
        **_QWEN3_MOE,
        "decoder_sparse_step": 2,
        "tie_word_embeddings": True,
        "sliding_window": 8,
        "use_sliding_window": True,
    },
    "gemma2": _GEMMA2,
    "gemma2 without caps, with biases": {
        **_GEMMA2,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "attention_bias": True,
    },
    "gemma3": _GEMMA3,
    "gemma3 of a longer context": {
        **_GEMMA3,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "_sliding_window_pattern": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "use_bidirectional_attention": False,
    },
    "phi3": _PHI3,
    "phi3 longrope": {**_PHI3, "original_max_position_embeddings": 32, "rope_scaling": _LONG},
    "phi4-mini": {
        **_PHI3,
        "hidden_size": 64,
        "full_attn_mod": 1,
        "interpolate_factor": 1,
        "lm_head_bias": False,
        "mlp_bias": False,
        "original_max_position_embeddings": 32,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {**{k: v for k, v in _LONG.items() if k != "rope_type"}, "type": "longrope"},
        "sliding_window": 512,
        "tie_word_embeddings": True,
    },
    "pythia": _NEOX,
    "gpt_neox one after the other": {
        **_NEOX,
        "use_parallel_residual": False,
        "rotary_pct": 1.0,
        "hidden_act": "gelu_new",
        "attention_probs_dropout_prob": 0,
        "hidden_dropout_prob": 0,
        "tie_word_embeddings": True,
    },
    "gpt_neox without attention's biases": {**_NEOX, "attention_bias": False, "hidden_act": "gelu_fast"},
    "gpt_oss": _GPT_OSS,
    "olmo2": _OLMO2,
    "olmo2 of several heads a key, with biases": {
        **_OLMO2,
        "attention_bias": True,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
    },
    "smollm3": _SMOLLM3,
    "smollm3 with windows and biases": {
        **_SMOLLM3,
        "attention_bias": True,
        "mlp_bias": True,
        "no_rope_layers": None,
        "no_rope_layer_interval": 2,
        "layer_types": None,
        "rope_scaling": _YARN,
        "sliding_window": 8,
        "use_sliding_window": True,
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 264,
        "n_ctx": 256,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "n_special": 0,
        "predict_special_tokens": True,
        "activation_function": "gelu_new",
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_type": "cls_index",
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
}


def saved_by_transformers(folder: Path, name: str, *, as_published: bool = True, **changes: Any) -> Path:
    """A checkpoint with lively weights; its config in the published spelling, or in that of transformers today."""
    published = {
        k: v for k, v in {**CHECKPOINTS[name], **changes}.items() if v is not None or k not in _UNSAID
    }
    config = transformers.AutoConfig.for_model(**json.loads(json.dumps(published)))
    model = transformers.AutoModelForCausalLM.from_config(config)
    enliven(model)
    model.save_pretrained(folder)
    if as_published:
        (folder / "config.json").write_text(json.dumps(published))
    write_tokenizer(folder)
    return folder


_UNSAID = ("no_rope_layers", "layer_types")
"""Keys that older checkpoints leave out rather than set to null."""


def enliven(model: transformers.PreTrainedModel) -> None:
    """Random weights so large that no two tokens tie and no option is lost in rounding."""
    generator = torch.Generator().manual_seed(0)
    offset = 0.0 if model.config.model_type.startswith("gemma") else 1.0
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator) * 0.2
        if "norm" in name or ".ln_" in name:
            noise += offset if name.endswith("weight") else 0.0
        tensor.data.copy_(noise)


def reference(folder: Path) -> transformers.PreTrainedModel:
    """The same checkpoint in transformers."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
