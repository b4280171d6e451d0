"""A process of its own that renders chat templates which nobody vouches for.

A template comes with a checkpoint and is a program. Jinja's sandbox holds what it may reach; within it a loop can still
take minutes and a concatenation the memory of everything else that this machine answers. Here it takes this process at
most. Templates whose digest is known are rendered where they are needed, and pay nothing (`is_trusted`).
"""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from typing import Any

from inhouse.errors import BadCheckpoint, EngineOverloaded, InternalError, InvalidRequest
from inhouse.text.limited import OWN_ERROR, LimitedProcess, answer_lines
from inhouse.text.sandbox import Template

CPU_S = 1.0
"""What one text may take. Templates of today's bases take milliseconds for the longest conversations."""
WAIT_S = 10.0
"""What it may take by the clock: nothing but a machine without time to spare needs so long for a second."""
MEMORY_BYTES = 64 * 2**20
"""What one text may add to the process, the conversation and the text itself included."""
TEMPLATES_KEPT = 8
"""Compiled in the process. A worker has one base at a time."""

TRUSTED = frozenset(
    {
        "9fc5c8b38b1d4c62296fc31a1676d0135c5dcccfc58441edf81fc84c249bb356",  # bases/seedling
        "61feacf0179f9489063fb15ecc4acfaace9829543b4c30a75f3d6608b40fc4c8",  # template.PLAIN
    }
)
"""SHA-256 of the templates that we have read: the embedded base's, and the plain one for bases without any."""


def digest_of(source: str) -> str:
    """By which a template is trusted: SHA-256 of its text, in UTF-8."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def is_trusted(source: str, more: Collection[str] = ()) -> bool:
    """Whether a template may be rendered where it is needed: its digest is among ours, or among `more`."""
    digest = digest_of(source)
    return digest in TRUSTED or digest in more


class Guarded:
    """As `sandbox.Template`, in the other process."""

    def __init__(self, source: str) -> None:
        """Raises BadCheckpoint for what is no Jinja, or takes too much to compile."""
        self._source = source
        told = _ask(source, None)
        if told is None:
            raise BadCheckpoint(f"The chat template takes more than {_LIMITS} to compile. Use another base.")
        if "invalid" in told:
            raise BadCheckpoint(told["invalid"])

    def render(self, variables: Mapping[str, Any]) -> str:
        """Its text with these JSON values. Raises InvalidRequest where it refuses them or takes too much,
        EngineOverloaded where that is not known in time."""
        told = _ask(self._source, variables)
        if told is None:
            raise InvalidRequest(
                f"The base's chat template takes more than {_LIMITS} for this conversation. Send a shorter one.",
                param="messages",
            )
        if "refused" in told:
            raise InvalidRequest(told["refused"], param="messages")
        return told["text"]


_LIMITS = f"{CPU_S:g} s or {MEMORY_BYTES // 2**20} MB"


@cache
def shared() -> LimitedProcess:
    """The one of this process; it ends with it."""
    child = LimitedProcess("inhouse.text.renderer")
    atexit.register(child.close)
    return child


def _ask(source: str, variables: Mapping[str, Any] | None) -> dict[str, str] | None:
    """What the other process makes of it; None where it came to a limit over it."""
    try:
        told: dict[str, str] = shared().ask([source, variables], WAIT_S)
        return told
    except EOFError as ended:
        if ended.args == (OWN_ERROR,):
            raise InternalError(
                "The process that writes conversations out ended by an error of its own, not over this conversation. "
                "Look whether the installation is whole: `python -m inhouse.text.renderer` must wait for its input."
            ) from None
        return None
    except TimeoutError:
        raise EngineOverloaded(
            f"The conversation could not be written out within {WAIT_S:g} s: the machine is busy. Try again shortly.",
            retry_after_s=WAIT_S,
        ) from None


# ── in the process ────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Answers [source, variables] with the text, or why there is none. Without variables it only compiles."""
    answer_lines(_written, cpu_s=CPU_S, memory_bytes=MEMORY_BYTES)


def _written(asked: tuple[str, dict[str, Any] | None]) -> dict[str, str]:
    source, variables = asked
    try:
        template = _compiled(source)
        return {"text": "" if variables is None else template.render(variables)}
    except BadCheckpoint as error:
        return {"invalid": error.message}
    except InvalidRequest as error:
        return {"refused": error.message}


@lru_cache(TEMPLATES_KEPT)
def _compiled(source: str) -> Template:
    return Template(source)


if __name__ == "__main__":
    main()
