"""Starts a worker as a process of this machine, keeps its log bounded, and starts it again when it dies.

The worker's life hangs on its standard input: when this process goes, by whatever signal, the pipe closes and
the worker ends. It knows the worker only as a command; front of house never imports the workshop.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from inhouse.settings import Settings

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
SETTLED_S = 60.0
"""A worker that lived this long was healthy: the next backoff starts small again."""
PUMP_GRACE_S = 2.0
"""A process that left the worker's group may hold the log's pipe; nobody waits longer for it than this."""
LOG_BYTES = 8 * 2**20
"""The log is turned over at this size, and one older part is kept."""


class LocalLauncher:
    """One worker process of this machine. Call it from one thread at a time, `check` every second or so."""

    def __init__(
        self, settings: Settings, command: Sequence[str] | None = None, *, log_bytes: int = LOG_BYTES
    ) -> None:
        self._settings = settings
        self._command = list(command or (sys.executable, "-m", "inhouse.worker"))
        self._log_bytes = log_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._started_at = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._restart_at: float | None = None
        self.restarts = 0
        """Times that a worker that had died was started again."""

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and not _has_ended(self._process)

    @property
    def log_file(self) -> Path:
        return self._settings.log_dir / "worker.log"

    def start(self) -> None:
        """Start the worker, unless it runs."""
        if self.is_running:
            return
        self._bury()
        self._settings.log_dir.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._settings.environment()},
            start_new_session=True,  # Ctrl-C goes to the server, which then stops its worker in good order
        )
        assert self._process.stdout is not None
        self._pump = threading.Thread(
            target=_pump, args=(self._process.stdout, self.log_file, self._log_bytes), daemon=True
        )
        self._pump.start()
        self._started_at = time.monotonic()
        self._restart_at = None
        log.info("worker started, pid %d", self._process.pid)

    def check(self) -> bool:
        """Start a worker that died again, each time a little later. Returns whether one runs now."""
        if self._process is None or self.is_running:
            return self._process is not None
        now = time.monotonic()
        if self._restart_at is None:
            self._bury()  # at once: what the worker started must not live on beside its successor
            if now - self._started_at >= SETTLED_S:
                self._backoff_s = FIRST_BACKOFF_S
            self._restart_at = now + self._backoff_s
            log.warning("worker ended, started again in %.1f s; its log: %s", self._backoff_s, self.log_file)
            self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        if now < self._restart_at:
            return False
        self.start()
        self.restarts += 1
        return True

    def stop(self, grace_s: float) -> None:
        """End the worker: ask it, wait, then kill it and all that it started."""
        process = self._process
        if process is None:
            return
        if self.is_running:
            process.terminate()
            deadline = time.monotonic() + grace_s
            while not _has_ended(process) and time.monotonic() < deadline:
                time.sleep(0.02)
        self._bury()
        self._process = None

    def _bury(self) -> None:
        """Kill what is left of the worker's process group, reap the worker and close its pipes."""
        if self._process is None:
            return
        _kill_group(self._process)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._pump is not None:
            self._pump.join(PUMP_GRACE_S)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended, without reaping it: until then its group's number cannot be reused."""
    if process.returncode is not None:
        return True
    if os.name != "posix":
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return
    if os.name != "posix":
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("the worker's process group is gone")
    except PermissionError:  # macOS says so of a group that holds only a dead process
        log.debug("the worker's process group has ended")


def _pump(source: IO[bytes], file: Path, limit_bytes: int) -> None:
    """Copy what the worker says to its log. A full disk loses lines of the log, never the worker."""
    older = file.with_name(file.name + ".1")
    lost_bytes = 0
    with source:
        while chunk := os.read(source.fileno(), 65536):
            try:
                if file.exists() and file.stat().st_size + len(chunk) > limit_bytes:
                    file.replace(older)
                with file.open("ab") as out:
                    out.write(chunk)
            except OSError:
                lost_bytes += len(chunk)
    if lost_bytes:
        log.warning("%d bytes of the worker's log could not be written to %s", lost_bytes, file)
