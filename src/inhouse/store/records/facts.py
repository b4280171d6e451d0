"""Facts: added, edited, forgotten, taken back to an earlier version, listed, and caught up with.

Each change is one revision of its bank, whatever number of facts it touches; the caller's transaction makes it
visible at once or not at all. `groups` is whom a question is asked for: facts with an access list are for those
who share one of its groups, and for anybody else they do not exist. None is an admin, who sees all.

It knows texts and rows. What a question means, and which fact answers it, is the engine's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.rows.facts import same_answer
from inhouse.schema import Bank, Fact, FactChange, FactInput, OnConflict
from inhouse.store.records import banks, batch_answers, forgetting
from inhouse.store.records.batch_answers import Outputs, Sought
from inhouse.store.records.experts import expert as expert
from inhouse.store.records.experts import experts as experts
from inhouse.store.records.experts import put_expert as put_expert
from inhouse.store.records.fact_change import (
    Change,
    Groups,
    Outcome,
    Status,
    columns,
    from_row,
    given,
    may_see,
)
from inhouse.store.records.page import page as _page
from inhouse.store.tables import banks as bank_table
from inhouse.store.tables import fact_changes, facts

T = TypeVar("T", Fact, sa.Row[Any])

CHUNK = 500
"""Rows looked at at a time where a list is filtered here, because no index can."""
_change_columns = [fact_changes.c[name] for name in FactChange.model_fields]


@dataclass(frozen=True, slots=True)
class FactForgotten:
    """What forgetting a fact took with it, and what is still to be cleared after the transaction."""

    id: str
    files: tuple[str, ...] = ()
    """Ids of the files that were deleted: uploads that the fact came from, and files of answers that say it."""
    digests: tuple[str, ...] = ()
    """Artifacts to delete: contents that no file has any more."""
    responses: int = 0
    """How many stored responses were deleted, because they cite the fact or say what it says."""


# ── change ────────────────────────────────────────────────────────────────────────────────────────────────


def add_many(
    conn: sa.Connection,
    bank: str,
    inputs: Sequence[FactInput],
    *,
    author: str,
    now: float,
    file: str | None = None,
    statuses: Sequence[Status] | None = None,
) -> list[Fact]:
    """Store facts that are known not to conflict, such as a checked file's, as one revision."""
    change = Change(conn, bank, author, now)
    return change.insert(inputs, file=file, statuses=statuses) if inputs else []


def add(
    conn: sa.Connection,
    bank: str,
    input: FactInput,
    *,
    author: str,
    now: float,
    on_conflict: OnConflict | None = None,
    groups: Groups = None,
) -> tuple[Fact, Outcome]:
    """Store one fact, or find that it is there. Raises FactConflict, as `add_each` does."""
    return add_each(conn, bank, [input], author=author, now=now, on_conflict=on_conflict, groups=groups)[0]


def add_each(
    conn: sa.Connection,
    bank: str,
    inputs: Iterable[FactInput],
    *,
    author: str,
    now: float,
    on_conflict: OnConflict | None = None,
    groups: Groups = None,
) -> list[tuple[Fact, Outcome]]:
    """Store facts one after the other, as one revision, and say of each what became of it.

    The same question with the same answer is that fact, and takes on what else is given. With another answer
    it raises FactConflict, unless it is to "replace" that fact's or to "coexist" with it. Facts that the
    caller may not see conflict with nothing, so that a conflict tells nobody of them.
    """
    change = Change(conn, bank, author, now)
    return [change.add(input, on_conflict, groups) for input in inputs]


def edit(
    conn: sa.Connection,
    bank: str,
    id: str,
    changes: Mapping[str, Any],
    *,
    author: str,
    now: float,
    on_conflict: OnConflict | None = None,
    groups: Groups = None,
) -> Fact:
    """Change some of a fact's fields, as a new version; the same values again change nothing.

    Another answer drops the span, which said the old one, unless a new one is given.
    """
    change = Change(conn, bank, author, now)
    fact = get(conn, bank, id, groups=groups)
    wanted = with_changes(fact, changes)
    return change.replace(fact, wanted, "edit", on_conflict, groups)


def rollback(
    conn: sa.Connection,
    bank: str,
    id: str,
    version: int,
    *,
    author: str,
    now: float,
    on_conflict: OnConflict | None = None,
    groups: Groups = None,
) -> Fact:
    """Make a fact what it was at an earlier version, as a new version."""
    change = Change(conn, bank, author, now)
    fact = get(conn, bank, id, groups=groups)
    query = sa.select(fact_changes.c.fact_then).where(
        fact_changes.c.fact == id, fact_changes.c.version == version
    )
    then = conn.execute(query.order_by(fact_changes.c.seq.desc()).limit(1)).scalar()
    if then is None or not may_see(then["access"], groups):
        raise NotFound(f"{id} has no version {version}. Its history lists them.", param="version")
    wanted = Fact(**then)
    status = (wanted.status, wanted.reason)
    return change.replace(fact, given(wanted), "rollback", on_conflict, groups, status)


def forget(
    conn: sa.Connection,
    bank: str,
    id: str,
    *,
    author: str,
    now: float,
    groups: Groups = None,
    outputs: Outputs | None = None,
) -> FactForgotten:
    """Delete a fact, its versions' texts, its expert, the uploads it came from, and stored responses that say it.

    So it is with what batches answered; files of answers are deleted whole, where `outputs` can read them. A line
    in the history says when and by whom, and nothing else. The caller drops the artifacts, and has the database cleared
    of what deleted rows leave behind (`Database.scrub`), after the transaction.
    """
    change = Change(conn, bank, author, now)
    fact = get(conn, bank, id, groups=groups)
    origin = fact_changes.c.fact_then["file"].as_string()
    origins = conn.scalars(
        sa.select(origin).where(fact_changes.c.fact == id, fact_changes.c.fact_then.is_not(None)).distinct()
    )
    files = sorted({file for file in (fact.file, *origins) if file})
    said = _said(conn, fact)
    answers = sought(conn, fact)
    conn.execute(facts.delete().where(facts.c.id == id))  # and, by their keys, its questions and its expert
    conn.execute(fact_changes.update().where(fact_changes.c.fact == id).values(fact_then=None))
    change.note([fact.model_copy(update={"revision": change.revision})], "forget")
    whole = banks.get(conn, None, bank)
    banks.set_report(conn, bank, _without(whole.report, {id, fact.question, *fact.wordings}))
    forgetting.scrub_replies(conn, whole.project, id)
    responses = forgetting.purge_saying(conn, whole.project, bank, id, said)
    files += batch_answers.purge(conn, whole.project, answers, outputs)
    purged = forgetting.purge_files(conn, whole.project, files, forgetting.trained_on(conn, bank, files))
    return FactForgotten(id, purged.files, purged.digests, responses)


# ── ask ───────────────────────────────────────────────────────────────────────────────────────────────────


def get(conn: sa.Connection, bank: str, id: str, *, groups: Groups = None) -> Fact:
    """The bank's fact by this id."""
    return _found(conn, sa.and_(facts.c.bank == bank, facts.c.id == id), id, groups)


def find(conn: sa.Connection, project: str, id: str, *, groups: Groups = None) -> Fact:
    """The fact by this id in whichever bank of the project."""
    own = sa.select(bank_table.c.id).where(bank_table.c.project == project)
    return _found(conn, sa.and_(facts.c.bank.in_(own), facts.c.id == id), id, groups)


def page(
    conn: sa.Connection,
    bank: str,
    *,
    groups: Groups,
    after: str | None = None,
    limit: int = 20,
    order: str = "asc",
    search: str | None = None,
) -> tuple[list[Fact], bool]:
    """A piece of the bank's facts, and whether more follow; with `search` only those that hold these words."""
    words = None if search is None else search.casefold()

    def keep(fact: Fact) -> bool:
        return may_see(fact.access, groups) and (words is None or _holds(fact, words))

    is_filtered = groups is not None or words is not None
    chunk = max(limit, CHUNK) if is_filtered else limit
    query, within = sa.select(*columns), facts.c.bank == bank

    def read(after: str | None) -> tuple[list[Fact], bool]:
        rows, more = _page(conn, query, facts, within, after=after, limit=chunk, order=order)
        return [from_row(row) for row in rows], more

    return _filtered(read, keep, after, limit) if is_filtered else read(after)


def every(conn: sa.Connection, bank: str, *, groups: Groups = None) -> Iterator[Fact]:
    """All facts of the bank, in the order in which they came, a few at a time."""
    query = sa.select(*columns).where(facts.c.bank == bank).order_by(facts.c.seq)
    for row in conn.execute(query, execution_options={"yield_per": CHUNK}):
        if may_see(row.access, groups):
            yield from_row(row)


def changed_since(conn: sa.Connection, bank: str, revision: int) -> tuple[list[Fact], list[str]]:
    """The facts that were added or changed after this revision, and the ids of those forgotten since.

    Read the bank's revision before, in the same transaction: what is newer still may come, or come again.
    """
    newer = sa.select(*columns).where(facts.c.bank == bank, facts.c.revision > revision)
    gone = sa.select(fact_changes.c.fact).where(
        fact_changes.c.bank == bank, fact_changes.c.revision > revision, fact_changes.c.action == "forget"
    )
    changed = [from_row(row) for row in conn.execute(newer.order_by(facts.c.seq))]
    forgotten = list(conn.scalars(gone.order_by(fact_changes.c.seq)))
    lost = set(forgotten)  # the second question may already see a forgetting that the first did not
    return [fact for fact in changed if fact.id not in lost], forgotten


def history(
    conn: sa.Connection,
    bank: str,
    *,
    fact: str | None = None,
    after: str | None = None,
    limit: int = 20,
    order: str = "desc",
    groups: Groups = None,
) -> tuple[list[FactChange], bool]:
    """A piece of what was done to a bank, or to one fact of it, newest first, and whether more follows.

    Of a fact that the caller may not see there is no line, and none of a version that was not for him.
    """
    within = fact_changes.c.bank == bank
    if fact is not None:
        within = sa.and_(within, fact_changes.c.fact == fact)
    query = sa.select(*_change_columns, fact_changes.c.access)

    def keep(change: sa.Row[Any]) -> bool:
        return change.fact not in hidden and may_see(change.access, groups)

    hidden = _hidden(conn, bank, groups)
    chunk = limit if groups is None else max(limit, CHUNK)

    def read(after: str | None) -> tuple[list[sa.Row[Any]], bool]:
        rows, more = _page(conn, query, fact_changes, within, after=after, limit=chunk, order=order)
        return list(rows), more

    found, more = read(after) if groups is None else _filtered(read, keep, after, limit)
    return [
        FactChange(**{name: row._mapping[name] for name in FactChange.model_fields}) for row in found
    ], more


def report(conn: sa.Connection, bank: Bank, *, groups: Groups) -> dict[str, Any]:
    """What is known of the bank as a whole, without what concerns facts that the caller may not see."""
    return dict(_without(bank.report, _hidden(conn, bank.id, groups)))


def bank_of(conn: sa.Connection, project: str, id: str, *, groups: Groups = None) -> str:
    """The bank of the project that this fact is in, or was in before it was forgotten."""
    query = (
        sa.select(fact_changes.c.bank)
        .join(bank_table, bank_table.c.id == fact_changes.c.bank)
        .where(fact_changes.c.fact == id, bank_table.c.project == project)
    )
    bank = conn.execute(query.limit(1)).scalar()
    if bank is None or id in _hidden(conn, bank, groups, id):
        raise _missing(id)
    return str(bank)


# ── texts and rows ────────────────────────────────────────────────────────────────────────────────────────


def with_changes(fact: Fact, changes: Mapping[str, Any]) -> FactInput:
    """What a fact says after these changes. Another answer drops the span, unless a new one is given."""
    wanted = FactInput(**{**given(fact).model_dump(), **changes})
    if "span" not in changes and not same_answer(wanted.answer, fact.answer):
        wanted = wanted.model_copy(update={"span": None})
    return wanted


def _hidden(conn: sa.Connection, bank: str, groups: Groups, only: str | None = None) -> set[str]:
    """Ids of the bank's facts, forgotten ones too, that these groups may not see; with `only`, of this one."""
    if groups is None:
        return set()
    present = sa.select(facts.c.id, facts.c.access).where(facts.c.bank == bank)
    gone = sa.select(fact_changes.c.fact.label("id"), fact_changes.c.access).where(
        fact_changes.c.bank == bank, fact_changes.c.action == "forget"
    )
    if only is not None:
        present, gone = present.where(facts.c.id == only), gone.where(fact_changes.c.fact == only)
    found = [*conn.execute(present), *conn.execute(gone)]
    return {row.id for row in found if not may_see(row.access, groups)}


def _holds(fact: Fact, words: str) -> bool:
    texts = (fact.question, fact.answer, fact.subject or "", *fact.wordings, *fact.aliases)
    return any(words in text.casefold() for text in texts)


def sought(conn: sa.Connection, fact: Fact) -> Sought:
    """What tells this fact in what batches answered."""
    return batch_answers.sought(conn, fact.bank, (fact.id, *_said(conn, fact)))


def _said(conn: sa.Connection, fact: Fact) -> set[str]:
    """What the fact says or ever said."""
    then = conn.scalars(sa.select(fact_changes.c.fact_then).where(fact_changes.c.fact == fact.id))
    return {text for version in then if version for text in _words(Fact(**version))} | set(_words(fact))


def _words(fact: Fact) -> tuple[str, ...]:
    """What is the fact's own to say; its subject and its source are named elsewhere too."""
    return (fact.question, *fact.wordings, fact.answer, fact.span or "")


def _filtered(
    read: Callable[[str | None], tuple[list[T], bool]],
    keep: Callable[[T], bool],
    after: str | None,
    limit: int,
) -> tuple[list[T], bool]:
    """The first `limit` that are kept, and whether more follow."""
    kept: list[T] = []
    more = True
    while more and len(kept) <= limit:
        found, more = read(after)
        kept += [one for one in found if keep(one)]
        after = found[-1].id if found else after
        more = more and bool(found)
    return kept[:limit], more or len(kept) > limit


def _without(value: Any, mentions: set[str]) -> Any:
    """A report's value without every part that is one of these texts, or a list or table entry that holds one."""
    if isinstance(value, dict):
        return {
            key: _without(inner, mentions)
            for key, inner in value.items()
            if key not in mentions and not _mentions(inner, mentions)
        }
    if isinstance(value, list):
        return [_without(inner, mentions) for inner in value if not _mentions(inner, mentions)]
    return value


def _mentions(value: Any, mentions: set[str]) -> bool:
    """Whether a text, or a flat entry, is about one of these."""
    if isinstance(value, dict):
        return any(isinstance(inner, str) and inner in mentions for inner in value.values())
    return isinstance(value, str) and value in mentions


def _found(conn: sa.Connection, mine: sa.ColumnElement[bool], id: str, groups: Groups) -> Fact:
    row = conn.execute(sa.select(*columns).where(mine)).first()
    if row is None or not may_see(row.access, groups):
        raise _missing(id)
    return from_row(row)


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no fact {id!r}. `inhouse facts list` lists a model's.", param="id")
