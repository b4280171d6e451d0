"""How many files and sockets the system lets this process hold, and how many connections that makes.

It knows the system's limit and a reserve. A process that has none left cannot accept, answer or write, so connections
are turned away before that.
"""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # not a POSIX system: its limit is another, and far away
    resource = None  # type: ignore[assignment]

MOST_ASKED_FOR = 65_536
"""Tens of thousands of streams; some systems refuse to be asked for no limit at all."""
RESERVED = 128
"""Kept for the database, files, the worker, and connections that are being turned away."""
EACH = 2
"""A stream holds its client's socket and one to the engine."""
FEWEST = 8


def raise_limit() -> None:
    """Asks for as many as this user may have: shells give 1,024 or fewer, which is 448 streams."""
    if resource is None:
        return  # type: ignore[unreachable]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_ASKED_FOR if hard == resource.RLIM_INFINITY else min(hard, MOST_ASKED_FOR)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """How many clients may be connected at once."""
    limit = MOST_ASKED_FOR
    if (
        resource is not None
        and (soft := resource.getrlimit(resource.RLIMIT_NOFILE)[0]) != resource.RLIM_INFINITY
    ):
        limit = soft
    return max(FEWEST, (limit - RESERVED) // EACH)
