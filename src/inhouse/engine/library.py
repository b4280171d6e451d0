"""Adapters and experts on their way from disk to the device: reads them by key, checks them against the base, and
keeps the last used in this machine's memory, ready to be copied.

It knows where they come from and the base; it knows no slots. Safe to use from several threads. `check` reads a
header and refuses what does not fit; `fetch` asks for numbers and returns at once; `at_hand` is what a step may load,
and stays so while others come and go. So a step never waits for a disk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from inhouse.engine import experts
from inhouse.engine.arena import Factors, factors_of
from inhouse.engine.faults import around_request, error_of
from inhouse.errors import BadCheckpoint, NotFound
from inhouse.model.adapters import Adapter, inspect
from inhouse.model.decoder import Decoder
from inhouse.schema import EngineFault

KEPT_BYTES = 2 * 2**30
"""Adapters kept in this machine's memory: 50 or so of rank 16 on a base of 1B, in bfloat16."""
READERS = 4
"""Threads that read: a disk answers several at once, and parsing lets go of the interpreter."""

AtHand = Mapping[str, Factors | EngineFault]
"""Key → the adapter, or why it cannot be had."""
ExpertOf = Callable[[str, int], bytes | None]
"""A fact's id and version → its expert's bytes; None where it has none, or has it no more."""


class Library:
    """Key → adapter: for an artifact's digest from its folder, for an expert's key from the bank.

    `key in library` says that `read` need not wait: the adapter is in memory, or it is known why it cannot be.
    """

    def __init__(
        self,
        folder_of: Callable[[str], Path],
        decoder: Decoder,
        base_digest: str,
        expert_of: ExpertOf | None = None,
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._folder_of = folder_of
        self._expert_of = expert_of
        self._decoder = decoder
        self._base_digest = base_digest
        self._kept_bytes = kept_bytes
        self._rows: dict[str, int] = {}  # contents never change under a digest, so looking once is enough
        self._kept: OrderedDict[str, Factors] = OrderedDict()
        self._bytes = 0
        self._faults: dict[str, EngineFault] = {}
        self._reading: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="engine-adapters")

    def __contains__(self, key: object) -> bool:
        return key in self._kept or key in self._faults

    def check(self, key: str) -> int:
        """How many rank rows the adapter takes. Raises NotFound or BadCheckpoint unless it fits this base."""
        if experts.is_key(key):
            return self.read(key).rows
        if key not in self._rows:
            shape = inspect(self._folder_of(key), self._decoder)
            self._refuse_another_base(key, shape.base_digest)
            self._rows[key] = shape.rows
        return self._rows[key]

    def fetch(self, keys: Iterable[str]) -> None:
        """Asks for adapters that will be needed soon, the soonest first, and returns. They stay until others are asked
        for instead; why one could not be read is remembered as long."""
        with self._changed:
            wanted = tuple(keys)
            self._wanted = frozenset(wanted)
            self._faults = {key: fault for key, fault in self._faults.items() if key in self._wanted}
            for key in wanted:
                if key not in self and key not in self._reading:
                    self._reading.add(key)
                    self._pool.submit(self._read_behind, key)

    def at_hand(self) -> AtHand:
        """What is in memory now. Whoever holds this holds the adapters: nothing that is dropped meanwhile is missed."""
        with self._changed:
            return {**self._kept, **self._faults}

    def touch(self, keys: Iterable[str]) -> None:
        """Notes that these were just used: of what is kept, others make room first."""
        with self._changed:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)

    def wait(self, timeout_s: float) -> None:
        """Returns when an adapter that was asked for has arrived, or after the time."""
        with self._changed:
            if self._reading:
                self._changed.wait(timeout_s)

    def read(self, key: str) -> Factors:
        """The adapter, on the CPU. Raises NotFound, or BadCheckpoint saying what is wrong with it."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._reading)
            if (fault := self._faults.pop(key, None)) is not None:
                raise error_of(fault)
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        factors = self._load(key)
        with self._changed:
            self._keep(key, factors)
        return factors

    def folder(self, digest: str) -> Path:
        """Where an adapter lies. Raises NotFound."""
        return self._folder_of(digest)

    def original(self, digest: str) -> Adapter:
        """An adapter as it is at rest. Raises what `check` raises."""
        self.check(digest)
        return Adapter.read(self._folder_of(digest), self._decoder)

    def has_expert(self, fact: str, version: int) -> bool:
        """Whether the fact has one. Raises BadCheckpoint where it has one that cannot be served."""
        try:
            self.read(experts.key_of(fact, version))
        except NotFound:
            return False
        return True

    def forget(self, key: str) -> None:
        """Drops what is kept of an adapter."""
        with self._changed:
            dropped = self._kept.pop(key, None)
            self._bytes -= dropped.nbytes if dropped is not None else 0

    def _read_behind(self, key: str) -> None:
        """In a thread of the pool: what goes wrong is told to whoever reads the key."""
        found = around_request(key, partial(self._load, key))
        with self._changed:
            if isinstance(found, EngineFault):
                self._faults[key] = found
            else:
                self._keep(key, found)
            self._reading.discard(key)
            self._changed.notify_all()

    def _keep(self, key: str, factors: Factors) -> None:
        """Keeps it; the longest unused make room, unless they are wanted."""
        if key not in self._kept:
            self._kept[key] = factors
            self._bytes += factors.nbytes
        self._kept.move_to_end(key)
        for old in [old for old in self._kept if old != key and old not in self._wanted]:
            if self._bytes <= self._kept_bytes:
                break
            self._bytes -= self._kept.pop(old).nbytes

    def _load(self, key: str) -> Factors:
        return factors_of(
            self._expert(key) if experts.is_key(key) else self._adapter(key), self._decoder.dtype
        )

    def _adapter(self, digest: str) -> Adapter:
        adapter = Adapter.read(self._folder_of(digest), self._decoder, as_stored=True)
        self._refuse_another_base(digest, adapter.notes.get("base_digest"))
        return adapter

    def _refuse_another_base(self, digest: str, trained_on: object) -> None:
        if trained_on is not None and trained_on != self._base_digest:
            raise BadCheckpoint(
                f"Adapter {digest[:12]} was trained on base {str(trained_on)[:12]}, this is base "
                f"{self._base_digest[:12]}. Serve it on its own base, or tune again on this one."
            )

    def _expert(self, key: str) -> Adapter:
        fact, version = experts.fact_of(key)
        blob = None if self._expert_of is None else self._expert_of(fact, version)
        if blob is None:
            raise NotFound(f"Fact {fact} has no expert for its version {version}.")
        return experts.read(key, blob, self._decoder, self._base_digest)
