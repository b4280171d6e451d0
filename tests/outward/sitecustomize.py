"""Notes and refuses each connection to anything but this machine. Python imports it at its start where this folder is
on its path; `tests/server/conftest.py` imports it for the tests themselves."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import Any

NOTES = "OUTWARD_NOTES"
"""The variable that names the file of notes."""


def is_outward(address: Any) -> bool:
    """Whether it is another machine's. A name is: whoever asks for its address has left already."""
    if not isinstance(address, tuple):
        return False  # a unix socket's path
    host = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
    if host in ("localhost", ""):
        return False
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto") or not is_outward(arguments[1]):
        return
    if file := os.environ.get(NOTES):
        with Path(file).open("a") as out:
            out.write(f"{event} {arguments[1]} by {sys.argv[:2]}\n")
    raise PermissionError(f"A test wanted to leave this machine: {arguments[1]}.")


sys.addaudithook(note)
