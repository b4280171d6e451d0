"""A base is opened for what it is to do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inhouse import bases
from inhouse.errors import BadCheckpoint, InvalidRequest
from inhouse.model.layers import Mixture
from inhouse.model.locate import EMBEDDED
from inhouse.model.weights import file_digests, folder_digest
from inhouse.schema import ModelCard
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.worker.base import OpenBase, open_base
from inhouse.worker.serve import fingerprint_of
from tests.tiny import base_folder


def opened(folder: Path, *, quantization: str, for_serving: bool, dtype: str = "auto") -> OpenBase:
    settings = Settings(data_dir=folder, device="cpu", quantization=quantization, dtype=dtype)
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


def test_the_fingerprint_changes_with_the_base_and_the_numbers_it_is_served_in(tmp_path: Path) -> None:
    base = opened(tmp_path, quantization="none", for_serving=True)
    wide = fingerprint_of(base, "none")
    assert wide == f"fp_{base.digest[:12]}_float32"
    in_bfloat16 = opened(tmp_path / "again", quantization="int8", for_serving=True, dtype="bfloat16")
    narrow = fingerprint_of(in_bfloat16, "none")
    assert narrow == f"fp_{base.digest[:12]}_bfloat16", "as it is served, rounded or not"
    other = fingerprint_of(replace(base, digest="0" * 64), "none")
    assert len({wide, narrow, other, *(fingerprint_of(base, form) for form in ("int8", "int4"))}) == 5


SHIPPED = Path(bases.__file__).parent


def embedded(artifacts: Path) -> OpenBase:
    card = ModelCard(
        name="seedling", project=None, kind="base", base="seedling", source=EMBEDDED, created_at=0.0
    )
    return open_base(card, Artifacts(artifacts), Settings(data_dir=artifacts, device="cpu"))


def test_what_is_written_down_of_the_embedded_base_is_the_truth() -> None:
    written = json.loads((SHIPPED / "seedling.sha256.json").read_text(encoding="utf-8"))
    assert written == file_digests(SHIPPED / "seedling")
    assert "model.safetensors" in written and "tokenizer.json" in written


@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_an_embedded_base_with_a_flipped_bit_is_refused_when_it_is_first_opened(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "bases")
    monkeypatch.setattr(bases, "__file__", str(tmp_path / "bases" / "__init__.py"))
    assert embedded(tmp_path / "artifacts").digest == folder_digest(SHIPPED / "seedling")
    target = tmp_path / "bases" / "seedling" / file
    content = bytearray(target.read_bytes())
    at = content.index(b"  ") if file != "model.safetensors" and b"  " in content else len(content) // 2
    content[at] = 9 if content[at] == 32 else content[at] ^ 1  # what still parses
    target.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=f"{file} is not the file that the package came with") as caught:
        embedded(tmp_path / "artifacts")
    assert caught.value.code == "corrupt_base" and "install the package again" in caught.value.message


def test_an_embedded_base_of_which_nothing_is_written_down_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "bases")
    monkeypatch.setattr(bases, "__file__", str(tmp_path / "bases" / "__init__.py"))
    (tmp_path / "bases" / "seedling.sha256.json").unlink()
    with pytest.raises(BadCheckpoint, match="damaged or missing"):
        embedded(tmp_path / "artifacts")


def test_a_quantization_that_there_is_not_is_refused_when_a_base_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="quantization = 'int3'"):
        opened(tmp_path, quantization="int3", for_serving=True)
