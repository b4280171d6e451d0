"""The seedling's shape and the small files that say it, as a Hugging Face Llama folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from inhouse.model.build import fresh
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import Decoder
from inhouse.model.weights import WEIGHTS, load_base, save_base
from recipes.seedling.priming import prime
from recipes.seedling.tokenizer import CONTEXT, END, PAD, SPECIAL, VOCABULARY

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "num_key_value_heads": 6,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "bos_token_id": None,
    "eos_token_id": SPECIAL.index(END),
    "pad_token_id": SPECIAL.index(PAD),
}
"""11.3 million parameters: the smallest of the sizes wanted, so that a CPU can teach it in hours."""


def write_config(folder: Path, **changes: int) -> None:
    """config.json and generation_config.json, with other sizes where `changes` says so."""
    config = LLAMA | changes
    generation = {
        "do_sample": False,
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
    }
    for name, values in (("generation_config.json", generation), ("config.json", config)):
        part = (
            folder / f"{name}.part"
        )  # whole or not at all: the last one says that the tokenizer is there, too
        part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        part.replace(folder / name)


def begin(folder: Path, seed: int, *, is_primed: bool, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The untrained model of a folder's config: made once from the seed, the same after every restart."""
    if not (folder / WEIGHTS).is_file():
        with tempfile.TemporaryDirectory(dir=folder) as part:  # whole or not at all, should this be killed
            decoder = fresh(ModelConfig.load(folder), seed)
            if is_primed:
                prime(decoder, seed)
            save_base(decoder, Path(part), like=folder)
            (Path(part) / WEIGHTS).rename(folder / WEIGHTS)
    return load_base(folder, device=device, dtype=dtype)
