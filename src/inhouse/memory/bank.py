"""Banks in memory: their facts indexed, one index for each set of groups that may see them, kept up to date.

A request names the revision that it must see; a bank that is older catches up first. Nothing of this is written
down: an index is made from the facts' text in seconds. It knows a source of facts; it knows no SQL.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inhouse.errors import BadCheckpoint
from inhouse.memory.index import KeyIndex
from inhouse.memory.router import Router
from inhouse.memory.routing import Decision, Hit, decide
from inhouse.memory.words import forget_texts
from inhouse.schema import Bank, Fact, MemoryUse, Message, UnknownPolicy

__all__ = ["BankSource", "Banks", "Decision", "Hit", "LoadedBank"]

KEPT = 64
"""Banks held at once; the one that was asked longest ago goes."""
MOST_VIEWS = 16
"""Indexes of one bank: one for each different set of groups."""


class BankSource(Protocol):
    """Where banks come from: the store."""

    def bank(self, bank_id: str) -> Bank:
        """The bank as it is now. Raises NotFound."""

    def facts(self, bank_id: str) -> Iterable[Fact]:
        """All its facts."""

    def changed_since(self, bank_id: str, revision: int) -> tuple[list[Fact], list[str]]:
        """Facts added or changed after that revision, and ids of those forgotten since."""

    def expert(self, fact_id: str, version: int) -> bytes | None:
        """The expert of a fact's version, if it has one."""


class LoadedBank:
    """One bank's facts, ready to be asked. Its lock guards all of it."""

    def __init__(self, bank: Bank, facts: Iterable[Fact], router: Router) -> None:
        self.id = bank.id
        self.base_digest = bank.base_digest
        self.unknown: UnknownPolicy = bank.unknown
        self.revision = bank.revision
        self._router = router
        self._facts = {fact.id: fact for fact in facts}
        self._views: OrderedDict[frozenset[str] | None, KeyIndex] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._facts)

    def catch_up(self, bank: Bank, changed: Sequence[Fact], gone: Sequence[str]) -> None:
        """Takes over what changed: every index at once, before the next question."""
        with self._lock:
            is_old_gone = any(i in self._facts for i in (*gone, *(fact.id for fact in changed)))
            for fact_id in gone:
                self._facts.pop(fact_id, None)
            for fact in changed:
                self._facts[fact.id] = fact
            for groups, index in self._views.items():
                for fact_id in (*gone, *(fact.id for fact in changed)):
                    index.discard(fact_id)
                index.put(fact for fact in changed if _may_see(fact, groups))
            if is_old_gone:
                self._router.encoder.forget()
                forget_texts()
            self.unknown, self.revision = bank.unknown, bank.revision

    def route(self, messages: Sequence[Message], *, groups: frozenset[str] | None, now: float) -> Decision:
        """What the last message asks of the facts that these groups may see; None sees all. Now in Unix seconds."""
        with self._lock:
            index = self._view(groups)
            return decide(index, self._router, messages, refuses=self.unknown == "refuse", now=now)

    def _view(self, groups: frozenset[str] | None) -> KeyIndex:
        """The index of what these groups may see. What they may not is not in it, not even by its absence."""
        named = (
            frozenset(group for fact in self._facts.values() for group in fact.access)
            if groups
            else frozenset()
        )
        key = None if groups is None else groups & named
        if key not in self._views:
            index = self._views[key] = self._router.index()
            index.put(fact for fact in self._facts.values() if _may_see(fact, key))
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]


@dataclass(slots=True)
class _Place:
    """Where a bank is, or will be: whoever loads it holds this lock alone, and no other bank waits."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    bank: LoadedBank | None = None


class Banks:
    """Banks by id, loaded when they are first asked. Safe to use from several threads."""

    def __init__(self, source: BankSource, open_router: Callable[[], Router], base_digest: str) -> None:
        self.source = source
        self._open_router = open_router
        self._base_digest = base_digest
        self._router: Router | None = None
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock = threading.Lock()
        self._router_lock = threading.Lock()

    def at(self, use: MemoryUse) -> LoadedBank:
        """The bank at the revision that the request must see, or a later one.

        Raises NotFound, or BadCheckpoint when the bank was made for another base.
        """
        with self._lock:
            place = self._places.setdefault(use.bank, _Place())
            self._places.move_to_end(use.bank)
            while len(self._places) > KEPT:
                self._places.popitem(last=False)
        with place.lock:
            if place.bank is None:
                place.bank = self._load(use.bank)
            elif place.bank.revision < use.revision:
                bank = self.source.bank(use.bank)
                place.bank.catch_up(bank, *self.source.changed_since(use.bank, place.bank.revision))
            return place.bank

    def _load(self, bank_id: str) -> LoadedBank:
        bank = self.source.bank(bank_id)
        if bank.base_digest != self._base_digest:
            raise BadCheckpoint(
                f"These facts were published for base {bank.base_digest[:12]}; {bank.base} is {self._base_digest[:12]} "
                "by now. Export them (`inhouse facts export`) and tune the new base on the file.",
                code="base_changed",
                param="model",
            )
        with self._router_lock:
            if self._router is None:
                self._router = self._open_router()
        return LoadedBank(bank, self.source.facts(bank_id), self._router)


def _may_see(fact: Fact, groups: frozenset[str] | None) -> bool:
    return not fact.access or groups is None or not groups.isdisjoint(fact.access)
