"""What is done to the house: its processes killed and frozen, its database ended, its disk filled; by a seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos.history import History
from tests.house.house import House
from tests.postgres import Cluster

DISK_BYTES = 512 * 2**20
SPARE_BYTES = 2**16


class Disk:
    """A small file system for the data folder, where this process may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.is_small = folder.is_mount() or self._mounted()

    def _mounted(self) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        with (self.folder / "ballast").open("ab", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(b"\0" * SPARE_BYTES)

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.is_small:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


class Harm:
    """Hurts one thing at a time, notes it, and mends what does not mend itself."""

    def __init__(
        self, house: House, history: History, disk: Disk, cluster: Cluster | None, random_: random.Random
    ) -> None:
        self.house = house
        self.history = history
        self.disk = disk
        self.cluster = cluster
        self.random = random_
        self.kinds: dict[str, Callable[[], None]] = {
            "server killed": self.kill_server,
            "worker killed": lambda: self._kill("-m inhouse.worker ", "worker killed"),
            "job killed": lambda: self._kill("worker.child ftjob", "job killed"),
            "engine killed": lambda: self._kill("worker.child job-", "engine killed"),
            "worker frozen": self.freeze_worker,
            "server frozen": self.freeze_server,
        }
        if disk.is_small:
            self.kinds["disk full"] = self.fill_disk
        if cluster is not None:
            self.kinds["database killed"] = self.kill_database
            self.kinds["database frozen"] = self.freeze_database

    def one(self) -> str:
        what = self.random.choice(sorted(self.kinds))
        self.kinds[what]()
        return what

    def kill_server(self) -> None:
        self.house.kill()
        self._note("server killed")
        self.house.start()

    def freeze_worker(self) -> None:
        """Worker and jobs stand still for longer than their lease, and wake."""
        pids = [*self.house.below("-m inhouse.worker "), *self.house.below("worker.child ftjob")]
        lease_s = float(str(self.house.settings["lease_s"]))
        self._freeze(pids, lease_s * self.random.uniform(0.5, 2.0), "worker frozen")

    def freeze_server(self) -> None:
        assert self.house.process is not None
        self._freeze([self.house.process.pid], self.random.uniform(0.2, 2.0), "server frozen")

    def freeze_database(self) -> None:
        assert self.cluster is not None
        self._freeze(self.cluster.pids(), self.random.uniform(0.2, 4.0), "database frozen")

    def kill_database(self) -> None:
        assert self.cluster is not None
        began = time.time()
        self.cluster.stop(signal.SIGKILL)
        time.sleep(self.random.uniform(0.0, 3.0))
        self.cluster.start()
        self._note("database killed", began)

    def fill_disk(self) -> None:
        began = time.time()
        self.disk.fill()
        time.sleep(self.random.uniform(0.5, 3.0))
        self.disk.free()
        self._note("disk full", began)

    def _kill(self, whom: str, what: str) -> None:
        for pid in self.house.below(whom):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._note(what)

    def _freeze(self, pids: list[int], for_s: float, what: str) -> None:
        began = time.time()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(for_s)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._note(what, began)

    def _note(self, what: str, began: float | None = None) -> None:
        until = None if began is None else time.time()
        self.history.note("harm", what=what, began=began, until=until)
