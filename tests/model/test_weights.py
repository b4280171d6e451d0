"""A base that is unsafe, unknown or not whole is refused, with the place and the cure."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig
from inhouse.model.locate import locate
from inhouse.model.weights import MAX_HEADER_BYTES, folder_digest, load_base
from tests.tiny import base_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return base_folder(tmp_path / "base")


def change_config(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "modeling_custom.py", "model.pt", "weights.pkl", "x.ckpt"]
)
def test_pickles_and_code_are_refused_even_beside_safetensors(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(BadCheckpoint, match=name):
        load_base(folder)


def test_auto_map_is_refused(folder: Path) -> None:
    change_config(folder, auto_map={"AutoModel": "modeling_custom.Model"})
    with pytest.raises(BadCheckpoint, match="auto_map"):
        load_base(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint, match=r"model-00002-of-00002.safetensors is missing"):
        load_base(folder)


def test_an_index_cannot_name_files_elsewhere(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint, match="outside the folder"):
        load_base(folder)


def test_a_header_larger_than_allowed_is_not_parsed(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{" * 64)
    with pytest.raises(BadCheckpoint, match="header of"):
        load_base(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_file_cut_short_is_refused(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadCheckpoint, match="Fetch it again"):
        load_base(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        load_base(folder)


def test_a_tensor_that_no_layer_takes_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.7.mlp.up_proj.weight"] = torch.zeros(2, 2)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match="no layer takes"):
        load_base(folder)


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    change_config(folder, intermediate_size=64)
    with pytest.raises(BadCheckpoint, match=r"has shape .* config\.json says"):
        load_base(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "not a supported family"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_multiplier": 2.0}, "unknown keys attention_multiplier"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"rope_scaling": {"rope_type": "linear"}}, "lacks a usable 'factor'"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"hidden_size": "32"}, "not a int"),
        ({"num_hidden_layers": -1}, "out of range"),
        ({"num_key_value_heads": 3}, "cannot share"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_a_config_that_we_would_compute_wrongly_is_refused(
    folder: Path, change: dict[str, object], message: str
) -> None:
    change_config(folder, **change)
    with pytest.raises(BadCheckpoint, match=message):
        ModelConfig.load(folder)


def test_the_digest_follows_every_byte_that_matters(folder: Path) -> None:
    before = folder_digest(folder)
    (folder / "notes.txt").write_text("no part of the model")
    assert folder_digest(folder) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert folder_digest(folder) != before


def test_a_hub_id_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadCheckpoint, match="copy the folder here"):
        locate("owner/name", "owner/name")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "no such thing", "../up"])
def test_a_source_that_is_nothing_is_refused(source: str) -> None:
    with pytest.raises(BadCheckpoint, match="neither a folder"):
        locate("x", source)


def test_numbers_of_a_type_that_is_not_read_are_refused_and_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    tensors[name] = tensors[name].to(torch.uint16)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=rf"{name} is U16"):
        load_base(folder)
