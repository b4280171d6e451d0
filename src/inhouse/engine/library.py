"""Adapters and experts at rest: reads them by key, checked against the base.

It knows where they come from and the base; it knows no slots. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from inhouse.engine import experts
from inhouse.errors import BadCheckpoint, NotFound
from inhouse.model.adapters import Adapter
from inhouse.model.decoder import Decoder

KEPT = 16
"""Adapters kept in memory between the check of a request and its start."""
KEPT_EXPERTS = 256
"""Experts kept likewise: of rank 1 they take kilobytes."""

ExpertOf = Callable[[str, int], bytes | None]
"""A fact's id and version → its expert's bytes; None where it has none, or has it no more."""


class Library:
    """Key → adapter: for an artifact's digest from its folder, for an expert's key from the bank."""

    def __init__(
        self,
        folder_of: Callable[[str], Path],
        decoder: Decoder,
        base_digest: str,
        expert_of: ExpertOf | None = None,
    ) -> None:
        self._folder_of = folder_of
        self._expert_of = expert_of
        self._decoder = decoder
        self._base_digest = base_digest
        self._checked: set[str] = set()  # contents never change under a digest, so once is enough
        self._kept: OrderedDict[str, Adapter] = OrderedDict()
        self._kept_experts: OrderedDict[str, Adapter] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, key: str) -> None:
        """Raises NotFound or BadCheckpoint unless the adapter can be served on this base."""
        if key not in self._checked:
            self.read(key)

    def read(self, key: str) -> Adapter:
        """The adapter, on the CPU. Raises NotFound, or BadCheckpoint saying what does not fit."""
        with self._lock:
            if experts.is_key(key):
                return _through(self._kept_experts, KEPT_EXPERTS, key, self._load_expert)
            adapter = _through(self._kept, KEPT, key, self._load)
            self._checked.add(key)
            return adapter

    def has_expert(self, fact: str, version: int) -> bool:
        """Whether the fact has one. Raises BadCheckpoint where it has one that cannot be served."""
        try:
            self.read(experts.key_of(fact, version))
        except NotFound:
            return False
        return True

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

    def _load_expert(self, key: str) -> Adapter:
        fact, version = experts.fact_of(key)
        blob = None if self._expert_of is None else self._expert_of(fact, version)
        if blob is None:
            raise NotFound(f"Fact {fact} has no expert for its version {version}.")
        return experts.read(key, blob, self._decoder, self._base_digest)


def _through(kept: OrderedDict[str, Adapter], most: int, key: str, load: Callable[[str], Adapter]) -> Adapter:
    """What is kept under the key, loaded first where it is not; the longest unused make room."""
    if key not in kept:
        kept[key] = load(key)
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
