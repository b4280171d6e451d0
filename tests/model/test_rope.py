"""Ropes turn as fast as in transformers, whatever a checkpoint asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from inhouse.model.keys import Keys
from inhouse.model.rope import Rope, rope_of

FACTORS = [1.0 + i / 4 for i in range(32)]
YARN = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}
LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": [2 * f for f in FACTORS]}


def ours(values: dict[str, Any]) -> Rope:
    return rope_of(Keys(Path("config.json"), {}), values, head_width=64, context=65536, theta=10_000.0)


def theirs(values: dict[str, Any], length: int | None = None) -> tuple[torch.Tensor, float]:
    config = transformers.LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=65536,
        rope_parameters={"rope_theta": 10_000.0, **values},
    )
    return ROPE_INIT_FUNCTIONS[values["rope_type"]](config, torch.device("cpu"), seq_len=length)


@pytest.mark.parametrize(
    "values",
    [
        {"rope_type": "linear", "factor": 4.0},
        {**LLAMA3, "original_max_position_embeddings": 8192},
        YARN,
        {**YARN, "truncate": False},
        {**YARN, "beta_fast": 48.0, "beta_slow": 2.0},
        {**YARN, "attention_factor": 1.7},
        {**YARN, "mscale": 0.7, "mscale_all_dim": 1.1},
        {**YARN, "factor": 0.5},
        {**YARN, "original_max_position_embeddings": 8},
        {**LONG, "original_max_position_embeddings": 4096},
        {**LONG, "original_max_position_embeddings": 4096, "factor": 2.0},
        {**LONG, "original_max_position_embeddings": 4096, "attention_factor": 1.4},
        {**LONG, "original_max_position_embeddings": 65536},
    ],
    ids=lambda v: " ".join(f"{k}={x}" for k, x in v.items() if not isinstance(x, list)),
)
def test_frequencies_and_sizes_equal_transformers(values: dict[str, Any]) -> None:
    rope = ours(values)
    frequencies, size = theirs(dict(values))
    torch.testing.assert_close(torch.tensor(rope.frequencies), frequencies, rtol=1e-5, atol=1e-9)
    assert rope.size == pytest.approx(size)
    if rope.long_frequencies:
        far, _ = theirs(dict(values), rope.long_above + 1)
        torch.testing.assert_close(torch.tensor(rope.long_frequencies), far, rtol=1e-5, atol=1e-9)
        assert not torch.equal(far, frequencies)
