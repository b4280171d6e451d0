"""Checkpoints survive kills and find damage; a naive writer, the control, does not."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch

from inhouse.tune.checkpoint import KEEP, Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"x": torch.full((1000,), value)}


def test_every_flipped_bit_is_found_and_the_one_before_is_used(tmp_path: Path) -> None:
    rng = random.Random(1)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tensors(1.0), {})
    checkpoints.save(2, tensors(2.0), {})
    spare = tmp_path.with_name("spare")
    shutil.copytree(tmp_path / "step-00000002", spare)
    for _ in range(60):
        shutil.rmtree(tmp_path / "step-00000002", ignore_errors=True)
        shutil.copytree(spare, tmp_path / "step-00000002")
        file = rng.choice(sorted((tmp_path / "step-00000002").iterdir()))
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        found = checkpoints.latest()
        assert found is not None and found.step == 1, file.name
    assert list(tmp_path.glob("quarantine-*"))


def test_a_folder_renamed_to_another_step_does_not_verify(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, tensors(1.0), {})
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000009")
    assert Checkpoints(tmp_path).latest() is None


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in range(1, 8):
        checkpoints.save(step, tensors(step), {})
    assert len(list(tmp_path.glob("step-*"))) == KEEP
    newest = checkpoints.latest()
    assert newest is not None and newest.step == 7
