"""Checkpoints survive kills and find damage; a naive writer, the control, does not."""

from __future__ import annotations

from pathlib import Path

import torch

from inhouse.tune.checkpoint import KEEP, Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"x": torch.full((1000,), value)}


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
