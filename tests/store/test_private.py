"""A data folder is for its owner's eyes only, whatever it was before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse.store.private import is_loose, make_private


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """A data folder as a careless umask left it, its artifacts on another disk."""
    folder, disk = tmp_path / "data", tmp_path / "disk"
    for place in (folder / "logs", folder / "jobs" / "ftjob-1", disk / "ab"):
        place.mkdir(parents=True, mode=0o777)
    for file in (folder / "inhouse.db", folder / "inhouse.toml", disk / "ab" / "content"):
        file.write_text("mine")
        file.chmod(0o664)
    (disk / "ab" / "content").chmod(0o444)
    (folder / "artifacts").symlink_to(disk)
    (folder / "logs" / "elsewhere").symlink_to("/etc/passwd")
    for place in (folder, folder / "logs", folder / "jobs", disk, disk / "ab"):
        place.chmod(0o775)
    return folder


def test_what_was_open_to_others_is_so_no_more(loose: Path) -> None:
    before = Path("/etc/passwd").stat().st_mode
    make_private(loose)
    there = [loose, *loose.rglob("*"), *(loose / "artifacts").resolve().rglob("*")]
    assert len(there) == 10
    assert [path for path in there if is_loose(path)] == []
    assert (loose / "artifacts" / "ab" / "content").stat().st_mode & 0o777 == 0o400
    assert Path("/etc/passwd").stat().st_mode == before, "what a link leads out to is none of ours"


def test_a_folder_that_belongs_to_somebody_else_is_refused_with_the_cure(loose: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user to try it")
    code = (
        f"import os; os.setgid(65534); os.setuid(65534); from pathlib import Path\n"
        f"from inhouse.store.private import make_private\n"
        f"from inhouse.errors import InvalidRequest\n"
        f"try: make_private(Path({str(loose)!r}))\n"
        f"except InvalidRequest as e: print(e.message)"
    )
    for folder in loose.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    loose.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", f"import inhouse.store.private, inhouse.errors\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "it belongs to another user" in done.stdout and "INHOUSE_DATA_DIR" in done.stdout
    assert loose.stat().st_mode & 0o777 == 0o777
