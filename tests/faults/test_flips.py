"""Bits that flip on a disk: found before anything uses them, in checkpoints, adapters and bases."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inhouse.errors import BadCheckpoint
from inhouse.schema import ModelCard
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import models
from inhouse.tune import checkpoint
from inhouse.tune.checkpoint import Checkpoints
from inhouse.worker import base as bases
from inhouse.worker.base import open_base
from tests.house.house import House, rows
from tests.tiny import base_folder

WEIGHTS = "adapter_model.safetensors"


def flip_a_bit(file: Path, chance: random.Random, at_least: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[chance.randrange(at_least, len(content))] ^= 1 << chance.randrange(8)
    mode = file.stat().st_mode
    file.chmod(0o600)
    file.write_bytes(content)
    file.chmod(mode)


# ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────


def saved(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, {"x": torch.full((100,), float(step))}, {"at": step})
    return checkpoints


def test_every_flip_in_a_checkpoint_is_found_and_the_one_before_is_used(tmp_path: Path) -> None:
    """Fault 8: a hundred flips of a hundred; what fails is set aside."""
    chance = random.Random(1)
    checkpoints = saved(tmp_path / "job")
    newest = tmp_path / "job" / "step-00000002"
    shutil.copytree(newest, tmp_path / "spare")
    for _ in range(100):
        shutil.rmtree(newest, ignore_errors=True)
        shutil.copytree(tmp_path / "spare", newest)
        file = chance.choice(sorted(newest.iterdir()))
        flip_a_bit(file, chance)
        found = checkpoints.latest()
        assert found is not None and found.step == 1, file.name
    assert list((tmp_path / "job").glob("quarantine-*"))


def test_without_digests_a_flipped_number_is_resumed_from_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 8, control: nobody compares digests, and training goes on from another number."""
    checkpoints = saved(tmp_path)
    file = tmp_path / "step-00000002" / "tensors.safetensors"
    flip_a_bit(file, random.Random(2), at_least=file.stat().st_size - 400)
    monkeypatch.setattr(checkpoint, "verify", lambda folder: 2)
    found = checkpoints.latest()
    assert found is not None and found.step == 2
    assert not torch.equal(found.tensors["x"], torch.full((100,), 2.0))


# ── adapters ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / WEIGHTS).write_bytes(random.Random(0).randbytes(50_000))
    return folder


@pytest.mark.parametrize("is_laid_out", [False, True])
def test_every_flip_in_an_adapter_is_found_before_it_is_used(
    artifacts: Artifacts, adapter: Path, is_laid_out: bool
) -> None:
    """Fault 8: a hundred flips of a hundred, before the folder was laid out and after."""
    chance = random.Random(7)
    digest = artifacts.put_folder(adapter)
    parts = [digest, *(entry["sha256"] for entry in artifacts.manifest(digest).values())]
    for _ in range(100):
        if is_laid_out:
            artifacts.verified_folder(digest)
        file = artifacts.path(chance.choice(parts))
        good = file.read_bytes()
        flip_a_bit(file, chance)
        for check in (artifacts.verify_folder, artifacts.verified_folder):
            with pytest.raises(BadCheckpoint) as caught:
                check(digest)
            assert caught.value.code == "corrupt_artifact" and file.name in caught.value.message
        file.chmod(0o600)
        file.write_bytes(good)
    assert artifacts.verified_folder(digest).is_dir()


@pytest.mark.parametrize("length", [0, 1, 49_999])
def test_an_adapter_cut_short_is_found(artifacts: Artifacts, adapter: Path, length: int) -> None:
    """Fault 8: truncated."""
    digest = artifacts.put_folder(adapter)
    weights = artifacts.path(artifacts.manifest(digest)[WEIGHTS]["sha256"])
    weights.chmod(0o600)
    os.truncate(weights, length)
    with pytest.raises(BadCheckpoint):
        artifacts.verified_folder(digest)


def test_a_damaged_folder_is_laid_out_anew_from_what_is_kept(artifacts: Artifacts, adapter: Path) -> None:
    """Fault 8: where only the copy is damaged, as on a file system without hard links, what is kept mends it."""
    digest = artifacts.put_folder(adapter)
    file = artifacts.folder(digest) / WEIGHTS
    kept = file.read_bytes()
    file.unlink()
    file.write_bytes(kept[:-1])
    assert (artifacts.verified_folder(digest) / WEIGHTS).read_bytes() == kept


def test_a_folder_that_was_laid_out_is_believed_without_a_second_look_control(
    artifacts: Artifacts, adapter: Path
) -> None:
    """Fault 8, control: `folder` alone, which looks once, hands the damage on."""
    digest = artifacts.put_folder(adapter)
    artifacts.folder(digest)
    flip_a_bit(artifacts.path(artifacts.manifest(digest)[WEIGHTS]["sha256"]), random.Random(3))
    assert (artifacts.folder(digest) / WEIGHTS).read_bytes() != (adapter / WEIGHTS).read_bytes()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "data", [base_folder(tmp_path / "tiny")], load_wait_s=20)
    house.start()
    yield house
    assert house.stop() == 0, house.output()


def test_a_damaged_adapter_is_refused_and_the_rest_of_the_house_goes_on(house: House) -> None:
    """Fault 8: a tuned model's file flips after it answered, and its engine starts anew."""
    job = house.ended(house.submit("tiny", rows(4), n_epochs=1, x_rank=2))
    model = job["fine_tuned_model"]
    assert house.chat(model, "q0?", max_tokens=2).status_code == 200
    kept = Artifacts(house.data_dir / "artifacts")
    digest = house.chat(model, "q0?", max_tokens=1).json()["x_adapter"]
    flip_a_bit(kept.path(kept.manifest(digest)[WEIGHTS]["sha256"]), random.Random(4))
    assert house.stop() == 0
    house.start()
    refused = house.chat(model, "q0?", max_tokens=2)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] == "corrupt_artifact"
    assert house.chat("tiny", "q0?", max_tokens=2).status_code == 200


# ── bases ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def registered(tmp_path: Path) -> Iterator[tuple[Database, Path, Settings]]:
    """A base in a folder of the operator's, opened once before."""
    settings = Settings(data_dir=tmp_path / "data")
    db = Database(settings.database)
    migrate(db)
    folder = base_folder(tmp_path / "tiny")
    card = ModelCard(name="tiny", project=None, kind="base", base="tiny", source=str(folder), created_at=1.0)
    with db.write() as conn:
        models.put_base(conn, card)
    opened(db, settings)
    yield db, folder, settings
    db.dispose()


def opened(db: Database, settings: Settings) -> bases.OpenBase:
    with db.read() as conn:
        card = models.get(conn, "default", "tiny")
    return open_base(card, Artifacts(settings.artifacts_dir), settings, db=db)


def start_of_numbers(file: Path) -> int:
    return 8 + int.from_bytes(file.read_bytes()[:8], "little")


def test_a_flip_in_a_base_is_refused_with_file_and_digest(
    registered: tuple[Database, Path, Settings],
) -> None:
    """Fault 9: in the shard's numbers, where nothing but a digest tells; and in the tokenizer."""
    db, folder, settings = registered
    chance = random.Random(5)
    shard = next(folder.glob("*.safetensors"))
    for _ in range(10):
        good = shard.read_bytes()
        flip_a_bit(shard, chance, at_least=start_of_numbers(shard))
        with pytest.raises(BadCheckpoint) as caught:
            opened(db, settings)
        assert caught.value.code == "corrupt_base"
        with db.read() as conn:
            was = models.get(conn, "default", "tiny").about["files"][shard.name]
        assert str(shard) in caught.value.message and was in caught.value.message
        shard.write_bytes(good)
    assert opened(db, settings).name == "tiny"
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"note": "another"}))
    with pytest.raises(BadCheckpoint, match=r"config\.json"):
        opened(db, settings)


def test_without_noted_digests_a_flipped_shard_is_served_control(
    registered: tuple[Database, Path, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 9, control: nobody compares, and another model answers under the name."""
    db, folder, settings = registered
    shard = next(folder.glob("*.safetensors"))
    before = {name: tensor.clone() for name, tensor in load_file(shard).items()}
    flip_a_bit(shard, random.Random(6), at_least=start_of_numbers(shard))
    monkeypatch.setattr(bases, "_refuse_changed", lambda *_: None)
    assert opened(db, settings).name == "tiny"
    after = load_file(shard)
    assert any(not torch.equal(before[name], after[name]) for name in before)
