"""An environment a client, made once and kept below build/; nothing of them is imported here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.clients.table import Client

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "clients"
TORCH = ROOT / "constraints.txt"
"""Names the release of torch that this project uses, for the one client that needs it."""


class NotInstalled(Exception):
    """pip's reason why a client could not be installed."""


def python_of(name: str, client: Client) -> Path:
    """The interpreter of a client's environment, which is made where it is not there. Raises NotInstalled."""
    home = HOME / name
    python, stamp = home / "bin" / "python", home / "inhouse.json"
    wanted = json.dumps(client.packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"{name}: installing {', '.join(client.packages)}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    without_torch = home / "constraints.txt"
    without_torch.write_text(
        "torch<0\n"
    )  # no release is below 0: what asks for torch fails, and fetches nothing
    constraints = TORCH if client.brings_torch else without_torch
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    done = subprocess.run([*command, *client.packages], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise NotInstalled(f"pip install {' '.join(client.packages)}: {said[0][:300]}")
    stamp.write_text(wanted)
    return python


def version_of(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()
