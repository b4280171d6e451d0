"""Real workers, killed and frozen at random: nothing is lost, nothing is published twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def kill(url: str, folder: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.kill", "--url", url, "--folder", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if report["lost"] == report["published_twice"] == 0 else 1), done.stderr
    return dict(report)


def test_killed_and_frozen_workers_lose_nothing_and_publish_nothing_twice(
    database_url: str, tmp_path: Path
) -> None:
    """Faults 2 and 5: the bare queue, its workers killed and frozen at random."""
    options = ("--lease-s", "0.6", "--pause-s", "0.05")
    report = kill(database_url, tmp_path / "run", "--kills", "12", *options)
    again = kill(database_url, tmp_path / "run", "--kills", "24", *options)
    assert again["killed"] + again["frozen"] == 24, "a stopped run goes on where it was"
    assert again["jobs"] >= report["jobs"] > 0
    assert again["claimed_again"] > 0, "no fault hit a job, so this showed nothing"
    assert again["lost"] == again["published_twice"] == again["published_without_success"] == 0


def test_without_the_fence_frozen_workers_publish_twice(database_url: str, tmp_path: Path) -> None:
    """Fault 5: the control: the same run, the fence taken out."""
    options = ("--no-fence", "--freeze-share", "1", "--lease-s", "0.4", "--pause-s", "0.1")
    report = kill(database_url, tmp_path / "run", "--kills", "12", *options)
    assert report["published_twice"] > 0


def test_a_job_that_disappears_is_counted_as_lost(sqlite_url: str, tmp_path: Path) -> None:
    """The control of the count itself."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "submitted.txt").write_text("ftjob-never-stored\n")
    assert kill(sqlite_url, folder, "--kills", "0")["lost"] == 1
