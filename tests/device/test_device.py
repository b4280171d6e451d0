"""What is here is found, the CPU always and last; what is not is refused with the list."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from inhouse import device as devices
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


def test_doctor_tells_devices_and_a_measured_product() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inhouse.worker", "--doctor"], capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    assert report["devices"][-1]["label"] == "cpu"
    assert report["devices"][-1]["matrix_gflops"] > 0
