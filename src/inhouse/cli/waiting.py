"""Says what a question waits for, once it has waited a while: a base that is loaded, others before it, the first word.

It knows what a server says of a model and how to tell it to people; it asks the model nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from inhouse.cli.terminal import err
from inhouse.errors import InhouseError

if TYPE_CHECKING:
    from inhouse.client.model import Model, State

AFTER_S = 2.0
"""Whoever is answered sooner is told nothing."""
EVERY_S = 2.0
LEAVE_S = 1.0
"""How long the end of a question waits for what is just being asked about the model."""
FIRST_WORD = "the first word"


@contextmanager
def waiting(model: Model) -> Iterator[Callable[[], None]]:
    """Tells on stderr what keeps a question to the model, until the function it gives is called."""
    answered = threading.Event()
    with err.status(f"waiting for {FIRST_WORD}", spinner="line") as status:

        def stop() -> None:
            answered.set()
            status.stop()

        def watch() -> None:
            told = FIRST_WORD if err.is_terminal else ""
            wait_s = AFTER_S
            while not answered.wait(wait_s):
                wait_s = EVERY_S
                # The question itself will meet an error; and it may be over, and the client closed, while this asks.
                with suppress(InhouseError, RuntimeError):
                    if (reason := reason_of(model.state(), model.base or model.name)) != told:
                        told = reason
                        if err.is_terminal:
                            status.update(f"waiting for {told}")
                        elif not answered.is_set():
                            err.print(f"Waiting for {told} …", markup=False, soft_wrap=True)

        watching = threading.Thread(target=watch, name="waiting", daemon=True)
        watching.start()
        try:
            yield stop
        finally:
            stop()
            watching.join(LEAVE_S)


def reason_of(state: State, base: str) -> str:
    """What keeps a question, for people."""
    if state.standing == "loading":
        return f"{base} to be loaded"
    if state.standing == "resting":
        return f"{base} to be taken up by a worker, which then loads it"
    if state.is_full:
        return f"its turn: more is asked than the {state.running} requests that are answered at once"
    return FIRST_WORD
