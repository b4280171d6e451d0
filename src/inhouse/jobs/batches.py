"""Running batches: claim, keep, note answers, end. A line may be answered more than once; its result is kept once.

A claim adds one to the batch's fence, and every later write is conditional on it, as with jobs. What a line was
answered, the counts, and the usage are one transaction; so are the files, the end, and that the kept answers go. It
knows no line's meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inhouse.errors import Unavailable
from inhouse.schema import File
from inhouse.store import fence as fences
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database, now
from inhouse.store.records import batches as records
from inhouse.store.records import files, forgetting, usage, webhooks
from inhouse.store.records.batches import MAY_BE_CANCELLED, UNFINISHED, Batch, Status
from inhouse.store.records.usage import UsageRow
from inhouse.store.tables import batch_results, batches

READ_AT_ONCE = 200
"""Kept answers that are read together."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a line was answered, as it will stand in a file."""

    line: int
    is_error: bool
    text: bytes


def claim(db: Database, lease_s: float, running: Sequence[str] = ()) -> Batch | None:
    """The oldest batch that nobody runs, now ours; one of a project that has none among `running` goes first."""
    with db.write() as conn:
        candidates = batches.alias("candidates")
        oldest = (
            sa.select(candidates.c.id)
            .where(candidates.c.status.in_(UNFINISHED), fences.is_free(conn, candidates.c))
            .order_by(sa.case((candidates.c.project.in_(running), 1), else_=0), candidates.c.seq)
        )
        row = fences.claim(conn, batches, oldest, lease_s, returning=records.columns)
    return None if row is None else records.from_row(row)


def renew(db: Database, batch: Batch, lease_s: float) -> Batch:
    """Extend the lease; the batch as it is now. Raises LeaseLost."""
    with db.write() as conn:
        return _change(conn, batch, lease_until=fences.lease_end(conn, lease_s))


def release(db: Database, batch: Batch) -> None:
    """Give the batch back at once, for another runner to go on. One that is no longer ours stays as it is."""
    with db.write() as conn:
        conn.execute(batches.update().where(_held(batch)).values(lease_until=None))


def begin(db: Database, batch: Batch, total: int) -> Batch:
    """The file was found good: its lines may be answered. One that is being cancelled stays so. Raises LeaseLost."""
    with db.write() as conn:
        # What is being forgotten is gone before a line is asked.
        forgetting.hold_responses(conn, batch.project)
        going = sa.case((batches.c.status == "validating", "in_progress"), else_=batches.c.status)
        return _change(conn, batch, status=going, total=total, in_progress_at=now(conn))


def stop(db: Database, batch: Batch, errors: list[dict[str, Any]]) -> Batch:
    """End a batch as if it had been cancelled, and keep why. One that is past that stays so. Raises LeaseLost."""
    may_be = batches.c.status.in_(MAY_BE_CANCELLED)
    with db.write() as conn:
        return _change(
            conn,
            batch,
            status=sa.case((may_be, "cancelling"), else_=batches.c.status),
            cancelling_at=sa.case((may_be, now(conn)), else_=batches.c.cancelling_at),
            errors=sa.case((may_be, sa.literal(errors, batches.c.errors.type)), else_=batches.c.errors),
        )


def fail(db: Database, batch: Batch, errors: list[dict[str, Any]], total: int) -> None:
    """End a batch whose file is not good, or is gone: no answer stays. Raises LeaseLost."""
    with db.write() as conn:
        conn.execute(batch_results.delete().where(batch_results.c.batch == batch.id))
        clock = db.clock(conn)
        _change(conn, batch, status="failed", errors=errors, total=total, failed_at=clock, lease_until=None)
        webhooks.tell(conn, batch.project, "batch.failed", batch.id, clock)


def note(db: Database, batch: Batch, results: Sequence[Result], used: Sequence[UsageRow]) -> None:
    """Keep what lines were answered, count them, and write what they used: all or nothing. Raises LeaseLost."""
    failed = sum(result.is_error for result in results)
    with db.write() as conn:
        _change(
            conn,
            batch,
            completed=batches.c.completed + len(results) - failed,
            failed=batches.c.failed + failed,
        )
        if results:
            conn.execute(
                batch_results.insert(),
                [
                    {"batch": batch.id, "line": r.line, "is_error": r.is_error, "text": r.text}
                    for r in results
                ],
            )
        usage.add_many(conn, used)


def answered(db: Database, batch: Batch) -> set[int]:
    """The numbers of the lines whose answers are kept."""
    with db.read() as conn:
        return set(conn.scalars(sa.select(batch_results.c.line).where(batch_results.c.batch == batch.id)))


def results(db: Database, batch: Batch, *, errors: bool) -> Iterator[Result]:
    """The kept answers, or the kept errors, in the lines' order; a few at a time."""
    last = 0
    while True:
        with db.read() as conn:
            rows = conn.execute(
                sa.select(batch_results.c.line, batch_results.c.text)
                .where(
                    batch_results.c.batch == batch.id,
                    batch_results.c.is_error == errors,
                    batch_results.c.line > last,
                )
                .order_by(batch_results.c.line)
                .limit(READ_AT_ONCE)
            ).all()
        for row in rows:
            yield Result(row.line, errors, bytes(row.text))
        if len(rows) < READ_AT_ONCE:
            return
        last = rows[-1].line


def finalize(db: Database, batch: Batch) -> Batch:
    """No more lines are answered, the files are next. One that is being cancelled stays so. Raises LeaseLost."""
    with db.write() as conn:
        is_going = batches.c.status == "in_progress"
        return _change(
            conn,
            batch,
            status=sa.case((is_going, "finalizing"), else_=batches.c.status),
            finalizing_at=sa.case((is_going, now(conn)), else_=batches.c.finalizing_at),
        )


def wrote(db: Database, digest: str) -> float:
    """A file's content lies there, for `end` to name; should another runner end the batch with another, it is cleared.

    Returns the time.
    """
    with db.write() as conn:
        forgetting.clear_unless_used(conn, digest)
        return db.clock(conn)


def end(
    db: Database,
    artifacts: Artifacts,
    batch: Batch,
    status: Status,
    *,
    output: File | None,
    errors: File | None,
    unanswered: int,
) -> None:
    """End a batch: its files' rows, its state and its counts, and the kept answers go. All or nothing.

    Raises LeaseLost, and Unavailable where a file's content was forgotten meanwhile: then it is to be written again.
    """
    made = [file for file in (output, errors) if file is not None]
    with db.write() as conn:
        forgetting.hold_artifacts(conn)
        if not all(artifacts.exists(file.digest) for file in made):
            raise Unavailable("A batch's file was dropped while it was written.", retry_after_s=1.0)
        clock = db.clock(conn)
        _change(
            conn,
            batch,
            status=status,
            failed=batches.c.failed + unanswered,
            output_file=output and output.id,
            error_file=errors and errors.id,
            lease_until=None,
            **{f"{status}_at": clock},
        )
        for file in made:
            files.add(conn, file)
        forgetting.cleared(conn, [file.digest for file in made])
        webhooks.tell(conn, batch.project, f"batch.{status}", batch.id, clock)
        conn.execute(batch_results.delete().where(batch_results.c.batch == batch.id))


def _change(conn: sa.Connection, batch: Batch, **values: Any) -> Batch:
    """Write to the batch's row while the fence holds. Raises LeaseLost."""
    row = conn.execute(
        batches.update().where(_held(batch)).values(**values).returning(*records.columns)
    ).first()
    if row is None:
        raise fences.lost(batch.id, batch.fence)
    return records.from_row(row)


def _held(batch: Batch) -> sa.ColumnElement[bool]:
    """True of the batch's row while its fence is the current one and it has not ended."""
    return sa.and_(batches.c.id == batch.id, batches.c.fence == batch.fence, batches.c.status.in_(UNFINISHED))
