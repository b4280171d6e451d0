"""Checkpoints that survive a kill at any moment and find their own damage.

Written to a temporary folder on the same file system, each file flushed to disk, then a manifest with size and
SHA-256 of every file that also checks itself and repeats the step; renamed into place; older ones dropped only
when three newer are verified. Recovery walks from newest to oldest and quarantines what fails.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from inhouse.errors import StorageFull, Unavailable
from inhouse.system import DISK_FULL, sync_folder

log = logging.getLogger(__name__)

KEEP = 3
_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_MANIFEST = "manifest.json"
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""A file that is not there, or is something else. Other errors are the system's."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one job, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._verified: set[str] = set()
        for leftover in folder.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Makes the state after `step` durable. Raises StorageFull, with earlier checkpoints intact."""
        temporary = self.folder / f".tmp-{step}-{os.getpid()}"
        try:
            temporary.mkdir()
            _write_synced(temporary / _TENSORS, save(tensors))
            _write_synced(temporary / _STATE, json.dumps(state, sort_keys=True).encode())
            files = {name: _measure(temporary / name) for name in (_TENSORS, _STATE)}
            _write_synced(temporary / _MANIFEST, _manifest(step, files).encode())
            sync_folder(temporary)
            final = self.folder / _name(step)
            self._verified.discard(final.name)
            if final.exists():  # a step run again after a rollback
                shutil.rmtree(final)
            temporary.rename(final)
            sync_folder(self.folder)
        except OSError as e:
            shutil.rmtree(temporary, ignore_errors=True)
            if e.errno in DISK_FULL:
                raise StorageFull(
                    f"No space left for a checkpoint in {self.folder}. The last one is intact; free some space "
                    "and the job goes on from it."
                ) from e
            raise
        self._drop_old()

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; damaged ones are set aside, never used. Raises Unavailable where it
        cannot be told whether one is damaged: too many open files, say, or a file system that has gone."""
        for folder in reversed(self._folders()):
            try:
                checkpoint = _read_verified(folder)
            except OSError as e:
                raise Unavailable(
                    f"The checkpoint {folder.name} cannot be read ({e.strerror or e}); it stays as it is."
                ) from e
            if checkpoint is not None:
                return checkpoint
            aside = self.folder / f"quarantine-{folder.name}-{os.getpid()}"
            log.warning("checkpoint %s does not verify; set aside as %s", folder.name, aside.name)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        return None

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _drop_old(self) -> None:
        """Drops what is older than the newest few that verify; each is read back once."""
        kept = 0
        for folder in reversed(self._folders()):
            if kept == KEEP:
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.name in self._verified or _verifies(folder):
                self._verified.add(folder.name)
                kept += 1


def verify(folder: Path) -> int | None:
    """The step of a checkpoint whose every byte is as its manifest says; None otherwise. Raises OSError where the
    system does not let it be read: that says nothing about the bytes."""
    try:
        wrapped = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        body = wrapped["body"]
        if hashlib.sha256(body.encode()).hexdigest() != wrapped["sha256"]:
            return None
        manifest = json.loads(body)
        if folder.name != _name(manifest["step"]):
            return None
        for name, (size, digest) in manifest["files"].items():
            if _measure(folder / name) != (size, digest):
                return None
        return int(manifest["step"])
    except OSError as e:
        if e.errno not in _DAMAGE:
            raise
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _verifies(folder: Path) -> bool:
    """For counting those that may be relied on: one that cannot be read now is none of them, and is not dropped."""
    try:
        return verify(folder) is not None
    except OSError:
        return False


def _read_verified(folder: Path) -> Checkpoint | None:
    step = verify(folder)
    if step is None:
        return None
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return Checkpoint(step, load_file(folder / _TENSORS), state)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _manifest(step: int, files: dict[str, tuple[int, str]]) -> str:
    body = json.dumps({"step": step, "files": files}, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body})


def _write_synced(file: Path, content: bytes) -> None:
    with file.open("wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())


def _measure(file: Path) -> tuple[int, str]:
    with file.open("rb") as f:
        return file.stat().st_size, hashlib.file_digest(f, "sha256").hexdigest()
