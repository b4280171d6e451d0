"""What is here is found, the CPU always and last; what is not is refused with the list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from inhouse import device as devices
from inhouse import ops
from inhouse.device.device import _accelerator_capabilities
from inhouse.errors import InvalidRequest


def test_the_cpu_is_always_there_and_last() -> None:
    found = devices.discover()
    cpu = found.devices[-1]
    assert (cpu.type, cpu.label) == ("cpu", "cpu")
    assert 0 < cpu.free_bytes <= cpu.total_bytes
    assert devices.pick("cpu") == devices.pick(cpu.label)


def test_a_machine_without_accelerator_says_why() -> None:
    found = devices.discover()
    if len(found.devices) > 1:
        pytest.skip("this machine has an accelerator")
    assert found.failures and all(what and why for what, why in found.failures)
    assert devices.pick("auto").type == "cpu"


def test_a_device_that_is_not_here_is_refused_with_what_is() -> None:
    with pytest.raises(InvalidRequest, match=r"not on this machine. Found: .*cpu"):
        devices.pick("quantum:0")


def test_the_type_of_weights_follows_the_setting_and_else_the_hardware() -> None:
    cpu = devices.pick("cpu")
    assert cpu.dtype("float32") is torch.float32
    assert cpu.dtype("bfloat16") is torch.bfloat16
    assert cpu.dtype() is (torch.bfloat16 if cpu.capabilities.fast_bfloat16 else torch.float32)
    with pytest.raises(InvalidRequest, match="float64"):
        cpu.dtype("float64")


def test_doctor_tells_devices_and_a_product_measured_as_a_job_would() -> None:
    environment = {**os.environ, "INHOUSE_THREADS": "3", "INHOUSE_DTYPE": "float32"}
    done = subprocess.run(
        [sys.executable, "-m", "inhouse.worker", "--doctor"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    report = json.loads(done.stdout)
    assert report["threads"] == 3 and report["devices"][-1]["dtype"] == "float32"
    assert report["devices"][-1]["label"] == "cpu"
    cpu = report["devices"][-1]
    assert cpu["matrix_tflops"] > 0
    assert [choice["op"] for choice in cpu["kernels"]] == list(ops.kernels.operations)
    (gate,) = (choice for choice in cpu["kernels"] if choice["op"] == "gate")
    assert any(other["name"] == "triton" and other["why"] for other in gate["passed_over"])


def test_doctor_refuses_a_setting_that_names_no_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inhouse.worker", "--doctor"],
        env={**os.environ, "INHOUSE_KERNELS": "fastest"},
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert "'fastest' names none that is known" in report["error"] and report["cure"]


def test_a_device_describes_itself_by_what_its_back_end_calls_things() -> None:
    """Three spellings of the same numbers; what a back end does not say is not claimed."""
    one = SimpleNamespace(
        multi_processor_count=132,
        warp_size=32,
        shared_memory_per_block=49_152,
        shared_memory_per_block_optin=232_448,
    )
    other = SimpleNamespace(
        multi_processor_count=304,
        warp_size=64,
        shared_memory_per_block=65_536,
        shared_memory_per_block_optin=0,
        max_threads_per_block=1024,
    )
    third = SimpleNamespace(gpu_subslice_count=64, local_mem_size=131_072, max_work_group_size=1024)
    module = SimpleNamespace(is_bf16_supported=lambda: True)
    found = [
        _accelerator_capabilities(kind, module, properties)
        for kind, properties in (("cuda", one), ("cuda", other), ("xpu", third), ("strange", None))
    ]
    assert [c.processors for c in found] == [132, 304, 64, 1]
    assert [c.warp_width for c in found] == [32, 64, 1, 1]
    assert [c.shared_memory_bytes for c in found] == [232_448, 65_536, 131_072, 0]
    assert [c.max_threads for c in found] == [1024, 1024, 1024, 1]
    assert [c.grouped_products for c in found] == [True, True, False, False]
    assert not (found[3].triton or found[3].graphs or found[3].compile)


def test_the_memory_of_a_device_is_asked_anew() -> None:
    free, total = devices.memory(torch.device("cpu"))
    assert 0 < free <= total
    assert devices.pick("cpu").memory[1] == total
