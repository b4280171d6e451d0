"""Every kernel compiled to machine code for every target, without a device.

What is compiled is what would be launched: the wrappers run on the CPU with a launcher that writes down the kernel,
its arguments and its tiles, which the target's own numbers decide. Shared memory a block: NVIDIA, CUDA C++ programming
guide, table of compute capabilities; AMD, ISA documents of CDNA and RDNA (LDS a work group).
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inhouse.device import device as devices
from inhouse.ops import Groups, Past

if sys.platform != "linux":
    pytest.skip("Triton has builds for Linux alone: no kernel is compiled here", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from inhouse.ops.triton import attention, gate, launch, lora, norm, rotary


@dataclass(frozen=True)
class Target:
    """A kind of device, and what a program may hold there."""

    backend: str
    arch: int | str
    lanes: int
    shared_kib: int
    processors: int

    def __str__(self) -> str:
        return str(self.arch) if self.backend == "hip" else f"sm_{self.arch}"


TARGETS = [
    Target("cuda", 80, 32, 163, 108),
    Target("cuda", 89, 32, 99, 58),
    Target("cuda", 90, 32, 227, 132),
    Target("cuda", 100, 32, 227, 148),
    Target("cuda", 120, 32, 99, 170),
    Target("hip", "gfx90a", 64, 64, 104),
    Target("hip", "gfx942", 64, 64, 304),
    Target("hip", "gfx950", 64, 160, 256),
    Target("hip", "gfx1100", 32, 64, 48),
    Target("hip", "gfx1151", 32, 64, 20),
    Target("hip", "gfx1201", 32, 64, 32),
]
MATRIX = {
    "sass": re.compile(r"\b(HMMA|HGMMA|UTCHMMA)\b"),
    "ptx": re.compile(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)"),
    "amdgcn": re.compile(r"\b(v_mfma|v_wmma)_"),
}
POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
MOST_THREADS = 1024
TIGHTEST = ("sm_89", "gfx1201")
"""The least shared memory and the fewest registers: kernels are compiled in every shape for these."""
DOTS = {"shrink_kernel", "expand_kernel", "decode_kernel"}


@dataclass(frozen=True)
class Launch:
    kernel: Any
    arguments: tuple[Any, ...]
    warps: int
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    def source(self) -> Any:
        """As Triton would specialise it: multiples of 16 are known as such, ones are constants."""
        names = self.kernel.arg_names
        signature: dict[str, str] = {}
        constants: dict[tuple[int, ...], Any] = {}
        attributes: dict[tuple[int, ...], list[list[Any]]] = {}
        for at, (name, value) in enumerate(zip(names, self.arguments, strict=False)):
            if isinstance(value, torch.Tensor):
                signature[name] = POINTERS[value.dtype]
            elif isinstance(value, float):
                signature[name] = "fp32"
            elif value == 1:
                signature[name], constants[(at,)] = "constexpr", 1
            else:
                signature[name] = "i32"
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value > 1 and value % 16 == 0):
                attributes[(at,)] = [["tt.divisibility", 16]]
        for name, value in self.constants.items():
            signature[name], constants[(names.index(name),)] = "constexpr", value
        return ASTSource(self.kernel, signature, constants, attributes)


def launches(target: Target, patch: pytest.MonkeyPatch, *, every_shape: bool) -> list[Launch]:
    """What the wrappers would launch on the target, for shapes of a model of common size and the largest tiles; with
    every shape, also for small tiles, wide heads, and attention with all its options."""
    written: list[Launch] = []

    def write_down(
        kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int = launch.WARPS, **constants: Any
    ) -> None:
        assert all(n > 0 for n in grid)
        written.append(Launch(kernel, arguments, warps, constants))

    here = devices.describe(torch.device("cpu"))
    able = replace(
        here.capabilities,
        triton=True,
        processors=target.processors,
        shared_memory_bytes=target.shared_kib * 1024,
        warp_width=target.lanes,
        max_threads=MOST_THREADS,
    )
    patch.setattr(launch, "describe", lambda _: replace(here, capabilities=able))
    for module in (attention, gate, lora, norm, rotary):
        patch.setattr(module, "launch", write_down)

    def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    def integers(*shape: int) -> torch.Tensor:
        return zeros(*shape, dtype=torch.int32)

    for count, longest, highest in ((8, 64, 64), (32, 1, 16), (8, 16, 16))[: 3 if every_shape else 2]:
        groups = Groups(
            integers(count * longest), integers(count + 1), integers(count), integers(count), longest, highest
        )
        a, b = zeros(512, 2048), zeros(512, 512)
        lora.grouped_lora(zeros(512, 512), zeros(512, 2048), a, b, groups)
    for heads, width, options in (
        (32, 128, {}),
        (16, 256, {"window": 512, "cap": 50.0, "sinks": zeros(16)}),
    )[: 2 if every_shape else 1]:
        store = zeros(8193, 8, width)
        past = Past(integers(2, 256), integers(2), 16, 4096, 8192)
        attention.decode_attention(zeros(2, heads, width), store, store, past, scale=0.1, **options)
    qkv = zeros(8, 48, 128)
    turn = zeros(8, 1, 64, dtype=torch.float32)
    store = zeros(64, 8, 128)
    rotary.rotate_and_write(
        *qkv.split((32, 8, 8), 1), (turn, turn), store, store, zeros(8, dtype=torch.int64)
    )
    if every_shape:  # a quarter of a head turns
        few = turn[..., :16]
        rotary.rotate_and_write(
            *qkv.split((32, 8, 8), 1), (few, few), store, store, zeros(8, dtype=torch.int64)
        )
    norm.norm(zeros(8, 4096), zeros(8, 4096), zeros(4096), 1e-5)
    if every_shape:
        norm.norm(qkv, None, zeros(128), 1e-5)
    gate.silu_mul(zeros(8, 8192))
    return written


def sass_of(cubin: bytes, folder: Path) -> str:
    """Machine code as text; empty where the disassembler is not there."""
    try:
        tool = triton.knobs.nvidia.cuobjdump.path
    except (AttributeError, RuntimeError):
        return ""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    return subprocess.run([tool, "-sass", file], capture_output=True, text=True, check=True).stdout


def frame_bytes(cubin: bytes) -> int:
    """The stack of a kernel, from its .nv.info section: attributes of (form, kind, size, symbol and value)."""
    (table,), (entry, count, names) = (
        struct.unpack_from(f, cubin, at) for f, at in (("<Q", 40), ("<3H", 58))
    )
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + i * entry) for i in range(count)]
    text = sections[names]
    for name, _, _, _, offset, size, *_ in sections:
        label = cubin[text[4] + name :].split(b"\0", 1)[0]
        if label != b".nv.info":
            continue
        at = offset
        while at < offset + size:
            form, kind, length = struct.unpack_from("<BBH", cubin, at)
            if (form, kind) == (4, 0x11):  # EIATTR_FRAME_SIZE
                return int(struct.unpack_from("<I", cubin, at + 8)[0])
            at += 4 + (length if form == 4 else 0)
    raise AssertionError("the artefact does not say how large its stack is")


def spills(target: Target, asm: Any, folder: Path) -> list[str]:
    """Signs that registers did not suffice. A stack alone is none: a call may keep its return there."""
    if target.backend == "cuda":
        if not frame_bytes(asm["cubin"]):
            return []
        return re.findall(r"\b(?:STL|LDL)\b", sass_of(asm["cubin"], folder))
    found = re.findall(
        r"\.(?:vgpr_spill_count|sgpr_spill_count|private_segment_fixed_size):\s*\d+", asm["amdgcn"]
    )
    assert found, "the assembly does not say what it spills"
    return [words for words in found if not words.endswith(" 0")]


def matrix_instructions(target: Target, asm: Any, folder: Path) -> list[str]:
    """The matrix unit's instructions: in machine code where it can be read, else in the compiler's last step."""
    if target.backend == "cuda":
        sass = sass_of(asm["cubin"], folder)
        return MATRIX["sass"].findall(sass) if sass else MATRIX["ptx"].findall(asm["ptx"])
    return MATRIX["amdgcn"].findall(asm["amdgcn"])


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_kernels_compile_and_fit(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    written = launches(target, monkeypatch, every_shape=str(target) in TIGHTEST)
    assert {one.name for one in written} == {
        name
        for module in (attention, gate, lora, norm, rotary)
        for name in vars(module)
        if name.endswith("_kernel")
    }
    for one in written:
        compiled = triton.compile(
            one.source(),
            target=GPUTarget(target.backend, target.arch, target.lanes),
            options={"num_warps": one.warps, "num_stages": launch.STAGES},
        )
        if one.name in DOTS:
            assert matrix_instructions(target, compiled.asm, tmp_path), f"{one.name} uses no matrix unit"
        shared = compiled.metadata.shared
        assert shared <= target.shared_kib * 1024, f"{one.name} takes {shared} bytes of shared memory"
        assert one.warps * target.lanes <= MOST_THREADS
        assert not (words := spills(target, compiled.asm, tmp_path)), f"{one.name} spills: {words}"


def test_a_kernel_that_spills_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: tiles twice as large, for the devices with the fewest registers and for one with a stack."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(lora, "MOST_ROWS", 128)
    monkeypatch.setattr(lora, "depth", lambda *_: 128)
    for target in (t for t in TARGETS if str(t) in TIGHTEST):
        one = launches(target, monkeypatch, every_shape=False)[0]
        source = replace(one, constants=one.constants | {"block_rows": 128, "block_ranks": 128}).source()
        compiled = triton.compile(
            source,
            target=GPUTarget(target.backend, target.arch, target.lanes),
            options={"num_warps": 2, "num_stages": launch.STAGES},
        )
        assert spills(target, compiled.asm, tmp_path)
