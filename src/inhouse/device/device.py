"""Finds the devices of this machine and says what each can do.

It knows vendors and their torch names; it knows nothing of models. Discovery is lazy (never at import) and
keeps every probe that failed with its reason, so that `inhouse doctor` can show why a device is missing.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from inhouse.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do, as facts that code may branch on instead of on a vendor's name."""

    fast_bfloat16: bool
    """A matrix unit for bfloat16: without one, float32 is the faster choice."""
    matrix_unit: str
    """What multiplies matrices: amx, avx512_bf16, avx512, tensor cores, ... or unknown."""


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


def _accelerator(kind: str, index: int) -> Device:
    module = getattr(torch, kind)
    properties = module.get_device_properties(index)
    free, total = module.mem_get_info(index) if hasattr(module, "mem_get_info") else (0, 0)
    vendor = {"cuda": "amd" if torch.version.hip else "nvidia", "xpu": "intel", "mps": "apple"}.get(
        kind, kind
    )
    bf16 = bool(getattr(module, "is_bf16_supported", lambda: False)())
    return Device(
        vendor=vendor,
        type=kind,
        index=index,
        name=getattr(properties, "name", kind),
        total_bytes=int(total or getattr(properties, "total_memory", 0)),
        free_bytes=int(free),
        capabilities=Capabilities(fast_bfloat16=bf16, matrix_unit="tensor cores" if bf16 else "unknown"),
    )


def _cpu() -> Device:
    total, free = _host_memory()
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
    flags = cpu_flags()
    if "amx_bf16" in flags:
        return Capabilities(True, "amx")
    if "avx512_bf16" in flags:
        return Capabilities(True, "avx512_bf16")
    if "bf16" in flags:  # Arm's own flag
        return Capabilities(True, "bf16")
    for unit in ("avx512f", "avx2"):
        if unit in flags:
            return Capabilities(False, unit)
    return Capabilities(False, "unknown")


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
    """Total and available bytes of this machine; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
        return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError):
        pass  # no /proc on this system
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page // 2
    except (ValueError, OSError, AttributeError):
        return 0, 0
