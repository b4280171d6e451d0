"""Finds the devices of this machine and says what each can do.

It knows vendors and their torch names; it knows nothing of models. Discovery is lazy (never at import) and
keeps every probe that failed with its reason, so that `inhouse doctor` can show why a device is missing.
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from inhouse.device.graphs import can_capture
from inhouse.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do, as facts that code may branch on instead of on a vendor's name."""

    fast_bfloat16: bool
    """A matrix unit for bfloat16: without one, float32 is the faster choice."""
    matrix_unit: str
    """What multiplies matrices: amx, avx512_bf16, avx512, tensor cores, ... or unknown."""
    graphs: bool = False
    """Whether a sequence of launches can be captured once and replayed."""
    triton: bool = False
    """Whether Triton compiles for it, or interprets on it."""
    compile: bool = False
    """Whether torch.compile has a back end for it."""
    grouped_products: bool = False
    """Whether torch multiplies many pairs of matrices of different heights in one launch, on the device alone."""
    processors: int = 1
    """Independent units that programs of a kernel are spread over."""
    shared_memory_bytes: int = 0
    """What the programs of a kernel may hold beside registers; 0 where kernels have none."""
    warp_width: int = 1
    """Lanes that step together."""
    max_threads: int = 1
    """Lanes that one program may have."""


@dataclass(frozen=True, slots=True)
class Device:
    """One place where tensors live. `type` is torch's word, `vendor` is who made it: two vendors share one type."""

    vendor: str
    type: str
    index: int
    name: str
    total_bytes: int
    free_bytes: int
    capabilities: Capabilities

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.type) if self.type == "cpu" else torch.device(self.type, self.index)

    @property
    def label(self) -> str:
        """The word `pick` takes: cpu, or the type with its index."""
        return "cpu" if self.type == "cpu" else f"{self.type}:{self.index}"

    def dtype(self, setting: str = "auto") -> torch.dtype:
        """The type for frozen weights: what the setting names, else bfloat16 where it is the faster one."""
        if setting == "auto":
            return torch.bfloat16 if self.capabilities.fast_bfloat16 else torch.float32
        if setting not in ("float32", "bfloat16"):
            raise InvalidRequest(f"dtype = {setting!r} is not float32, bfloat16 or auto.", param="dtype")
        return torch.float32 if setting == "float32" else torch.bfloat16

    @property
    def memory(self) -> tuple[int, int]:
        """Free and total bytes as of now; zeros where nobody knows."""
        return memory(self.torch_device)

    def synchronize(self) -> None:
        """Waits for queued work, so that a clock read after it tells the truth."""
        if self.type != "cpu":
            torch.accelerator.synchronize(self.torch_device)


@dataclass(frozen=True, slots=True)
class Discovery:
    """Devices found, best first, and the probes that failed: (what was tried, why it did not work)."""

    devices: tuple[Device, ...]
    failures: tuple[tuple[str, str], ...]


def discover() -> Discovery:
    """Every usable device: accelerators that torch can reach first, the CPU always last."""
    devices: list[Device] = []
    failures: list[tuple[str, str]] = []
    accelerator = torch.accelerator.current_accelerator(check_available=False)
    if accelerator is None:
        failures.append(("accelerator", f"this build of torch ({torch.__version__}) supports none"))
    elif not torch.accelerator.is_available():
        failures.append((accelerator.type, "torch supports it, but finds no usable device or driver"))
    else:
        for index in range(torch.accelerator.device_count()):
            try:
                devices.append(_accelerator(accelerator.type, index))
            except RuntimeError as e:
                failures.append((f"{accelerator.type}:{index}", str(e).splitlines()[0]))
    devices.append(_cpu())
    return Discovery(tuple(devices), tuple(failures))


def pick(setting: str = "auto") -> Device:
    """The device a setting names; auto is the first found. Raises InvalidRequest listing what there is."""
    found = discover()
    if setting == "auto":
        return found.devices[0]
    for device in found.devices:
        if setting in (device.label, device.type):
            return device
    labels = ", ".join(d.label for d in found.devices)
    reasons = "".join(f" {what}: {why}." for what, why in found.failures)
    raise InvalidRequest(
        f"device = {setting!r} is not on this machine. Found: {labels}.{reasons}", param="device"
    )


@lru_cache(maxsize=64)
def describe(device: torch.device) -> Device:
    """The device behind one of torch's, such as a tensor's: what it was like when it was first asked for."""
    return _cpu() if device.type in ("cpu", "meta") else _accelerator(device.type, device.index or 0)


def memory(device: torch.device) -> tuple[int, int]:
    """Free and total bytes of a device as of now; zeros where nobody knows."""
    if device.type in ("cpu", "meta"):
        return _host_memory()
    module: Any = getattr(torch, device.type, None)
    if not hasattr(module, "mem_get_info"):
        return 0, 0
    free, total = module.mem_get_info(device.index or 0)
    return int(free), int(total)


def _accelerator(kind: str, index: int) -> Device:
    module: Any = getattr(torch, kind, None)
    properties = module.get_device_properties(index) if hasattr(module, "get_device_properties") else None
    free, total = memory(torch.device(kind, index))
    vendor = {"cuda": "amd" if torch.version.hip else "nvidia", "xpu": "intel", "mps": "apple"}.get(
        kind, kind
    )
    return Device(
        vendor=vendor,
        type=kind,
        index=index,
        name=getattr(properties, "name", kind),
        total_bytes=int(total or getattr(properties, "total_memory", 0)),
        free_bytes=int(free),
        capabilities=_accelerator_capabilities(kind, module, properties),
    )


def _accelerator_capabilities(kind: str, module: Any, properties: Any) -> Capabilities:
    """What torch says of the device. What it does not say is not claimed: an unknown device gets plain torch."""
    bf16 = bool(getattr(module, "is_bf16_supported", lambda: False)())
    known = kind in ("cuda", "xpu")
    return Capabilities(
        fast_bfloat16=bf16,
        matrix_unit="tensor cores" if bf16 else "unknown",
        graphs=can_capture(kind),
        triton=known and find_spec("triton") is not None,
        compile=known and find_spec("triton") is not None,
        grouped_products=kind == "cuda" and bf16 and hasattr(torch, "_grouped_mm"),
        processors=_first(properties, 1, "multi_processor_count", "gpu_subslice_count"),
        shared_memory_bytes=_first(
            properties, 0, "shared_memory_per_block_optin", "shared_memory_per_block", "local_mem_size"
        ),
        warp_width=_first(properties, 1, "warp_size"),
        max_threads=_first(properties, 1024 if known else 1, "max_threads_per_block", "max_work_group_size"),
    )


def _first(properties: Any, otherwise: int, *names: str) -> int:
    """The first of several spellings of a number that the properties have."""
    return next((int(n) for name in names if (n := getattr(properties, name, None))), otherwise)


def _cpu() -> Device:
    free, total = memory(torch.device("cpu"))
    return Device(
        vendor=platform.machine(),
        type="cpu",
        index=0,
        name=_cpu_name(),
        total_bytes=total,
        free_bytes=free,
        capabilities=_cpu_capabilities(),
    )


def _cpu_capabilities() -> Capabilities:
    return Capabilities(
        *_cpu_matrix_unit(), triton=_is_interpreted(), compile=shutil.which("g++") is not None
    )


def _is_interpreted() -> bool:
    """Whether Triton was told to run its kernels on the CPU, step by step: slow, and right for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None


def _cpu_matrix_unit() -> tuple[bool, str]:
    """Whether bfloat16 is fast, and what multiplies."""
    flags = cpu_flags()
    if "amx_bf16" in flags:
        return True, "amx"
    if "avx512_bf16" in flags:
        return True, "avx512_bf16"
    if "bf16" in flags:  # Arm's own flag
        return True, "bf16"
    for unit in ("avx512f", "avx2"):
        if unit in flags:
            return False, unit
    return False, "unknown"


def cpu_flags() -> frozenset[str]:
    """What the processor says that it can do, in the words of its own; empty where the system does not say."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as f:
            for line in f:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass  # no /proc on this system: nothing is claimed
    return frozenset()


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as f:
            for line in f:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # no /proc on this system
    return platform.processor() or platform.machine()


def _host_memory() -> tuple[int, int]:
    """Available and total bytes of this machine; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
        return kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024
    except (OSError, KeyError, ValueError):
        pass  # no /proc on this system
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page // 2, os.sysconf("SC_PHYS_PAGES") * page
    except (ValueError, OSError, AttributeError):
        return 0, 0
