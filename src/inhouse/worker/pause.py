"""Whether a job's owner wants it to stop for now. It asks the store now and then, and stops nothing itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from inhouse.errors import Unavailable
from inhouse.jobs import queue
from inhouse.worker.context import Context
from inhouse.worker.patience import patiently

log = logging.getLogger(__name__)

ASK_S = 0.5
"""A step of a small model takes milliseconds, and the store has others to answer."""

AWAY_S = 10.0
"""A store that is away is asked again so much later: each time may hold a step up."""


class Pause:
    """Asked after every step; the store is asked twice a second at most."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ask_at = 0.0
        self._is_asked = False

    def is_asked(self) -> bool:
        """As of the last look, which is at most half a second old. A store that is away changes nothing."""
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + ASK_S
            try:
                self._is_asked = queue.is_pause_asked(
                    self._context.db, self._context.job.id, self._context.fence
                )
            except Unavailable as e:
                self._ask_at = time.monotonic() + AWAY_S
                log.warning("%s: nobody could be asked for a pause: %s", self._context.job.id, e.message)
        return self._is_asked

    def take(self, step: int, steps: int, say: Callable[[], None]) -> bool:
        """Put the job down after this step, whose checkpoint is durable. False: go on, nobody wants it to stop.

        `say` writes what the log still holds back: afterwards it takes no line of ours.
        """
        if not self._is_asked or step == steps:  # with its last step done, what is left is to publish
            return False
        said = f"Paused after step {step} of {steps}. Resumed, the job goes on from there."
        job, fence = self._context.job.id, self._context.fence
        say()
        self._is_asked = patiently(lambda: queue.put_down(self._context.db, job, fence, said))
        return self._is_asked
