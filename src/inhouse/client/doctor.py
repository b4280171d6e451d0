"""What this machine has and lacks: Python, settings, the data folder, a server, the workshop's devices.

It knows how to look. Devices are looked for by a worker process, so that this one needs no torch.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inhouse import __version__
from inhouse.client import local
from inhouse.settings import Settings

LOW_SPACE_BYTES = 2 * 2**30
WORKER_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `cure` says what to do when `state` is not good."""

    what: str
    state: Literal["good", "note", "bad"]
    found: str
    cure: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    yield Finding("python", "good", f"{platform.python_version()} ({sys.executable}), inhouse {__version__}")
    yield _data_folder(settings.data_dir)
    running = local.find(settings)
    yield _server(running)
    yield _serving(settings, running)
    yield from _workshop(settings)


def _data_folder(folder: Path) -> Finding:
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            "data folder", "bad", f"{folder} cannot be written", "Choose another: INHOUSE_DATA_DIR=/path"
        )
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / 2**30:.1f} GiB free"
    if free < LOW_SPACE_BYTES:
        return Finding("data folder", "note", found, "Checkpoints and adapters need room: free some space.")
    return Finding("data folder", "good", found)


def _server(running: local.Running | None) -> Finding:
    if running is None:
        return Finding(
            "server", "note", "none runs for this data folder", "Client() starts one; so does: inhouse up"
        )
    return Finding("server", "good", f"{running.address.url} (process {running.pid})")


def _serving(settings: Settings, running: local.Running | None) -> Finding:
    """How bases are served: by the server that runs, which keeps what it began with, or by one started from here."""
    here = settings.serving()
    there = here if running is None else running.serving or here
    told = ", ".join(f"{name} {value}" for name, value in there.items())
    if running is None or there == here:
        return Finding("serving", "good", told)
    others = ", ".join(f"{name} {value}" for name, value in here.items() if there.get(name) != value)
    return Finding(
        "serving",
        "note",
        f"{told}; a server started from here would have {others}",
        f"The one that runs keeps what it began with. To change that, end it: kill {running.pid}",
    )


def _workshop(settings: Settings) -> Iterator[Finding]:
    """What `python -m inhouse.worker --doctor` says about devices."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "inhouse.worker", "--doctor"],
            env={**os.environ, **settings.environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WORKER_TIMEOUT_S,
            check=False,
        )
        report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        yield Finding(
            "workshop", "bad", f"did not answer within {WORKER_TIMEOUT_S} s", "Look at the devices' drivers."
        )
        return
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        yield Finding(
            "workshop", "bad", f"could not be asked: {last[:200]}", "Run: pip install 'inhouse[worker]'"
        )
        return
    if "error" in report:
        cure = str(report.get("cure", "pip install 'inhouse[worker]'"))
        yield Finding("workshop", "bad", f"{report['error']}: this machine can neither tune nor serve", cure)
        return
    yield Finding("workshop", "good", f"torch {report.get('torch')}, {report.get('threads')} threads")
    for device in report.get("devices", ()):
        yield Finding(f"device {device.get('label')}", "good", _device(device))
        for choice in device.get("kernels", ()):
            yield Finding(f"{choice['op']} on {device.get('label')}", "good", _kernel(choice))
    for failed in report.get("failed_probes", ()):
        yield Finding(
            f"device {failed.get('what')}",
            "note",
            str(failed.get("why")),
            "Fine if this machine has none; else install the torch build for it.",
        )


def _device(device: dict[str, Any]) -> str:
    parts = [str(device.get("name", ""))]
    if memory := device.get("memory_bytes"):
        parts.append(f"{memory / 2**30:.1f} GiB")
    if speed := device.get("matrix_tflops"):
        parts.append(
            f"matrix peak {speed:.2g} TFLOP/s in {device.get('dtype')}, as busy as the machine is now"
        )
    return ", ".join(part for part in parts if part)


def _kernel(choice: dict[str, Any]) -> str:
    """Which implementation an operation takes, and why none of the faster ones: torch (triton: not installed)."""
    passed_over = "; ".join(f"{other['name']}: {other['why']}" for other in choice["passed_over"])
    return f"{choice['name']} ({passed_over})" if passed_over else str(choice["name"])
