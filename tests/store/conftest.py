"""A furnished house, where its backup goes, and a disk that is nearly full: a real one, a megabyte small."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from tests.store.furnished import furnish


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte. Only root may mount one; others skip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root; run the tests as root to include this one")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


FORMS = ("house.tar", "house")
"""A backup's names in both of its forms."""


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "data" / "artifacts")


@pytest.fixture
def digests(db: Database, artifacts: Artifacts, tmp_path: Path) -> dict[str, str]:
    """Of an upload and a model, in a house with a row in every table."""
    return furnish(db, artifacts, tmp_path)


@pytest.fixture(params=FORMS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a backup goes, in each form."""
    return tmp_path / "backups" / str(request.param)
