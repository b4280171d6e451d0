"""Compiles the kernels, one build for a kind of processor.

It knows compilers and processors' flags; it does not know what a kernel computes. It imports nothing but Python's own
library: packaging runs it where nothing else is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "kernels"
COMPILE_S = 120.0
"""What one file may take."""
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-Wno-psabi")


@dataclass(frozen=True, slots=True)
class Variant:
    """One build: what the processor must have for it, and what the compiler is told."""

    name: str
    needs: frozenset[str]
    flags: tuple[str, ...]


_AVX2 = frozenset({"avx2", "fma", "bmi2"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
VARIANTS = (
    Variant(
        "avx512_bf16",
        _AVX512 | {"avx512_vnni", "avx512_bf16"},
        ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"),
    ),
    Variant("avx512", _AVX512, ("-march=x86-64-v4",)),
    Variant("avx2", _AVX2, ("-march=x86-64-v3",)),
    Variant("plain", frozenset(), ()),
)
"""Best first."""


def file_name(variant: Variant) -> str:
    """What its library is called: another name when the sources or the flags are others."""
    digest = hashlib.sha256(repr((FLAGS, variant.flags)).encode())
    for file in sorted(SOURCES.iterdir()):
        digest.update(file.read_bytes())
    return f"{variant.name}-{digest.hexdigest()[:16]}.so"


def compiler() -> str | None:
    """A C++ compiler on the path."""
    return next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)


def build(variant: Variant, target: Path) -> None:
    """Compiles a variant. Raises OSError where there is no compiler, or where it fails, with its words."""
    found = compiler()
    if found is None:
        raise OSError("no C++ compiler is on the path")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    said = ""
    for threads in (("-fopenmp",), ()):  # a compiler may know no OpenMP: then the kernels use one thread
        try:
            _build([found, *FLAGS, *variant.flags, *threads], target)
        except subprocess.SubprocessError as e:
            said = str(getattr(e, "stderr", "") or e)[-2000:]
        else:
            return
    raise OSError(f"{found} cannot compile the kernels: {said}")


def _build(command: list[str], target: Path) -> None:
    """Linked without the compiler's own OpenMP: it would be a second one beside torch's, whose symbols are there once
    torch is."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects = []
        for source in sorted(SOURCES.glob("*.cpp")):
            objects.append(f"{folder}/{source.stem}.o")
            _run([*command, "-c", str(source), "-o", objects[-1]])
        made = Path(folder) / target.name
        _run([command[0], "-shared", *objects, "-o", str(made)])
        with made.open("rb") as f:
            os.fsync(f.fileno())  # else a power cut may leave an empty file under the name
        made.replace(target)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_S)
