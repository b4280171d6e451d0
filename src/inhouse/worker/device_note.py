"""Keeps the jobs of one worker on one kind of device: what "auto" found first, later jobs must find again.

Without it a driver that has gone would leave the processor as the best device, and a job of minutes would take
days with nobody told. It knows labels of devices, and no job.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from inhouse import device as devices
from inhouse.errors import InvalidRequest


class NoSuchDevice(InvalidRequest):
    """The setting names a device that no job of this worker has ever found."""

    code = "no_such_device"


def same_device(setting: str, note: Path) -> None:
    """Writes down which device the setting means here, if nobody has. Raises DeviceLost if it means another now, or
    none any more, NoSuchDevice if it never meant one, and OSError where the note cannot be written."""
    try:
        found = devices.pick(setting).label
    except InvalidRequest as e:
        if not note.exists():
            raise NoSuchDevice(
                f"{e.message} Set device to one of these, or to auto, and restart the worker.", param="device"
            ) from e
        raise devices.DeviceLost(e.message) from e
    note.parent.mkdir(parents=True, exist_ok=True)
    fresh = note.with_name(f"{note.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        fresh.write_text(found, encoding="utf-8")
        os.link(fresh, note)  # the first of several that start at once decides
    except FileExistsError:
        before = note.read_text(encoding="utf-8")
        if before != found:
            raise devices.DeviceLost(
                f"This worker's jobs ran on {before}, which is gone: {found} is what is left, and nobody asked for it."
            ) from None
    finally:
        fresh.unlink(missing_ok=True)
