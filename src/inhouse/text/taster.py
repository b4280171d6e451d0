"""A process of its own that tries grammars before the engine takes them.

A grammar may be made to overflow the stack, fill the memory or take minutes to build, and the library that builds it
cannot be interrupted. So each new one is built here first, with less of everything than the engine has: what ends or
outlasts this process is refused, and costs nobody else anything. It knows no requests and no vocabulary.
"""

from __future__ import annotations

import atexit
import threading
from functools import cache

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from inhouse.errors import EngineOverloaded
from inhouse.text.limited import LimitedProcess, answer_lines

CPU_S = 1.0
"""What building a grammar may take. The largest honest schemas take a third of it."""
WAIT_S = 10.0
"""What it may take by the clock. Nothing but a machine without time or memory to spare needs so long for a second."""
MEMORY_BYTES = 512 * 2**20
"""What building may add to the process."""
STACK_BYTES = 2 * 2**20
"""A quarter of what threads usually have: the engine's own build finds more room than the trial did."""


MAX_LEXER_STATES = 20_000
"""About 2 kB each (llguidance's documentation), kept as long as the grammar is."""

FIRST_STEPS = 8
"""Bytes of a reply that are tried: what has too many alternatives shows behind the first bracket."""
MOST_FORCED = 8192
"""Bytes that may have to come next, without a choice. Each step reads all of them: some 4 ms for so many."""


def parser_limits() -> LLParserLimits:
    """What one grammar may take of the library, at building and at each step; its other defaults are right for us:
    a step's mask ends within some 20 ms, whatever the grammar."""
    return LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)


class Taster:
    """Says of grammars whether they can be built. Safe to use from several threads, which take turns."""

    def __init__(self) -> None:
        self.child = LimitedProcess("inhouse.text.taster")

    def taste(self, grammar: str) -> str | None:
        """Why the grammar cannot be taken; None where it can. Raises EngineOverloaded where that is not known in time,
        which says nothing about the grammar."""
        try:
            fault: str | None = self.child.ask(grammar, WAIT_S)
            return fault
        except EOFError:
            return f"it takes more than {CPU_S:g} s, or too much memory, to build. Make it smaller."
        except TimeoutError:
            raise EngineOverloaded(
                f"The format could not be tried within {WAIT_S:g} s: the machine is busy. Try again shortly.",
                retry_after_s=WAIT_S,
            ) from None

    def close(self) -> None:
        """Ends the process; a later taste starts another."""
        self.child.close()


@cache
def shared() -> Taster:
    """The one of this process; it ends with it."""
    taster = Taster()
    atexit.register(taster.close)
    return taster


# ── in the process ────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Answers each line of standard input, a grammar, with what is wrong with it, or null; ends with the input."""
    threading.stack_size(STACK_BYTES)
    bytes_only = LLTokenizer("byte")

    def taste(grammar: str) -> str | None:
        told: list[str | None] = []
        work = threading.Thread(target=lambda: told.append(_fault(grammar, bytes_only)))
        work.start()
        work.join()
        return told[0]

    answer_lines(taste, cpu_s=CPU_S, memory_bytes=MEMORY_BYTES)


def _fault(grammar: str, tokenizer: LLTokenizer) -> str | None:
    """What goes wrong in building the grammar, or in its first steps."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits())
    for _ in range(FIRST_STEPS):
        if matcher.is_stopped():
            break
        if (forced := len(matcher.compute_ff_bytes())) > MOST_FORCED:
            return f"it leaves no choice for {forced:,} bytes on end, and {MOST_FORCED:,} are the most"
        bits = int.from_bytes(matcher.compute_bitmask(), "little")
        lowest = (bits & -bits).bit_length() - 1
        if lowest < 0 or not matcher.consume_token(lowest):
            break
    return matcher.get_error() or None


if __name__ == "__main__":
    main()
