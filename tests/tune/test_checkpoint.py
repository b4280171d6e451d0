"""Checkpoints survive kills and find damage; a naive writer, the control, does not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from inhouse.errors import Unavailable
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


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO])
def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, KEEP + 1):
        Checkpoints(tmp_path).save(step, tensors(step), {})
    checkpoints = Checkpoints(tmp_path)
    whole, newest = Path.open, f"step-{KEEP:08d}"

    def refused(self: Path, *given: Any, **more: Any) -> Any:
        if self.parent.name == newest:
            raise OSError(code, "refused", str(self))
        return whole(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.raises(Unavailable, match=f"{newest} cannot be read"):
            checkpoints.latest()
        checkpoints.save(KEEP + 1, tensors(KEEP + 1), {})
    assert len(list(tmp_path.glob("step-*"))) == KEEP + 1, "what cannot be told of is not dropped for another"
    (tmp_path / f"step-{KEEP + 1:08d}" / "manifest.json").unlink()
    found = checkpoints.latest()
    assert found is not None and found.step == KEEP
