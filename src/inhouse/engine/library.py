"""Adapters at rest: reads them by digest, checked against the base once.

It knows folders and the base; it knows no slots. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter
from inhouse.model.decoder import Decoder

KEPT = 16
"""Adapters kept in memory between the check of a request and its start."""


class Library:
    """Digest → adapter, from a function that gives the digest's folder."""

    def __init__(self, folder_of: Callable[[str], Path], decoder: Decoder, base_digest: str) -> None:
        self._folder_of = folder_of
        self._decoder = decoder
        self._base_digest = base_digest
        self._checked: set[str] = set()  # contents never change under a digest, so once is enough
        self._kept: OrderedDict[str, Adapter] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, digest: str) -> None:
        """Raises NotFound or BadCheckpoint unless the adapter can be served on this base."""
        if digest not in self._checked:
            self.read(digest)

    def read(self, digest: str) -> Adapter:
        """The adapter, on the CPU. Raises NotFound, or BadCheckpoint saying what does not fit."""
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = self._load(digest)
                self._checked.add(digest)
            self._kept.move_to_end(digest)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[digest]

    def _load(self, digest: str) -> Adapter:
        folder = self._folder_of(digest)
        adapter = Adapter.read(folder, self._decoder)
        trained_on = adapter.notes.get("base_digest")
        if trained_on is not None and trained_on != self._base_digest:
            raise BadCheckpoint(
                f"Adapter {digest[:12]} was trained on base {str(trained_on)[:12]}, this is base "
                f"{self._base_digest[:12]}. Serve it on its own base, or tune again on this one."
            )
        broken = [
            name for name, pair in adapter.tensors.items() if not all(torch.isfinite(t).all() for t in pair)
        ]
        if broken:
            raise BadCheckpoint(f"Adapter {digest[:12]} holds NaN or infinity in {broken[0]}. Tune it again.")
        return adapter
