"""A config that a family would not compute as it says is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig
from tests.model.checkpoints import CHECKPOINTS

LONG = CHECKPOINTS["phi3 longrope"]["rope_scaling"]


def load(folder: Path, name: str, **changes: Any) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps({**CHECKPOINTS[name], **changes}))
    return ModelConfig.load(folder)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_unknown_key_is_refused_by_name_in_every_family(name: str, tmp_path: Path) -> None:
    load(tmp_path, name)
    with pytest.raises(BadCheckpoint, match="unknown keys attention_multiplier, clip_qkv"):
        load(tmp_path, name, attention_multiplier=2.0, clip_qkv=8.0)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0, "twist": 1}}, "does not know twist"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0}}, "lacks a usable"),
        ("llama", {"pretraining_tp": 2}, "pretraining_tp"),
        ("mistral", {"attention_bias": True}, "attention_bias"),
        ("mistral", {"layer_types": ["sliding_attention"]}, "for each of 2 layers"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 2}, "without a sliding window"),
        ("qwen3_moe", {"num_experts_per_tok": 7}, "cannot use 7 of 6 experts"),
        ("qwen3_moe", {"mlp_only_layers": ["first"]}, "mlp_only_layers"),
        ("gemma2", {"hidden_activation": "relu"}, "hidden_activation"),
        ("gemma2", {"attn_logit_softcapping": 0.0}, "is no cap"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"rope_parameters": {"rope_theta": 1e6}}, "does not know rope_theta"),
        ("phi3", {"attention_bias": True}, "attention_bias"),
        ("phi3 longrope", {"rope_scaling": {**LONG, "long_factor": [1.0]}}, "list of 4 factors"),
        ("pythia", {"hidden_act": "relu"}, "hidden_act"),
        ("gpt_oss", {"hidden_act": "gelu"}, "hidden_act"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "for each of 4 layers"),
        ("gemma3", {"model_type": "gemma3"}, "text-only"),
        ("llama", {"auto_map": {"AutoModel": "x.y"}}, "remove the key"),
    ],
    ids=str,
)
def test_what_a_family_does_not_compute_is_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadCheckpoint, match=message):
        load(tmp_path, name, **changes)
