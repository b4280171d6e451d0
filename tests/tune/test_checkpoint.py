"""Checkpoints survive kills and find damage; a naive writer, the control, does not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from inhouse.errors import StorageFull
from inhouse.tune.checkpoint import KEEP, Checkpoints, verify

WRITER = """
import sys, torch
from pathlib import Path
from inhouse.tune.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
saved = checkpoints.latest()
step = saved.step if saved else 0
print("start", step, flush=True)
while True:
    step += 1
    checkpoints.save(step, {"x": torch.full((50_000,), float(step))}, {"at": step})
    print("saved", step, flush=True)
"""
NAIVE = WRITER.replace(
    "checkpoints.save(",
    """
    import json
    from safetensors.torch import save_file
    def save(step, tensors, state):
        folder = Path(sys.argv[1]) / f"step-{step:08d}"
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / "tensors.safetensors")
        (folder / "state.json").write_text(json.dumps(state))
    save(""",
)


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"x": torch.full((1000,), value)}


def kill_at_random(folder: Path, code: str, rng: random.Random) -> int:
    """Runs a writer, kills it between 1 and 60 ms after a save, and returns the last step it acknowledged."""
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("start")
    child.stdout.readline()
    time.sleep(rng.random() * 0.06)
    child.send_signal(signal.SIGKILL)
    acknowledged = [line.split() for line in child.stdout.read().splitlines() if line.startswith("saved")]
    child.wait()
    child.stdout.close()
    return max((int(words[1]) for words in acknowledged if len(words) == 2), default=0)


def test_kills_lose_no_acknowledged_checkpoint(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(5):
        acknowledged = kill_at_random(tmp_path, WRITER, rng)
        newest = Checkpoints(tmp_path).latest()
        assert newest is not None and newest.step >= acknowledged
        assert float(newest.tensors["x"][0]) == newest.step == newest.state["at"]
        assert not list(tmp_path.glob(".tmp-*"))


def test_a_writer_without_the_protocol_leaves_steps_that_do_not_verify(tmp_path: Path) -> None:
    kill_at_random(tmp_path, NAIVE, random.Random(0))
    assert all(verify(f) is None for f in tmp_path.glob("step-*"))


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


def test_a_full_disk_leaves_the_last_checkpoint_and_no_scraps(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system to fill")
    try:
        checkpoints = Checkpoints(disk)
        with pytest.raises(StorageFull, match="The last one is intact"):
            for step in range(1, 99):
                checkpoints.save(step, {"x": torch.zeros(80_000)}, {})
        newest = checkpoints.latest()
        assert newest is not None and newest.step >= 2
        assert not list(disk.glob(".tmp-*"))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
