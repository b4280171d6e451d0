"""Threads that work on rows, a bundle at a time, with no more rows under way than there are places.

It knows threads, places and order; what a row asks, and of whom, is its work's to know.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from inhouse.client.replies import Asked, Reply
from inhouse.errors import InhouseError

Given = tuple[Future[Reply], Asked]
"""A row, and where its reply is waited for."""


class Crew:
    """Nobody waits for these threads, not even the end of the process."""

    def __init__(
        self,
        places: int,
        most: int,
        work: Callable[[Sequence[Asked]], Iterator[tuple[int, Reply]]],
        *,
        may_share: Callable[[Asked, Asked], bool],
        at_end: Callable[[], None],
    ) -> None:
        """At most `places` rows are under way, at most `most` in a bundle; `work` tells each row's reply as it comes.

        `may_share` says whether two rows may be in one bundle. As many threads as places: each of them may have one
        row left that takes long.
        """
        self._work = work
        self._most = most
        self._may_share = may_share
        self._at_end = at_end
        self._given: SimpleQueue[Given | None] = SimpleQueue()
        self._held: deque[Given] = deque()
        """Taken from the queue, and of another kind than the bundle before."""
        self._turn = threading.Lock()
        """Whose turn it is to take rows: so they begin in their order, and no bundle is overtaken by smaller ones."""
        self._freed = threading.Condition()
        self._free = places
        self._is_over = False
        self._threads = places
        for _ in range(places):
            threading.Thread(target=self._run, name="generate", daemon=True).start()

    def give(self, row: Asked) -> Future[Reply]:
        """The row's reply, later."""
        future: Future[Reply] = Future()
        self._given.put((future, row))
        return future

    def dismiss(self, unwanted: Iterable[Future[Reply]]) -> None:
        """Lets each thread go when it has done what it does; what is not begun is left."""
        for future in unwanted:
            future.cancel()
        with self._freed:
            self._is_over = True
            self._freed.notify_all()
        self._given.put(None)

    def _run(self) -> None:
        try:
            while (taken := self._take()) is not None:
                self._do(taken)
        finally:
            with self._freed:
                self._threads -= 1
                is_last = not self._threads
            if is_last:
                self._at_end()

    def _take(self) -> list[Given] | None:
        """The next bundle, once there are places for all its rows; None: go."""
        with self._turn:
            first = self._held.popleft() if self._held else self._given.get()
            if first is None:
                self._given.put(None)  # for the next thread
                return None
            taken = [first]
            while len(taken) < self._most:
                try:
                    following = self._given.get_nowait()
                except Empty:
                    break
                if following is None:
                    self._given.put(None)
                    break
                if not self._may_share(first[1], following[1]):
                    self._held.append(following)
                    break
                taken.append(following)
            with self._freed:
                self._freed.wait_for(lambda: self._is_over or self._free >= len(taken))
                taken = [given for given in taken if given[0].set_running_or_notify_cancel()]
                self._free -= len(taken)
        return taken

    def _do(self, taken: list[Given]) -> None:
        left = dict(enumerate(future for future, _ in taken))
        try:
            for at, reply in self._work([row for _, row in taken]) if taken else ():
                self._leave(1)
                left.pop(at).set_result(reply)
        except InhouseError as error:
            self._fail(left, error)
        except BaseException as error:
            self._fail(left, error)  # whoever waits must not wait for ever
            raise

    def _fail(self, left: dict[int, Future[Reply]], error: BaseException) -> None:
        self._leave(len(left))
        for future in left.values():
            future.set_exception(error)

    def _leave(self, places: int) -> None:
        with self._freed:
            self._free += places
            self._freed.notify()
