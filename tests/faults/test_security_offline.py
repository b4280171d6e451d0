"""Nothing needs a network: a house that tunes and answers runs in a namespace without any interface but loopback.

`make offline` runs every test like that.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outward.sitecustomize import NOTES

ROOT = Path(__file__).resolve().parents[2]
PART = "tests/faults/test_security_canaries.py::test_no_process_of_a_house_writes_a_prompt_or_a_key_down"
"""A real server, a worker, a tuning job, an engine, chats: each a process."""


def unshared(*command: str) -> subprocess.CompletedProcess[str]:
    """The command's end in a namespace of its own, which alone holds it: no other watcher does."""
    alone = ["unshare", "-rn", sys.executable, "-m", "tests.offline", *command]
    unwatched = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", NOTES)}
    return subprocess.run(alone, cwd=ROOT, capture_output=True, text=True, check=False, env=unwatched)


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="this system lets nobody make a namespace")


@needs_namespaces
def test_a_house_tunes_and_answers_without_a_network(tmp_path: Path) -> None:
    done = unshared(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "t"),
        PART,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@needs_namespaces
def test_control_there_is_no_way_out_of_the_namespace() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 9), 2)"
    done = unshared(sys.executable, "-c", code)
    assert done.returncode != 0 and "Network is unreachable" in done.stderr


@pytest.mark.skipif(
    [name for _, name in socket.if_nameindex()] == ["lo"], reason="this is such a namespace already"
)
def test_control_outside_of_a_namespace_it_refuses_to_begin() -> None:
    command = [sys.executable, "-m", "tests.offline", "true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
