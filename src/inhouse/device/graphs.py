"""Capture of a sequence of launches, replayed as one: the one place that names torch's ways to it.

Each back end of torch that can capture has a module of its own with the same three names under different words. It
knows nothing of what is captured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

WARM_UP_CALLS = 2
"""Before a capture: libraries choose their algorithms and allocate their work space at the first calls."""

_NAMES = {"cuda": ("CUDAGraph", "graph"), "xpu": ("XPUGraph", "graph")}
"""torch's words by device type: (class of a graph, context that fills it). ROCm's type is cuda as well."""


class Captured(Protocol):
    """A function that was captured: it reads and writes the same memory at every replay."""

    def replay(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Graphs:
    """How a type of device captures. Captures share one pool of memory: only one of them runs at a time."""

    module: Any
    graph: Callable[[], Any]
    context: Callable[..., Any]
    pool: Any

    def capture(self, function: Callable[[], None], device: torch.device) -> Captured:
        """Runs the function to warm up, then captures it. It must not wait for the device nor move to the host."""
        side = self.module.Stream(device)
        side.wait_stream(self.module.current_stream(device))
        with self.module.stream(side):
            for _ in range(WARM_UP_CALLS):
                function()
        self.module.current_stream(device).wait_stream(side)
        graph = self.graph()
        with self.context(graph, pool=self.pool):
            function()
        captured: Captured = graph
        return captured


def graphs_of(kind: str) -> Graphs | None:
    """The way to capture on a type of device; None where torch has none."""
    module = getattr(torch, kind, None)
    names = _NAMES.get(kind)
    if names is None or not all(hasattr(module, name) for name in (*names, "graph_pool_handle", "Stream")):
        return None
    assert module is not None, "a module was asked for its names and is none"
    return Graphs(module, getattr(module, names[0]), getattr(module, names[1]), None)
