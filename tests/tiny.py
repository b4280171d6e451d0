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
        name: _lively(tensor, name, generator).contiguous()
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


def _lively(tensor: Tensor, name: str, generator: torch.Generator) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator) * 0.2
    return 1 + noise if tensor.ndim == 1 and not name.endswith("bias") else noise
