"""Every kernel on the CPU, through Triton's interpreter, against float64.

In processes of their own: whether Triton interprets is decided when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "tests.ops.interpreted.interpreter"
FOLDER = Path(__file__).parent / "interpreted"
CHECKS = sorted(path.stem for path in FOLDER.glob("check_*.py"))

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Triton has builds for Linux alone: its kernels are NOT tested here"
)


@pytest.mark.parametrize("check", CHECKS)
def test_kernels_agree_with_float64(check: str) -> None:
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
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_all_kernels_have_a_check() -> None:
    """A kernel that somebody adds must be named in a check."""
    source = ROOT / "src" / "inhouse" / "ops" / "triton"
    modules = {p.stem for p in source.glob("*.py") if "@triton.jit" in p.read_text()}
    checks = "".join((FOLDER / f"{check}.py").read_text() for check in CHECKS)
    assert modules and all(f"inhouse.ops.triton.{module} import" in checks for module in modules)
