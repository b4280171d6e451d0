"""The compiled kernels: found beside this file, or in the cache, or built there once where a compiler is.

It knows compilers, processors' flags and files; it does not know what a kernel computes. Without a compiler, and on a
processor that no build fits, there are no kernels, and the plain operations do their work.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from inhouse.device import Device, cpu_flags
from inhouse.ops.cpu.compile import VARIANTS, Variant, build, compiler, file_name

__all__ = [
    "VARIANTS",
    "build",
    "compiler",
    "fitting",
    "functions",
    "load",
    "obstacle",
    "open_library",
    "variant",
]

log = logging.getLogger(__name__)

BUILT = Path(__file__).parent / "built"
"""Where a wheel carries what was built ahead."""


def fitting() -> list[Variant]:
    """The builds that this processor runs, best first."""
    flags = cpu_flags()
    return [v for v in VARIANTS if v.needs <= flags]


def variant() -> Variant:
    """The best of them."""
    return fitting()[0]


@cache
def load() -> ctypes.CDLL | None:
    """The kernels; None where there are none, with the reason in the log."""
    chosen = variant()
    ahead = BUILT / file_name(chosen)
    if ahead.is_file() and (library := _opened(ahead)) is not None:
        return library
    try:
        folder = _private(_cache_folder())
        target = folder / file_name(chosen)
        if target.is_file() and (library := _opened(target)) is not None:
            return library
        log.info("Building kernels for this processor, once; it takes some ten seconds.")
        build(chosen, target)
    except OSError as e:
        log.warning("No kernels for this processor: %s. Plain operations are used; they are slower.", e)
        return None
    return _opened(target)


def _opened(file: Path) -> ctypes.CDLL | None:
    """None where it is damaged, as a power cut may leave it; then it is built anew."""
    try:
        library = open_library(file)
    except (OSError, AttributeError) as e:
        log.warning("%s cannot be loaded (%s).", file, e)
        return None
    log.info("Kernels for this processor: %s", file)
    return library


def _private(folder: Path) -> Path:
    """The folder, made where it is not there. Raises OSError where somebody else could put a library into it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OSError(f"{folder} belongs to another user, or others may write to it: make it yours alone")
    return folder


def obstacle(device: Device) -> str:
    """What stands against the kernels on a device."""
    if device.type != "cpu":
        return "not a processor"
    return "" if load() is not None else "no kernels are built, and there is no compiler that could"


def open_library(file: Path) -> ctypes.CDLL:
    """A built library, its functions' arguments known. Raises OSError."""
    library = ctypes.CDLL(str(file), mode=os.RTLD_NOW)
    for name, arguments in _SIGNATURES.items():
        for kind in ("bf16", "f32"):
            function = getattr(library, f"{name}_{kind}")
            function.argtypes, function.restype = arguments, None
    return library


def functions(name: str) -> dict[str, Callable[..., None]]:
    """A kernel for each type it takes: by "f32" and "bf16"."""
    kernels = load()
    assert kernels is not None, "kernels are asked for where there are some"
    return {kind: getattr(kernels, f"{name}_{kind}") for kind in ("f32", "bf16")}


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inhouse" / "kernels"


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
    "step": [_P, _P, _N, _P],
    "grouped_lora": [_P, _N, _P, _N, _P, _P, _P, _P, _P, _P, _N, _N, _N, _T],
}
