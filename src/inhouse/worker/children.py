"""A job in a process of its own, and the leash that ends it when its lease does.

It knows processes and clocks. What a job does, and what the store says of it, it does not know.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from inhouse.schema import Job

SERVE_ON_S = 60.0
"""How long an engine outlives its lease while the store is away. It publishes nothing that a twin could publish
twice, and the server knows its callers for as long (`server.threads.BELIEVED_S`)."""
LOOK_S = 0.1


@dataclass(slots=True)
class Child:
    """A job running in a process of its own. Times are the worker's clock's, in seconds."""

    job: Job
    process: subprocess.Popen[bytes]
    renew_at: float
    lease_ends: float
    is_stopping: bool = field(default=False)
    """Told to end so that another base can have its slot, or ended with its lease: no fault of the job's."""

    @property
    def ends_by(self) -> float:
        """When it must have ended unless its lease is renewed: from then on another worker may have the job."""
        return self.lease_ends + (SERVE_ON_S if self.job.kind == "serve" else 0.0)

    def kill(self) -> None:
        """Ends it at once, waits for that, and closes the pipe that tied it to us."""
        self.process.kill()
        self.process.communicate()


class Leash:
    """A thread that kills who outlives its lease, whatever the worker's own loop is waiting for.

    A cut network can hold a question to the store for minutes, and meanwhile the job is another's.
    """

    def __init__(self, children: Callable[[], Iterable[Child]], clock: Callable[[], float]) -> None:
        self._children = children
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leash", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def pull(self) -> None:
        """Kills those whose time is over. The worker's loop buries them."""
        for child in self._children():
            if self._clock() >= child.ends_by and child.process.poll() is None:
                child.is_stopping = True
                child.process.kill()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.pull()
