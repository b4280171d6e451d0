"""How big it is: packages of the light client, the wheel, the time of an import.

python -m benchmarks.size
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from benchmarks.results import machine, spread, write

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    rows = [packages(), *wheel(), imports()]
    write("size", {"machine": machine(), "command": "python -m benchmarks.size", "rows": rows})


def packages() -> dict[str, object]:
    """How many packages `pip install inhouse` brings into an empty environment, itself included."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        done = subprocess.run(
            [
                f"{folder}/bin/python",
                "-m",
                "pip",
                "install",
                "--dry-run",
                "--quiet",
                "--report",
                "-",
                str(ROOT),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    count = len(json.loads(done.stdout)["install"])
    return spread("packages of the light client, itself included", [count], "packages", goal="19")


def wheel() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        build = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            folder,
            str(ROOT),
        ]
        subprocess.run(build, check=True)
        (file,) = Path(folder).glob("*.whl")
        inside = zipfile.ZipFile(file).namelist()
        assert "inhouse/bases/seedling/model.safetensors" in inside, "the base is not in the wheel"
        return [
            spread("wheel, the embedded base inside", [file.stat().st_size / 1e6], "MB", goal="60"),
            spread("files in the wheel", [len(inside)], "files"),
        ]


def imports() -> dict[str, object]:
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "from inhouse import Client"], check=True)
        taken.append(time.perf_counter() - began)
    return spread("from inhouse import Client, a fresh process", taken, "s")


if __name__ == "__main__":
    main()
