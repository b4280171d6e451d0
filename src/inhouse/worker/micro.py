"""How many tokens an attempt reads at a time: half as many once memory has run out, and half only once.

The note lies in the job's own folder, which outlives attempts. It knows no task.
"""

from __future__ import annotations

import logging

from inhouse.schema import TuneSpec
from inhouse.worker.context import Context

log = logging.getLogger(__name__)

NOTE = "half-the-tokens"


def halve(context: Context) -> bool:
    """Has the next attempt read half as many tokens at a time. False: it already was half, or nothing is to halve."""
    if context.job.kind != "tune" or TuneSpec.model_validate(context.job.spec).method == "memory":
        return False
    try:
        (context.scratch / NOTE).touch(exist_ok=False)
    except OSError as e:
        log.info("%s: no smaller attempt: %s", context.job.id, e)
        return False
    return True


def is_halved(context: Context) -> bool:
    return (context.scratch / NOTE).exists()
