"""One transaction's change of a bank: which facts conflict, what a new version holds, what the history says.

It knows rows and texts, and who may see what; which change is wanted is `facts`' to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from inhouse.errors import FactConflict
from inhouse.rows.facts import answered_anew, joined, normal_question, same_answer
from inhouse.schema import Fact, FactInput, OnConflict
from inhouse.store import ids
from inhouse.store.records import banks, experts
from inhouse.store.tables import fact_changes, fact_questions, facts

Groups: TypeAlias = frozenset[str] | None
Outcome = Literal["added", "unchanged", "replaced", "coexists"]
Status: TypeAlias = tuple[Literal["live", "retrieval_only"], str | None]

_GIVEN = tuple(FactInput.model_fields)
columns = [facts.c[name] for name in Fact.model_fields]


class Change:
    """One transaction's work on one bank, which nobody else changes meanwhile."""

    def __init__(self, conn: sa.Connection, bank: str, author: str, now: float) -> None:
        banks.hold(conn, bank)
        self.conn = conn
        self.bank = bank
        self.author = author
        self.now = now
        self._revision: int | None = None

    @property
    def revision(self) -> int:
        """This change's revision of the bank, raised when it is first needed."""
        if self._revision is None:
            self._revision = banks.bump(self.conn, self.bank)
        return self._revision

    def add(self, input: FactInput, on_conflict: OnConflict | None, groups: Groups) -> tuple[Fact, Outcome]:
        others = self._asked_alike(_hashes(input), groups)
        asked = normal_question(input.question)
        twins = [fact for fact in others if normal_question(fact.question) == asked]
        equal = [fact for fact in twins if same_answer(fact.answer, input.answer)]
        alike = [fact for fact in equal if not input.access or set(fact.access) == set(input.access)]
        if equal and not alike and on_conflict is None:
            raise _other_access(equal[0])
        if alike or (equal and on_conflict == "replace"):
            same = (alike or equal)[0]
            kept = self.replace(same, joined(given(same), input), "edit", on_conflict, groups)
            return kept, "unchanged" if kept is same else "replaced"
        if equal:
            (fact,) = self.insert([input])
            return fact, "coexists"
        different = [fact for fact in others if not same_answer(fact.answer, input.answer)]
        if not different or on_conflict == "coexist":
            (fact,) = self.insert([input])
            return fact, "coexists" if different else "added"
        if on_conflict == "replace" and different == twins and len(twins) == 1:
            return self.replace(
                twins[0], answered_anew(given(twins[0]), input), "edit", None, groups
            ), "replaced"
        raise _conflict(different, twins, on_conflict)

    def insert(
        self,
        inputs: Sequence[FactInput],
        *,
        file: str | None = None,
        statuses: Sequence[Status] | None = None,
    ) -> list[Fact]:
        common = {"bank": self.bank, "revision": self.revision, "file": file, "author": self.author}
        times = {"created_at": self.now, "updated_at": self.now}
        made = []
        for i, input in enumerate(inputs):
            status, reason = statuses[i] if statuses is not None else ("live", None)
            fields = {name: getattr(input, name) for name in _GIVEN}
            fact = Fact(id=ids.new("fact"), status=status, reason=reason, **fields, **common, **times)
            made.append(fact)
        self.conn.execute(facts.insert(), [fact.model_dump(mode="json") for fact in made])
        self._index(made)
        self.note(made, "add")
        return made

    def replace(
        self,
        fact: Fact,
        wanted: FactInput,
        action: Literal["edit", "rollback"],
        on_conflict: OnConflict | None,
        groups: Groups,
        status: Status = ("live", None),
    ) -> Fact:
        """The fact's new version; the fact itself when nothing differs."""
        before = given(fact)
        if wanted == before and (action == "edit" or status == (fact.status, fact.reason)):
            return fact
        words = ("question", "wordings", "answer")
        is_as_asked = all(getattr(wanted, name) == getattr(before, name) for name in words)
        if action == "edit" and is_as_asked:
            status = fact.status, fact.reason
        newly = _hashes(wanted).keys() - _hashes(before).keys()
        others = [other for other in self._asked_alike(newly, groups) if other.id != fact.id]
        different = [other for other in others if not same_answer(other.answer, wanted.answer)]
        if different and on_conflict != "coexist":
            raise _conflict(different, (), on_conflict)
        changes = {
            "version": fact.version + 1,
            "revision": self.revision,
            "status": status[0],
            "reason": status[1],
            "author": self.author,
            "updated_at": self.now,
        }
        made = Fact(**{**fact.model_dump(), **wanted.model_dump(), **changes})
        self.conn.execute(facts.update().where(facts.c.id == fact.id).values(**made.model_dump(mode="json")))
        self.conn.execute(fact_questions.delete().where(fact_questions.c.fact == fact.id))
        self._index([made])
        experts.follow(self.conn, made, is_still_right=is_as_asked)
        self.note([made], action)
        return made

    def note(self, changed: Sequence[Fact], action: str) -> None:
        """Write a line of history for each, with its content unless it is gone."""
        self.conn.execute(
            fact_changes.insert(),
            [
                {
                    "id": ids.new("change"),
                    "bank": self.bank,
                    "fact": fact.id,
                    "version": fact.version,
                    "revision": fact.revision,
                    "action": action,
                    "author": self.author,
                    "at": self.now,
                    "access": [*fact.access],
                    "fact_then": None if action == "forget" else fact.model_dump(mode="json"),
                }
                for fact in changed
            ],
        )

    def _index(self, made: Sequence[Fact]) -> None:
        rows = [
            {"fact": fact.id, "bank": self.bank, "hash": hash, "is_wording": is_wording}
            for fact in made
            for hash, is_wording in _hashes(fact).items()
        ]
        self.conn.execute(fact_questions.insert(), rows)

    def _asked_alike(self, hashes: Iterable[str], groups: Groups) -> list[Fact]:
        """The facts that the caller may see and that are asked by one of these, oldest first."""
        asked = sa.select(fact_questions.c.fact).where(
            fact_questions.c.bank == self.bank, fact_questions.c.hash.in_(list(hashes))
        )
        query = sa.select(*columns).where(facts.c.id.in_(asked)).order_by(facts.c.seq)
        return [fact for row in self.conn.execute(query) if may_see((fact := from_row(row)).access, groups)]


def _hashes(fact: FactInput) -> dict[str, bool]:
    """What the fact is asked by, hashed, and whether each is only a wording."""
    found = {_hash(wording): True for wording in fact.wordings}
    return found | {_hash(fact.question): False}


def _hash(question: str) -> str:
    return hashlib.sha256(normal_question(question).encode()).hexdigest()


def given(fact: Fact) -> FactInput:
    return FactInput(**{name: getattr(fact, name) for name in _GIVEN})


def may_see(access: Iterable[str], groups: Groups) -> bool:
    return groups is None or not access or not groups.isdisjoint(access)


def from_row(row: sa.Row[Any]) -> Fact:
    return Fact(**row._mapping)


def _other_access(same: Fact) -> FactConflict:
    return FactConflict(
        f"{same.id} is this fact, with another access list. Replace that list, or let both coexist? Send "
        'on_conflict "replace" or "coexist", or leave access out.',
        param="on_conflict",
    )


def _conflict(
    different: Sequence[Fact], twins: Sequence[Fact], on_conflict: OnConflict | None
) -> FactConflict:
    named = ", ".join(fact.id for fact in different[:3]) + (", ..." if len(different) > 3 else "")
    answer = "answers" if len(different) == 1 else "answer"
    if on_conflict == "replace":
        return FactConflict(
            f"{named} {answer} this question or one of its wordings otherwise, and it is not clear which fact "
            'to replace. Edit or forget them by id, or send on_conflict "coexist".',
            param="on_conflict",
        )
    cure = (
        'Replace or coexist? Send on_conflict "replace" or "coexist".'
        if twins
        else 'Change the words, or send on_conflict "coexist".'
    )
    return FactConflict(
        f"{named} {answer} this question or one of its wordings otherwise. {cure}", param="on_conflict"
    )
