"""The house on a device of a foreign name, in a process of its own: torch forgets no device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "tests.device.simulated.plugin"
FOLDER = Path(__file__).parent / "simulated"


@pytest.mark.parametrize("check", ["check_serving", "check_training"])
def test_the_house_runs_on_a_device_that_nobody_knows(check: str) -> None:
    code = "from tests.device.simulated.accelerator import install; install()"
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "has no hook for devices in Python any more" in there.stderr:
        pytest.skip("torch's private hook is GONE: vendor neutrality is not tested here")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            FOLDER / f"{check}.py",
            "-qx",
            "-p",
            PLUGIN,
            "-p",
            "no:cacheprovider",
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
