"""Waits for a store that is away. The worker ends whoever waits beyond the lease, so there is no other end to it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from inhouse.errors import StoreBusy

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0


def jittered(wait_s: float) -> float:
    """About as long, but no two workers alike: those that lost one store must not come back to it in step."""
    return wait_s * random.uniform(0.5, 1.5)


def patiently(work: Callable[[], T]) -> T:
    """What `work` returns once the store answers; each wait is longer, and never as long as a neighbour's.

    `work` is one transaction that may be done again: an answer can be lost on its way after the store has
    written. The fence tells then (LeaseLost: the job has ended), or a line of the log is there twice.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return work()
        except StoreBusy as e:
            log.warning("the store is away (%s); trying again", e)
            time.sleep(jittered(wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
