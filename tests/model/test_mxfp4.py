"""Experts in 4 bits are read as the numbers that they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig
from inhouse.model.mxfp4 import dequantise
from inhouse.model.weights import load_base, save_base
from tests.model.checkpoints import saved_by_transformers

PROMPT = list(b"a company should own its language models")
PACKED = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
SIZES = {"hidden_size": 64, "intermediate_size": 32}


def packed(folder: Path) -> Path:
    """A checkpoint whose experts are random 4 bits, named and laid out as published ones are."""
    saved_by_transformers(folder, "gpt_oss", **SIZES)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        count, inputs, outputs = tensors.pop(name).shape
        shape = (count, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator).byte()
        tensors[f"{name}_scales"] = torch.randint(121, 125, shape, generator=generator).byte()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder, quantization_config=PACKED)
    return folder


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_every_byte_and_scale_is_the_number_that_transformers_makes_of_it() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(1, 16, 1, 16).expand(1, 16, 8, 16).contiguous()
    scales = torch.tensor([[100, 120, 126, 127, 128, 130, 140, 150]], dtype=torch.uint8).expand(1, 16, 8)
    theirs = convert_moe_packed_tensors(codes, scales.contiguous(), dtype=torch.float32)
    assert torch.equal(dequantise(codes, scales, torch.float32), theirs.mT)
    assert torch.equal(dequantise(codes, scales, torch.bfloat16).float(), theirs.mT), (
        "4 bits fit bfloat16 exactly"
    )


def test_a_packed_base_answers_as_in_transformers_and_is_saved_in_full(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed")
    decoder = load_base(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        attn_implementation="eager",
        dtype=torch.float32,
        quantization_config=transformers.Mxfp4Config(dequantize=True),
    ).eval()
    save_base(decoder, tmp_path / "full", like=folder)
    assert "quantization_config" not in json.loads((tmp_path / "full" / "config.json").read_text())
    whole = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "full", attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        ours = decoder.score([PROMPT])
        for model in (theirs, whole):
            assert (ours - model(torch.tensor([PROMPT])).logits[0]).abs().max() < 1e-4
        assert torch.equal(load_base(tmp_path / "full").score([PROMPT]), ours)


def test_a_missing_scale_is_named(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.down_proj_scales"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"layers\.1\.mlp\.experts\.down_proj_scales is missing"):
        load_base(folder)


def test_packed_tensors_without_the_configs_word_are_refused(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed")
    change(folder, quantization_config=None)
    with pytest.raises(BadCheckpoint, match=r"gate_up_proj is missing"):
        load_base(folder)


def test_other_quantisations_are_refused_with_the_cure(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed")
    change(folder, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(BadCheckpoint, match=r"'bitsandbytes' is not read; only 'mxfp4'"):
        ModelConfig.load(folder)
