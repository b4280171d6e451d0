"""A job's process on the simulated device, which fails at a step: FOLDER STEP TIMES, then what every child is given.

It fails in as many processes as TIMES says, which are counted in FOLDER; after that the device is sound.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from inhouse.worker import child
from tests.device.simulated import accelerator

EACH_STEP = "aten::linalg_vector_norm"
"""What training asks once a step: how long the gradient is."""


def fail_at(step: int) -> None:
    """From the step's gradient on, the device answers nothing but its error."""
    sound = accelerator.run
    seen = 0

    def run(func: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += func._schema.name == EACH_STEP
        if seen >= step:
            raise torch.AcceleratorError("sim error: uncorrectable ECC error encountered")
        return sound(func, *args, **kwargs)

    accelerator.run = run


if __name__ == "__main__":
    folder, step, times, job_id, fence, note = sys.argv[1:]
    accelerator.install()
    torch.accelerator.synchronize = lambda device=None: (
        None
    )  # it has no queue to wait for, and says so as an error
    failures = Path(folder) / "failures"
    failed = len(failures.read_text().splitlines()) if failures.exists() else 0
    if failed < int(times):
        with failures.open("a") as file:
            file.write(f"{job_id} {fence}\n")
        fail_at(int(step))
    sys.exit(child.main(job_id, int(fence), Path(note)))
