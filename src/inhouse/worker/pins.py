"""Tells a running engine which adapters are pinned, as often as that changes.

The store is the one place where pins are: an engine that starts again, and every engine of a base, finds them there,
and so does a version in the moment in which it is published.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType

from inhouse.engine.faults import around_request
from inhouse.schema import EngineFault
from inhouse.store.db import Database
from inhouse.store.records import pins

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the store is looked at: a small query."""
AGAIN_S = 60.0
"""How often an engine is told what did not change: it gave up what it could not load."""


class Pins:
    """A thread that looks at the store while the `with` block runs."""

    def __init__(
        self,
        db: Database,
        base: str,
        *,
        most_rows: int,
        rows_of: Callable[[str], int],
        keep: Callable[[Mapping[str, int]], None],
    ) -> None:
        """most_rows  rank rows that may be pinned
        rows_of    those of an adapter, by its digest; raises where it cannot be served
        keep       is told all that are to be kept, with their rank rows, whenever that changes"""
        self._db = db
        self._base = base
        self._most_rows = most_rows
        self._rows_of = rows_of
        self._keep = keep
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pins", daemon=True)

    def __enter__(self) -> Pins:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        told: tuple[str, ...] = ()
        told_at = time.monotonic()
        while not self._ended.is_set():
            pinned = around_request("pins", self._pinned)  # whatever happens: pins must not end for good
            if isinstance(pinned, EngineFault):
                log.warning("the pins could not be read, and stay as they were: %s", pinned.message)
            else:
                is_due = bool(pinned) and time.monotonic() - told_at >= AGAIN_S
                if pinned != told or is_due:
                    self._keep(self._fitting(pinned))
                    told, told_at = pinned, time.monotonic()
            self._ended.wait(LOOK_S)

    def _pinned(self) -> tuple[str, ...]:
        """Digests of the pinned adapters, the longest pinned first."""
        with self._db.read() as conn:
            found = pins.all(conn, self._base)
        return tuple(dict.fromkeys(pin.card.digest for pin in found if pin.card.digest is not None))

    def _fitting(self, pinned: tuple[str, ...]) -> dict[str, int]:
        """Those that fit into what may be pinned, in their order, with their rank rows. The others are told in the log:
        a new version may be larger than the one it takes over from, or this engine's arena smaller."""
        wants: dict[str, int] = {}
        for digest in pinned:
            rows = around_request("pins", partial(self._rows_of, digest))
            if isinstance(rows, EngineFault):
                log.warning("adapter %s is pinned and cannot be served: %s", digest[:12], rows.message)
                continue
            if sum(wants.values()) + rows <= self._most_rows:
                wants[digest] = rows
            else:
                log.warning(
                    "adapter %s is pinned, and its %d rank rows go beyond the %d that may be: it comes and goes like "
                    "any other. Unpin one, or raise adapter_rows.",
                    digest[:12],
                    rows,
                    self._most_rows,
                )
        return wants
