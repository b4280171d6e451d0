"""A stream's steps, made in other processes before they are asked for: an accelerator outruns one core's writing.

Steps are pure functions of their number, so it does not matter who makes them. It knows nothing of what is in them.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor

from inhouse.data.examples import Example
from inhouse.data.loader import Source

_source: Source
"""In each maker process, the source it makes steps of."""


class Ahead:
    """The same steps as the source that `make` gives, best asked for in order."""

    def __init__(self, make: Callable[[], Source], steps: int, *, processes: int) -> None:
        self.steps = steps
        self._depth = 2 * processes
        self._pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(make,)
        )
        self._waiting: deque[tuple[int, Future[list[Example]]]] = deque()

    def at(self, step: int) -> list[Example]:
        if not self._waiting or self._waiting[0][0] != step:
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
        next_ = self._waiting[-1][0] + 1 if self._waiting else step
        for later in range(next_, min(self.steps, step + self._depth)):
            self._waiting.append((later, self._pool.submit(_at, later)))
        return self._waiting.popleft()[1].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _begin(make: Callable[[], Source]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _source  # a pool's initializer has no other way to leave something behind
    _source = make()


def _end_with_parent() -> None:
    """A parent that is killed cannot close the pool, and a maker that waits for work would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a maker is somebody's child"
    parent.join()
    os._exit(1)


def _at(step: int) -> list[Example]:
    return list(_source.at(step))
