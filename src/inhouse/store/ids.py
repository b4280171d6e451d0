"""Opaque ids: a prefix that names the noun, and 24 random characters.

It knows no noun's meaning. An id holds no time, no counter and no path, so nothing can be guessed from one.
"""

from __future__ import annotations

import secrets
import string

ALPHABET = string.ascii_letters + string.digits
LENGTH = 24
_UNDERSCORED = ("key", "proj", "svc_acct", "batch", "resp", "msg", "fc", "fco")


def new(prefix: str) -> str:
    """A fresh id, as `file-…` for "file" and `key_…` for "key"."""
    return prefix + ("_" if prefix in _UNDERSCORED else "-") + _random(LENGTH)


def tuned_model(base: str, project: str, suffix: str) -> str:
    """A fresh name for a tuned model: `ft:base:project:suffix:8 characters`. An empty suffix leaves `::`."""
    return f"ft:{base}:{project}:{suffix}:{_random(8)}"


def _random(length: int) -> str:
    """Characters drawn at once: a draw for each would be a call of the system for each."""
    number = secrets.randbelow(len(ALPHABET) ** length)
    drawn = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        drawn.append(ALPHABET[digit])
    return "".join(drawn)
