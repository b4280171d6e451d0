"""A process that answers a line with a line, within limits, so that what ends it ends nothing else.

It knows pipes, clocks and limits; what is asked is the business of the module that runs in the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from inhouse.system import limit_memory

PIECE_BYTES = 2**20
OWN_ERROR = 1
"""Exit code of a process that ended by an error which nobody foresaw."""
OVER_MEMORY = 70
"""Exit code of a process that was refused memory."""
END_S = 2.0
"""How long a process may take to end that has closed its output."""


class LimitedProcess:
    """`python -m MODULE`, started when it is first asked, and again after its end. Threads take turns."""

    def __init__(self, module: str) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self._module = module

    def ask(self, question: Any, wait_s: float) -> Any:
        """Its answer. Raises EOFError(exit code) where the process ended over it, TimeoutError where it stood still for
        `wait_s`: then it is ended, too."""
        line = json.dumps(question).encode() + b"\n"
        with self.lock:
            try:
                return json.loads(_exchange(self._running(), line, time.monotonic() + wait_s))
            except EOFError:
                raise EOFError(self._end(of_itself=True)) from None
            except TimeoutError:
                self._end()
                raise

    def close(self) -> None:
        """Ends the process; a later question starts another."""
        with self.lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self._end()
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
            os.set_blocking(
                _open(self.process.stdin), False
            )  # one that stands still takes no more than a pipe holds
        return self.process

    def _end(self, *, of_itself: bool = False) -> int:
        """Ends the process, or sees it end; returns its exit code, below 0 where a signal ended it."""
        code = 0
        if self.process is not None:
            if of_itself:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(END_S)
            self.process.kill()
            code = self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None
        return code


def _exchange(process: subprocess.Popen[bytes], line: bytes, deadline: float) -> bytes:
    """The process's line to this one. Raises EOFError, TimeoutError."""
    to, back = _open(process.stdin), _open(process.stdout)
    rest = memoryview(line)
    while rest:
        _wait(to, select.POLLOUT, deadline)
        try:
            rest = rest[os.write(to, rest[:PIECE_BYTES]) :]
        except BrokenPipeError:
            raise EOFError from None
    told = bytearray()
    while not told.endswith(b"\n"):
        _wait(back, select.POLLIN, deadline)
        piece = os.read(back, PIECE_BYTES)
        if not piece:
            raise EOFError
        told += piece
    return bytes(told)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _open(pipe: IO[bytes] | None) -> int:
    assert pipe is not None, "it was started with pipes"
    return pipe.fileno()


# ── in the process ────────────────────────────────────────────────────────────────────────────────────────


def answer_lines(answer: Callable[[Any], Any], *, cpu_s: float, memory_bytes: int) -> None:
    """Answers each line of standard input until it ends. An answer that takes more than `cpu_s` of the processor, or
    `memory_bytes` more than the process has now, ends the process instead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, whose end closes the input
    limit_memory(memory_bytes)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # whose signal ends the process
        try:
            told = json.dumps(answer(json.loads(line)))
        except MemoryError:
            os._exit(OVER_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(told + "\n")
        sys.stdout.flush()
