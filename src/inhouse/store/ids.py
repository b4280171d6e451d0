"""Opaque ids: a prefix that names the noun, and 24 random characters.

It knows no noun's meaning. An id holds no time, no counter and no path, so nothing can be guessed from one.
"""

from __future__ import annotations

import secrets
import string

ALPHABET = string.ascii_letters + string.digits
LENGTH = 24
_CHECKPOINT = ":ckpt-step-"
_UNDERSCORED = ("key", "proj", "svc_acct", "batch", "resp", "msg", "fc", "fco", "we", "wh", "evt")


def new(prefix: str) -> str:
    """A fresh id, as `file-…` for "file" and `key_…` for "key"."""
    return prefix + ("_" if prefix in _UNDERSCORED else "-") + _random(LENGTH)


def tuned_model(base: str, project: str, suffix: str, job: str | None = None) -> str:
    """A fresh name for a tuned model: `ft:base:project:suffix:8 characters`. An empty suffix leaves `::`.

    With the id of its job the same name each time: checkpoints bear it before the model is there.
    """
    return f"ft:{base}:{project}:{suffix}:{job[-8:] if job else _random(8)}"


def checkpoint(model: str, step: int) -> str:
    """The name of a tuned model as it was after a step."""
    return f"{model}{_CHECKPOINT}{step}"


def is_checkpoint(model: str) -> bool:
    """Whether a model's name is a checkpoint's: no base's name and no suffix holds a colon."""
    return _CHECKPOINT in model


def _random(length: int) -> str:
    """Characters drawn at once: a draw for each would be a call of the system for each."""
    number = secrets.randbelow(len(ALPHABET) ** length)
    drawn = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        drawn.append(ALPHABET[digit])
    return "".join(drawn)
