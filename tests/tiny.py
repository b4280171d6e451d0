"""Tiny real checkpoints: a Hugging Face folder with random weights and a byte-level tokenizer, made in a blink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from inhouse.model.build import checkpoint_tensors, fresh
from inhouse.model.config import ModelConfig

SPECIAL = ("<|pad|>", "<|start|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA_LIKE, "model_type": "llama"},
    "llama3-rope": {
        **_LLAMA_LIKE,
        "model_type": "llama",
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "mistral": {**_LLAMA_LIKE, "model_type": "mistral", "sliding_window": 8},
    "qwen2": {
        **_LLAMA_LIKE,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 1,
    },
    "qwen3": {**_LLAMA_LIKE, "model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True},
    "qwen3_moe": {
        **_LLAMA_LIKE,
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "mlp_only_layers": [0],
        "moe_intermediate_size": 24,
        "norm_topk_prob": True,
        "num_experts": 6,
        "num_experts_per_tok": 2,
    },
    "gemma2": {
        **_LLAMA_LIKE,
        "model_type": "gemma2",
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 20.0,
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": 8,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        **_LLAMA_LIKE,
        "model_type": "gemma3_text",
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "rope_local_base_freq": 100.0,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "tie_word_embeddings": True,
    },
    "phi3": {
        **_LLAMA_LIKE,
        "model_type": "phi3",
        "original_max_position_embeddings": 32,
        "pad_token_id": 0,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.3, 1.7],
            "long_factor": [1.5, 2.0, 4.0, 8.0],
        },
        "sliding_window": 24,
    },
    "olmo2": {**_LLAMA_LIKE, "model_type": "olmo2"},
    "smollm3": {
        **_LLAMA_LIKE,
        "model_type": "smollm3",
        "no_rope_layers": [1, 0],
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    },
    "gpt_neox": {
        "model_type": "gpt_neox",
        "vocab_size": 264,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "eos_token_id": 2,
    },
    "gpt_oss": {
        **_LLAMA_LIKE,
        "model_type": "gpt_oss",
        "head_dim": 16,
        "num_experts_per_tok": 2,
        "num_local_experts": 5,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "truncate": False,
        },
        "sliding_window": 8,
        "swiglu_limit": 0.5,
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 264,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "eos_token_id": 2,
    },
}


def base_folder(folder: Path, family: str = "llama", *, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint of a family with lively random weights, so that no two tokens tie. `changes` go to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGS[family], **changes}))
    config = ModelConfig.load(folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: _lively(tensor, name, generator, config.norm_offset).contiguous()
        for name, tensor in checkpoint_tensors(fresh(config, seed))
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single bytes: ids 0 to 2 are special, 3 to 258 the bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": SPECIAL[0],
                "eos_token": SPECIAL[2],
                "chat_template": TEMPLATE,
            }
        )
    )


def _lively(tensor: Tensor, name: str, generator: torch.Generator, norm_offset: float) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator) * 0.2
    is_scale = tensor.ndim == 1 and not name.endswith("bias")
    return 1 - norm_offset + noise if is_scale else noise
