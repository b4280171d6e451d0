"""Tells a device that has failed from a job that has.

It knows what torch and the vendors' libraries say when they lose a device; it knows neither jobs nor workers.
"""

from __future__ import annotations

import torch

from inhouse.errors import InhouseError

_SAID = (
    "CUDA error",
    "HIP error",
    "hipError",
    "device-side assert",
    "device lost",
    "DEVICE_LOST",
    "ECC error",
)
"""Words of errors after which nothing more can be done on the device by this process."""


class DeviceLost(InhouseError):
    """The device that the jobs of this worker run on has failed or is gone."""

    code = "device_lost"


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the device has failed. A full memory is no failure."""
    if isinstance(error, DeviceLost):
        return True
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return False
    said = str(error)
    return "out of memory" not in said and (
        isinstance(error, torch.AcceleratorError) or any(word in said for word in _SAID)
    )
