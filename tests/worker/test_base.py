"""A base is opened for what it is to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhouse.errors import InvalidRequest
from inhouse.model.layers import Mixture
from inhouse.schema import ModelCard
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.worker.base import OpenBase, open_base
from tests.tiny import base_folder


def opened(folder: Path, *, quantization: str, for_serving: bool) -> OpenBase:
    settings = Settings(data_dir=folder, device="cpu", quantization=quantization)
    source = base_folder(folder / "base", "qwen3_moe")
    card = ModelCard(
        name="small", project=None, kind="base", base="small", source=str(source), created_at=0.0
    )
    return open_base(card, Artifacts(settings.artifacts_dir), settings, for_serving=for_serving)


def test_a_base_to_be_served_is_laid_out_and_rounded_while_it_is_read(tmp_path: Path) -> None:
    decoder = opened(tmp_path, quantization="int8", for_serving=True).decoder
    linears = [decoder.blocks[0].attention.qkv, decoder.blocks[0].mlp.up]
    assert all(linear.served is not None and "int8" in linear.served.form for linear in linears)
    mixture = decoder.blocks[1].mlp
    assert isinstance(mixture, Mixture) and mixture.served is not None
    assert all("int8" in experts.form for experts in mixture.served)
    assert decoder.served_head is not None and decoder.head.is_meta


def test_a_base_to_be_trained_stays_as_it_is_whatever_serving_rounds_to(tmp_path: Path) -> None:
    decoder = opened(tmp_path, quantization="int8", for_serving=False).decoder
    assert decoder.served_head is None
    assert not any(tensor.is_meta for _, tensor in decoder.named_tensors())
    assert decoder.blocks[0].attention.qkv.weight.dtype in (torch.float32, torch.bfloat16)


def test_a_quantization_that_there_is_not_is_refused_when_a_base_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="quantization = 'int3'"):
        opened(tmp_path, quantization="int3", for_serving=True)
