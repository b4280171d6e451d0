"""The chain of the audit log: what a row's hash is made of, and what a look along the rows finds.

Pure, and without a database, so that an exported log is checked by the same lines where there is none.

What it finds: a row whose content was changed, rows that are missing between others, a chain that was forged anew
from some row on, as long as the newest hash was noted elsewhere; and a tail that was cut off, as long as the head
record was left alone or the newest hash was noted. What nothing inside a database can find: that somebody who may
change all of it has rewritten the log and its head. Note the head outside, and hand it to `verify`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

FIRST = ""
"""What stands for the hash before the first row."""


@dataclass(frozen=True, slots=True)
class Act:
    """One administrative act. It holds ids, names and numbers: never a secret, a prompt or a reply."""

    seq: int
    """1, 2, 3 …, without a gap."""
    id: str
    at: float
    """Unix seconds."""
    actor: str
    """The id of the key that did it; "local" for the server's own user, "server" for the server itself."""
    project: str
    """Whose it was; empty where it was nobody's."""
    type: str
    target: str
    """The id of what was acted on."""
    details: dict[str, Any]
    previous: str
    """The hash of the act before."""
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """Which act is the newest."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True, slots=True)
class Break:
    """One place at which a log is not what was written: the act's number, its id if it is there, and why."""

    seq: int
    id: str | None
    reason: str


def canonical(value: Any) -> str:
    """The one way to write a value down: keys in order, no spaces, plain ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_of(act: Act) -> str:
    """SHA-256 over everything that the act says, the hash of the act before included."""
    said = asdict(act)
    del said["hash"]
    return hashlib.sha256(canonical(said).encode("ascii")).hexdigest()


def breaks(acts: Iterable[Act], head: Head | None = None, noted: Head | None = None) -> Iterator[Break]:
    """Every place at which these acts, the whole log in its order, are not what was written.

    `head` is the database's own record of the newest act; `noted` is one that somebody wrote down elsewhere.
    """
    last: Act | None = None
    is_noted_there = noted is None or noted.seq == 0
    for act in acts:
        expected, before = (1, FIRST) if last is None else (last.seq + 1, last.hash)
        if act.seq > expected:
            lost = (
                f"act {expected} is" if act.seq == expected + 1 else f"acts {expected} to {act.seq - 1} are"
            )
            yield Break(expected, None, f"{lost} missing")
        elif act.seq < expected:
            yield Break(act.seq, act.id, "the act is out of its order, or there twice")
        if hash_of(act) != act.hash:
            yield Break(act.seq, act.id, "the act was changed: its hash is not that of what it says")
        elif act.seq == expected and act.previous != before:
            changed = act.seq - 1
            yield Break(
                changed,
                None if last is None else last.id,
                f"the act was changed and hashed anew: act {act.seq} remembers another hash",
            )
        if noted is not None and noted.seq == act.seq:
            is_noted_there = True
            if noted.hash != act.hash:
                yield Break(
                    act.seq, act.id, "the act or one before it was changed: another hash was noted for it"
                )
        last = act
    newest = Head(0, FIRST) if last is None else Head(last.seq, last.hash)
    if head is not None and head.seq > newest.seq:
        yield Break(
            newest.seq + 1,
            None,
            f"the log's end was cut off: its head says {head.seq} acts, {newest.seq} are there",
        )
    elif head is not None and head != newest:
        yield Break(
            newest.seq,
            None if last is None else last.id,
            "the act was changed or added: it is not what the log's head says",
        )
    if not is_noted_there and noted is not None:
        yield Break(
            newest.seq + 1,
            None,
            f"the log's end was cut off: act {noted.seq} was noted, {newest.seq} are there",
        )
