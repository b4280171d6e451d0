"""The compiled kernels: found beside this file, or in the cache, or built there once where a compiler is.

It knows compilers, processors' flags and files; it does not know what a kernel computes. Without a compiler, and on a
processor that no build fits, there are no kernels, and the plain operations do their work.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from inhouse.device import cpu_flags

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "kernels"
BUILT = Path(__file__).parent / "built"
"""Where a wheel carries what was built ahead."""
COMPILE_S = 120.0
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-Wno-psabi")


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


def variant() -> Variant:
    """The best build that this processor runs."""
    flags = cpu_flags()
    return next(v for v in VARIANTS if v.needs <= flags)


@cache
def load() -> ctypes.CDLL | None:
    """The kernels; None where there are none, with the reason in the log."""
    chosen = variant()
    for file in _files(chosen):
        try:
            library = ctypes.CDLL(str(file), mode=os.RTLD_NOW)
        except OSError as e:
            log.warning("%s cannot be loaded (%s).", file, e)
            continue
        log.info("Kernels for this processor: %s", file)
        return _typed(library)
    return None


def functions(name: str) -> dict[str, Callable[..., None]]:
    """A kernel for each type it takes: by "f32" and "bf16"."""
    kernels = load()
    assert kernels is not None, "kernels are asked for where there are some"
    return {kind: getattr(kernels, f"{name}_{kind}") for kind in ("f32", "bf16")}


def build(chosen: Variant, target: Path) -> None:
    """Compiles a variant. Raises OSError where there is no compiler, or where it fails, with its words."""
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        raise OSError("no C++ compiler is on the path")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sources = [str(f) for f in sorted(SOURCES.glob("*.cpp"))]
    said = ""
    for threads in (("-fopenmp",), ()):  # one compiler knows no OpenMP: then the kernels use one thread
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            objects = [f"{folder}/{Path(s).stem}.o" for s in sources]
            flags = [*(f for f in _FLAGS if f != "-shared"), *chosen.flags, *threads]
            try:
                for source, made_object in zip(sources, objects, strict=True):
                    _run([compiler, *flags, "-c", source, "-o", made_object])
                # Linked without the compiler's own OpenMP: it would be a second one beside torch's, whose symbols
                # are there once torch is.
                _run([compiler, "-shared", *objects, "-o", str(made)])
            except subprocess.SubprocessError as e:
                said = str(getattr(e, "stderr", "") or e)[-2000:]
                continue
            made.replace(target)
            return
    raise OSError(f"{compiler} cannot compile the kernels: {said}")


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_S)


def _files(chosen: Variant) -> Iterator[Path]:
    """Where the library may be, best first; the last is made when it is asked for."""
    ahead = BUILT / f"{chosen.name}.so"
    if ahead.is_file():
        yield ahead
    target = _cache_folder() / f"{chosen.name}-{_digest(chosen)}.so"
    if not target.is_file():
        log.info("Building kernels for this processor, once; it takes some ten seconds.")
        try:
            build(chosen, target)
        except OSError as e:
            log.warning("No kernels for this processor: %s. Plain operations are used; they are slower.", e)
            return
    if target.stat().st_uid != os.getuid():
        log.warning("%s belongs to another user and is not loaded.", target)
        return
    yield target


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inhouse" / "kernels"


def _digest(chosen: Variant) -> str:
    """What the library depends on: the sources, the flags and torch, whose threads it uses."""
    digest = hashlib.sha256(repr((_FLAGS, chosen.flags, torch.__version__)).encode())
    for file in sorted(SOURCES.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


_P, _N, _F, _T = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_LINEAR = [_P, _N, _P, _N, _P, _P, _N, _N, _N, _T]
_QUANTISED = [_P, _N, _P, _N, _P, _P, _P, _N, _N, _N, _T]
_DECODE = [_P] * 6 + [_N] * 7 + [_F, _F, _N, _P, _T]
_PREFILL = [_P] * 5 + [_N] * 7 + [_F, _F, _N, _P, _T]
_SIGNATURES = {
    "rms": [_P, _P, _P, _N, _P, _P, _N, _N, _N, _F],
    "gate": [_P, _P, _N, _N, _T],
    "rotate_and_write": [_P, _P, _N, _P, _N, _P, _N] + [_P] * 5 + [_N] * 4,
    "linear": _LINEAR,
    "linear_int8": _QUANTISED,
    "linear_int4": _QUANTISED,
    "decode_attention": _DECODE,
    "prefill_attention": _PREFILL,
    "grouped_lora": [_P, _N, _P, _N, _P, _P, _P, _P, _P, _P, _N, _N, _N, _T],
}


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, arguments in _SIGNATURES.items():
        for kind in ("bf16", "f32"):
            function = getattr(library, f"{name}_{kind}")
            function.argtypes, function.restype = arguments, None
    return library
