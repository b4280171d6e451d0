"""How big it is: packages of the light client, the wheel and the base in it, the time of an import.

    python -m benchmarks.size

Nothing is installed: pip resolves `pip install inhouse` into an empty environment and reports what it would bring.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.core import pin
from benchmarks.results import command, machine, spread, write

ROOT = Path(__file__).resolve().parents[1]
BASE = "inhouse/bases/seedling/"
IMPORTS = {
    "a process of Python alone": "pass",
    "a process with import inhouse": "import inhouse",
    "a process with from inhouse import Client": "from inhouse import Client",
}
REPEATS = 15


def main() -> None:
    names = packages()
    rows = [
        spread("packages of the light client, itself included", [len(names)], "packages", at_most=19),
        *wheel(),
        *imports(),
    ]
    found = {"machine": machine(), "command": command("benchmarks.size"), "packages": names, "rows": rows}
    write("size", found)


def packages() -> list[str]:
    """What `pip install inhouse` brings into an empty environment, itself included."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        line = [f"{folder}/bin/python", "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
        done = subprocess.run([*line, str(ROOT)], check=True, capture_output=True, text=True)
    return sorted(found["metadata"]["name"] for found in json.loads(done.stdout)["install"])


def wheel() -> list[dict[str, Any]]:
    """The size of a wheel built from this tree, and of the base in it."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
        subprocess.run([*line, str(ROOT)], check=True)
        (file,) = Path(folder).glob("*.whl")
        inside = zipfile.ZipFile(file).infolist()
        base = [entry for entry in inside if entry.filename.startswith(BASE)]
        assert BASE + "model.safetensors" in {entry.filename for entry in base}, (
            "the base is not in the wheel"
        )
        return [
            spread("wheel, the embedded base inside", [file.stat().st_size / 1e6], "MB", at_most=60),
            spread("the base in it", [sum(entry.compress_size for entry in base) / 1e6], "MB"),
            spread("files in the wheel", [len(inside)], "files"),
        ]


def imports() -> list[dict[str, Any]]:
    """Milliseconds of fresh processes, taken in turns on one core."""
    pin(None)
    taken: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(REPEATS):
        for name, code in IMPORTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            taken[name].append((time.perf_counter() - began) * 1e3)
    return [spread(name, each, "ms") for name, each in taken.items()]


if __name__ == "__main__":
    main()
