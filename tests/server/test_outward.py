"""Nothing here leaves this machine: `nothing_leaves` watches every test of this folder, and these watch it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outward.sitecustomize import is_outward

ELSEWHERE = ("192.0.2.1", 9)
"""An address that is kept for examples (RFC 5737)."""


@pytest.mark.parametrize("how", ["here", "in a process"])
def test_a_connection_to_another_machine_is_refused_and_noted(nothing_leaves: Path, how: str) -> None:
    """The control of every other test here: were there one, it would be seen."""
    if how == "here":
        with socket.socket() as own, pytest.raises(PermissionError, match="leave this machine"):
            own.connect(ELSEWHERE)
    else:
        code = f"import socket; socket.create_connection({ELSEWHERE!r}, 1)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "leave this machine" in done.stderr
    noted = nothing_leaves.read_text().splitlines()
    others = [line for line in noted if ELSEWHERE[0] not in line]
    assert len(others) == len(noted) - 1
    nothing_leaves.unlink()
    assert not others


def test_loopback_and_paths_are_this_machine() -> None:
    assert not any(
        map(is_outward, [("127.0.0.1", 1), ("::1", 1, 0, 0), ("localhost", 1), "/run/x.sock", b"\0x"])
    )
    assert all(
        map(is_outward, [("10.0.0.1", 1), ("example.org", 1), ("fe80::1%eth0", 1, 0, 0), (b"8.8.8.8", 1)])
    )
