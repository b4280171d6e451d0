"""One line and one count for each reply: which route, which status, how long, how much, for whom.

It knows what a reply looked like from outside: no query, no body, no header.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from starlette.types import Scope

if TYPE_CHECKING:
    from inhouse.server.metrics import Metrics

log = logging.getLogger("inhouse.access")

LONGEST_PATH = 200
NO_ROUTE = "none"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Access:
    """Tells the log and the numbers of every reply."""

    def __init__(self, metrics: Metrics, quiet: frozenset[str]) -> None:
        """quiet  paths that are asked all the time: their good replies are told at the level debug"""
        self.metrics = metrics
        self.quiet = quiet

    def note(
        self, scope: Scope, *, status: int | None, sent_bytes: int, started: float, is_gone: bool
    ) -> None:
        """After the last byte. status is None where nothing was answered; `started` in monotonic seconds."""
        took_s = time.monotonic() - started
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self.metrics.reply(route=route, method=method, status=status, took_s=took_s)
        state, path = scope["state"], scope["path"][:LONGEST_PATH]
        caller = state.get("caller")
        is_quiet = path in self.quiet and status is not None and status < 400
        log.log(
            logging.DEBUG if is_quiet else logging.INFO,
            "%s %s %s in %.0f ms",
            method,
            path,
            "client gone" if is_gone else status,
            took_s * 1000,
            extra={
                "request_id": state["request_id"],
                "project": getattr(caller, "project", None),
                "key": getattr(caller, "key", None),
                "method": method,
                "path": path,
                "status": status,
                "duration_ms": round(took_s * 1000, 1),
                "bytes_sent": sent_bytes,
                "outcome": "client gone" if is_gone else None,
            },
        )
