"""Capture of a sequence of launches, replayed as one: the only place that names torch's way to it.

It knows nothing of what is captured. A step that is launched operation by operation leaves a fast device waiting for
the host; a replayed one does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

WARM_UP_CALLS = 2
"""Before a capture: libraries choose their algorithms and allocate their work space at the first calls."""

_TYPES = ("cuda", "xpu")
"""Device types whose back end in torch captures."""


class Captured(Protocol):
    """A function that was captured: it reads and writes the same memory at every replay."""

    def replay(self) -> None: ...


class Capture(Protocol):
    """Makes something to replay of a function that takes nothing, gives nothing, and changes tensors in place."""

    def capture(self, function: Callable[[], None]) -> Captured: ...


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], None]

    def replay(self) -> None:
        self.function()


class Plain:
    """Captures nothing: a replay is a call. What a graph must agree with, on any device."""

    def capture(self, function: Callable[[], None]) -> Captured:
        return _Call(function)


class Graphs:
    """Captures launches on a device. All graphs share one pool of memory, so only one of them may run at a time, and
    what one gave is to be read before another is replayed."""

    def __init__(self, device: torch.device) -> None:
        assert can_capture(device.type), f"{device.type} captures nothing"
        self._device = device
        self._stream = torch.Stream(device)
        self._pool: tuple[int, int] | None = None

    def capture(self, function: Callable[[], None]) -> Captured:
        """Calls the function to warm up, then captures it. It must not wait for the device nor ask it anything.

        Raises RuntimeError where it does, or where memory is short.
        """
        self._stream.wait_stream(torch.accelerator.current_stream(self._device))
        with self._stream:
            for _ in range(WARM_UP_CALLS):
                function()
        torch.accelerator.synchronize(self._device)
        # Other threads may use the device meanwhile: what they do is not captured and must not end it.
        graph = torch.accelerator.Graph(pool=self._pool, capture_error_mode="thread_local")
        with self._stream, graph:
            function()
        self._pool = graph.pool()
        return graph


def can_capture(kind: str) -> bool:
    """Whether a type of device captures; older releases of torch do not offer it for every vendor alike."""
    return kind in _TYPES and hasattr(torch.accelerator, "Graph")
