"""A device that fails beneath a job, a memory that is too small: one process ends, and the job goes on elsewhere."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inhouse import device as devices
from inhouse.store.records import workers
from inhouse.worker import device_note
from inhouse.worker import main as worker_module
from tests.faults.workshop import Workshop, script, working
from tests.house.house import until

STEPS = {"epochs": 4, "batch_size": 4, "checkpoint_every": 5}


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control: no fence"])
def test_a_device_that_fails_twice_is_fenced_off_and_the_job_ends_elsewhere(
    is_guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 39: at step 3 the device is lost; process and job start again, and after two faults not there."""
    if not is_guarded:
        monkeypatch.setattr(worker_module, "MAX_DEVICE_FAULTS", 10**6)
    shop = Workshop(tmp_path)
    job = shop.submit(**STEPS)
    broken = script("failing_device", tmp_path, 3, 99)
    with working(shop.settings, command=broken) as worker:
        if not is_guarded:
            assert shop.ended(job).error and shop.job(job).error.code == "crashed"  # type: ignore[union-attr]
            return
        until(lambda: worker.device_faults == 2, "two faults", 150)
        until(lambda: shop.job(job).state == "queued", "the job is given back")
        assert not worker.children
        noted = until(lambda: fences(shop), "it is noted at once")
        assert noted == {worker.name: worker.fenced} and job in worker.fenced and "doctor" in worker.fenced
        other = replace(shop.settings, device="cpu")
        with working(other) as healthy:
            assert shop.ended(job).state == "succeeded"
            assert healthy.device_faults == 0
    said = [e.message for e in shop.log(job) if "the device failed" in e.message]
    assert len(said) == 2
    assert "uncorrectable ECC error encountered" in said[0], "what the device said is passed on"
    assert len(shop.published()) == 1


def fences(shop: Workshop) -> dict[str, str]:
    """Workers that take no more jobs, and why, as the store knows them."""
    with shop.db.read() as conn:
        return {row.id: row.fenced for row in workers.all(conn) if row.fenced}


def test_a_device_that_never_was_there_costs_no_job_and_its_worker_says_so(tmp_path: Path) -> None:
    """A wrong setting is no lost device: one attempt tells, and every job waits for a worker that has one."""
    shop = Workshop(tmp_path)
    job = shop.submit(epochs=1)
    with working(replace(shop.settings, device="nothing:7")) as worker:
        noted = until(lambda: fences(shop), "it is noted", 60)
        assert noted == {worker.name: worker.fenced}
        assert "'nothing:7' is not on its machine" in worker.fenced and "to auto" in worker.fenced
        assert worker.device_faults == 0
        assert (shop.job(job).state, shop.job(job).attempts) == ("queued", 0)
        with working(shop.settings):
            assert shop.ended(job).state == "succeeded"
    (said,) = [e.message for e in shop.log(job) if "nothing:7" in e.message]
    assert "is not on this machine" in said and "Set device to" in said


def test_a_fault_of_long_ago_fences_nothing_off(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    now = 0.0
    worker = worker_module.Worker(shop.settings, shop.db, clock=lambda: now)
    job = shop.job(shop.submit())
    worker._device_failed(job)
    now = worker_module.FAULT_KEPT_S + 1
    worker._device_failed(job)
    assert (worker.device_faults, worker.fenced) == (1, "")
    worker._device_failed(job)
    assert worker.device_faults == 2 and worker.fenced


def test_after_one_fault_the_job_goes_on_from_its_checkpoint_on_the_same_device(tmp_path: Path) -> None:
    """Fault 39: one fault costs a process, not the device, and not what was learnt before the last checkpoint."""
    shop = Workshop(tmp_path)
    job = shop.submit(**STEPS)
    with working(shop.settings, command=script("failing_device", tmp_path, 8, 1)) as worker:
        assert shop.ended(job).state == "succeeded"
        assert worker.device_faults == 1
    steps = [e.data["step"] for e in shop.log(job) if "step" in e.data]
    assert 1 not in steps[steps.index(5) + 1 :], "it began anew"


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control: no note"])
def test_what_began_on_a_device_never_goes_on_silently_on_the_processor(
    is_guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 39: when the device is gone, `auto` would mean the processor; the worker's note of it says otherwise."""
    shop = Workshop(tmp_path)
    with working(shop.settings) as worker:
        if is_guarded:
            worker.device_note.parent.mkdir(parents=True, exist_ok=True)
            worker.device_note.write_text("sim:0")
        job = shop.submit(**STEPS)
        if is_guarded:
            until(lambda: worker.device_faults == 2, "both attempts are refused", 150)
            assert shop.job(job).state in ("queued", "running")
            assert shop.step_of(job) == 0
        else:
            assert shop.ended(job).state == "succeeded"


def test_the_first_process_decides_which_device_it_is(tmp_path: Path) -> None:
    """Fault 39: processes that start at once agree; a device that is gone is lost, one that never was is not."""
    note = tmp_path / "run" / "device"
    threads = [threading.Thread(target=device_note.same_device, args=("auto", note)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert note.read_text() == devices.pick("auto").label
    assert [f.name for f in note.parent.iterdir()] == ["device"]
    with pytest.raises(devices.DeviceLost, match="not on this machine"):
        device_note.same_device("nothing:7", note)
    with pytest.raises(device_note.NoSuchDevice, match="not on this machine"):
        device_note.same_device("nothing:7", note.with_name("another"))
    note.write_text("nothing:7")
    with pytest.raises(devices.DeviceLost, match="is gone"):
        device_note.same_device("auto", note)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("HIP error: the operation cannot be performed in the present state"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error: in a user's text"), False),
    ],
)
def test_an_error_of_a_device_is_told_from_an_error_of_a_job(error: Exception, is_lost: bool) -> None:
    """Fault 39: by what torch raises, and what the vendors' libraries say."""
    assert devices.is_lost(error) is is_lost


WIDE = {"hidden_size": 256, "intermediate_size": 4096, "num_attention_heads": 4, "num_key_value_heads": 4}
ROOM_BYTES = 550 * 2**20
"""Enough for half of what the job would hold at once, and not for all of it."""


@pytest.mark.parametrize(
    ("room_bytes", "retry", "state", "halved"),
    [
        (ROOM_BYTES, "retry", "succeeded", 1),
        (ROOM_BYTES // 3, "retry", "failed", 1),
        (ROOM_BYTES, "no-retry", "failed", 0),
    ],
    ids=["half fits", "half does not fit either", "control: no second try"],
)
def test_a_job_that_runs_out_of_memory_is_tried_once_more_with_half_the_tokens(
    room_bytes: int, retry: str, state: str, halved: int, tmp_path: Path
) -> None:
    """Fault 15: only the job's process dies; half the tokens at a time may do, else it fails with advice."""
    shop = Workshop(tmp_path, **WIDE)
    long = "A long answer, so that there is much to hold: {} " + "x" * 100
    job = shop.submit(64, answer=long, epochs=1, batch_size=64)
    with working(shop.settings, command=script("small_memory", room_bytes, retry)) as worker:
        ended = shop.ended(job)
        assert worker.device_faults == 0
    said = [e.message for e in shop.log(job)]
    assert ended.state == state, said
    assert sum("memory ran out. Once more, with half" in m for m in said) == halved, said
    if state == "failed":
        assert ended.error is not None and ended.error.code == "out_of_memory"
        assert "batch_size" in ended.error.message
    else:
        assert any("2048 tokens at a time, half as many" in m for m in said)
