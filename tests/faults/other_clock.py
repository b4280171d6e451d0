"""Processes whose time of day is off, while the seconds that the machine has run stay what they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("other_clock.c")
CURE = "Install a C compiler (Debian: apt-get install gcc libc6-dev)."


class OtherClock:
    """A time of day for processes that start with `variables`; `set` moves it while they run."""

    def __init__(self, folder: Path, off_by_s: int = 0) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            reason = f"no C compiler on this machine. {CURE}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        self._library = folder / "other_clock.so"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE)]
        subprocess.run(command, check=True)
        self._offset = folder / "offset"
        self.set(off_by_s)

    def set(self, off_by_s: int) -> None:
        """Moves the clock by this much from the true time, at once."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(f"{off_by_s}\n")
        fresh.replace(self._offset)

    @property
    def variables(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET_FILE": str(self._offset)}
