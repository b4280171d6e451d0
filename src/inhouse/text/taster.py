"""A process of its own that tries grammars before the engine takes them.

A grammar may be made to overflow the stack, fill the memory or take minutes to build, and the library that builds it
cannot be interrupted. So each new one is built here first, with less of everything than the engine has: what ends or
outlasts this process is refused, and costs nobody else anything. It knows no requests and no vocabulary.
"""

from __future__ import annotations

import atexit
import json
import resource
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from inhouse.errors import EngineOverloaded

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
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def taste(self, grammar: str) -> str | None:
        """Why the grammar cannot be taken; None where it can. Raises EngineOverloaded where that is not known in time,
        which says nothing about the grammar."""
        with self._lock:
            told, is_late = self._ask(json.dumps(grammar) + "\n")
            if is_late:
                self._end()
                raise EngineOverloaded(
                    f"The format could not be tried within {WAIT_S:g} s: the machine is busy. Try again shortly.",
                    retry_after_s=WAIT_S,
                )
            if told:
                fault: str | None = json.loads(told)
                return fault
            self._end()
            return f"it takes more than {CPU_S:g} s, or too much memory, to build. Make it smaller."

    def close(self) -> None:
        """Ends the process; a later taste starts another."""
        with self._lock:
            self._end()

    def _ask(self, line: str) -> tuple[str, bool]:
        """The process's line to this one, nothing where it ended, and whether it was ended for taking too long."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None, "it was started with pipes"
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            process.kill()

        clock = threading.Timer(WAIT_S, end)  # a process that stands still takes no line, and gives none
        clock.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            told = process.stdout.readline()
        except BrokenPipeError:
            told = ""
        finally:
            clock.cancel()
            clock.join()
        return told, is_late.is_set()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inhouse.text.taster"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@cache
def shared() -> Taster:
    """The one of this process; it ends with it."""
    taster = Taster()
    atexit.register(taster.close)
    return taster


# ── in the process ────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Answers each line of standard input, a grammar, with what is wrong with it, or null; ends with the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, whose end closes the input
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    threading.stack_size(STACK_BYTES)
    bytes_only = LLTokenizer("byte")
    for line in sys.stdin:
        grammar = json.loads(line)
        told: list[str | None] = []
        work = threading.Thread(target=lambda g=grammar, to=told: to.append(_fault(g, bytes_only)))
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # whose signal ends the process
        work.start()
        work.join()
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(told[0]) + "\n")
        sys.stdout.flush()


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


def _limit_memory() -> None:
    """Not every system can; the other limits hold there all the same."""
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    main()
