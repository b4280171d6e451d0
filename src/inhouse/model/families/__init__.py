"""The families of models, each with what its config means and what its tensors are called.

A family is a function from the keys of a config.json to a ModelConfig. Nothing else in the house knows one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig
from inhouse.model.families import gemma, gpt2, gpt_oss, llama, neox, phi3, qwen
from inhouse.model.keys import Keys

_READERS: dict[str, Callable[[Keys], ModelConfig]] = {
    "llama": llama.read_llama,
    "mistral": llama.read_mistral,
    "olmo2": llama.read_olmo2,
    "smollm3": llama.read_smollm3,
    "qwen2": qwen.read_qwen2,
    "qwen3": qwen.read_qwen3,
    "qwen3_moe": qwen.read_qwen3_moe,
    "gemma2": gemma.read_gemma2,
    "gemma3_text": gemma.read_gemma3,
    "phi3": phi3.read_phi3,
    "gpt2": gpt2.read_gpt2,
    "gpt_neox": neox.read_neox,
    "gpt_oss": gpt_oss.read_gpt_oss,
}
FAMILIES = tuple(_READERS)
"""The values of model_type that are read."""

_CURES = {
    "gemma3": " This is the one that also sees pictures; take a text-only one (model_type 'gemma3_text').",
    "mixtral": " Of mixtures of experts, qwen3_moe and gpt_oss are read.",
}


def read_config(file: Path, values: dict[str, Any]) -> ModelConfig:
    """The model that a config.json describes. Raises BadCheckpoint naming the key and the cure."""
    keys = Keys(file, values)
    if "auto_map" in values:
        raise BadCheckpoint(
            f"{file}: auto_map asks for code of the checkpoint's own, which is never run. If its model_type is one "
            "that is read here, remove the key and the Python files beside it."
        )
    family = keys.get("model_type", str)
    if family not in _READERS:
        raise BadCheckpoint(
            f"{file}: model_type {family!r} is not a supported family. Supported: {', '.join(FAMILIES)}."
            + _CURES.get(family, "")
        )
    config = _READERS[family](keys)
    keys.finish()
    if config.heads % config.kv_heads:
        raise BadCheckpoint(f"{file}: {config.heads} heads cannot share {config.kv_heads} key-value heads.")
    if config.experts and config.experts.active > config.experts.count:
        raise BadCheckpoint(
            f"{file}: a token cannot use {config.experts.active} of {config.experts.count} experts."
        )
    return config
