"""A batch is run by one server at a time, and what it wrote is whole, whoever dies, sleeps or comes late."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.errors import InhouseError, LeaseLost
from inhouse.jobs import batches as queue
from inhouse.jobs.batches import Result
from inhouse.schema import File
from inhouse.store import ids, tables
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import batches as records
from inhouse.store.records import files, usage
from inhouse.store.records.batches import Batch
from inhouse.store.records.usage import UsageRow
from tests.server.batch_server import autocommit

LONG_S = 60.0
OVER_S = -1.0
"""A lease that has run out: the server is gone, or frozen."""
USED = UsageRow("a", "key", "model", "req", 3, 4, 1.0)


def add(db: Database, project: str = "a", **changes: object) -> str:
    batch = Batch(
        id=ids.new("batch"),
        project=project,
        key="key",
        endpoint="/v1/completions",
        input_file="file",
        digest="d",
        created_at=1.0,
        expires_at=2.0,
        **changes,  # type: ignore[arg-type]
    )
    with db.write() as conn:
        records.add(conn, batch)
    return batch.id


def claimed(db: Database, lease_s: float = LONG_S, running: tuple[str, ...] = ()) -> Batch:
    batch = queue.claim(db, lease_s, running)
    assert batch is not None
    return batch


def get(db: Database, id: str) -> Batch:
    with db.read() as conn:
        return records.get(conn, "a", id)


def result(line: int, *, is_error: bool = False) -> Result:
    return Result(line, is_error, f"line {line}\n".encode())


@pytest.fixture(params=["fenced", "control: no fence"])
def fenced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the fence stands. Each test that takes this must show the fault once it is gone."""
    if request.param != "fenced":
        monkeypatch.setattr(queue, "_held", lambda batch: tables.batches.c.id == batch.id)
    return bool(request.param == "fenced")


@pytest.fixture(params=["whole", "control: no transaction"])
def whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether what belongs together is written together."""
    if request.param != "whole":
        autocommit(monkeypatch.setattr)
    return bool(request.param == "whole")


def test_the_oldest_goes_first_but_projects_take_turns(db: Database) -> None:
    first, second, other = add(db), add(db), add(db, "b")
    assert claimed(db).id == first
    assert claimed(db, running=("a",)).id == other
    assert claimed(db, running=("a", "b")).id == second
    assert queue.claim(db, LONG_S) is None


def test_a_batch_that_was_given_back_or_lapsed_is_claimed_again_and_an_ended_one_is_not(db: Database) -> None:
    id = add(db)
    queue.release(db, claimed(db))
    lapsed = claimed(db, OVER_S)
    ours = claimed(db)
    assert (lapsed.fence, ours.fence, ours.id) == (2, 3, id)
    queue.fail(db, ours, [{"code": "x"}], 0)
    assert queue.claim(db, LONG_S) is None


def test_a_server_that_woke_too_late_adds_nothing(db: Database, fenced: bool) -> None:
    id = add(db, status="in_progress", total=2)
    late = claimed(db, OVER_S)
    ours = claimed(db)
    queue.note(db, ours, [result(1)], [USED])
    late_writes = [
        lambda: queue.note(db, late, [result(2)], [USED]),
        lambda: queue.renew(db, late, LONG_S),
        lambda: queue.finalize(db, late),
        lambda: queue.fail(db, late, [], 0),
    ]
    refused = 0
    for write in late_writes:
        try:
            write()
        except LeaseLost:
            refused += 1
    state = get(db, id)
    assert (refused == 4) == fenced
    assert ((state.completed, state.status, queue.answered(db, ours)) == (1, "in_progress", {1})) == fenced


def test_a_line_is_never_kept_twice(db: Database) -> None:
    id = add(db, status="in_progress", total=1)
    ours = claimed(db)
    queue.note(db, ours, [result(1)], [USED])
    with pytest.raises(InhouseError) as caught:
        queue.note(db, ours, [result(1)], [USED])
    assert caught.value.code == "conflict"
    assert get(db, id).completed == 1
    with db.read() as conn:
        assert usage.total(conn, "a", 0).requests == 1


class Cut(Exception):
    """The server died here."""


def test_answers_their_count_and_their_usage_are_one(
    db: Database, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = add(db, status="in_progress", total=2)
    ours = claimed(db)

    def cut(conn: sa.Connection, rows: object) -> None:
        conn.exec_driver_sql("SELECT 1")  # without transactions, what came before lasts now
        raise Cut

    with monkeypatch.context() as dying:
        dying.setattr(usage, "add_many", cut)
        with pytest.raises(Cut):
            queue.note(db, ours, [result(1), result(2, is_error=True)], [USED])
    state = get(db, id)
    is_untouched = (state.completed, state.failed, queue.answered(db, ours)) == (0, 0, set())
    assert is_untouched == whole


def test_the_end_its_files_and_that_answers_go_are_one(
    db: Database, whole: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    id = add(db, status="in_progress", total=1)
    ours = claimed(db)
    queue.note(db, ours, [result(1)], [])
    ours = queue.finalize(db, ours)
    assert ours.status == "finalizing"
    artifacts = Artifacts(tmp_path / "artifacts")
    digest, size = artifacts.put_stream(r.text for r in queue.results(db, ours, errors=False))
    output = File(
        id="file-1",
        project="a",
        filename="o",
        purpose="batch_output",
        bytes=size,
        digest=digest,
        created_at=1.0,
    )

    def cut(conn: sa.Connection, file: File) -> None:
        conn.exec_driver_sql("SELECT 1")  # without transactions, what came before lasts now
        raise Cut

    def end() -> None:
        queue.end(db, artifacts, ours, "completed", output=output, errors=None, unanswered=0)

    with monkeypatch.context() as dying:
        dying.setattr(files, "add", cut)
        with pytest.raises(Cut):
            end()
    assert (get(db, id).status == "finalizing" and queue.answered(db, ours) == {1}) == whole
    if whole:
        end()
        state = get(db, id)
        assert (state.status, state.output_file, queue.answered(db, ours)) == ("completed", "file-1", set())
        with db.read() as conn:
            assert files.get(conn, "a", "file-1").bytes == size


def test_answers_come_back_in_the_lines_order_a_few_at_a_time(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "READ_AT_ONCE", 3)
    add(db, status="in_progress", total=20)
    ours = claimed(db)
    order = [9, 3, 20, 1, 7, 8, 2, 15]
    for line in order:
        queue.note(db, ours, [result(line, is_error=line == 7)], [])
    assert [r.line for r in queue.results(db, ours, errors=False)] == sorted(set(order) - {7})
    assert [r.text for r in queue.results(db, ours, errors=True)] == [b"line 7\n"]


@pytest.mark.parametrize("at", ["begin", "finalize"])
def test_a_batch_that_is_being_cancelled_stays_so(db: Database, at: str) -> None:
    id = add(db, status="validating" if at == "begin" else "in_progress")
    ours = claimed(db)
    with db.write() as conn:
        assert records.cancel(conn, "a", id, 5.0).cancelling_at == 5.0
        assert records.cancel(conn, "a", id, 6.0).cancelling_at == 5.0
    found = queue.begin(db, ours, 3) if at == "begin" else queue.finalize(db, ours)
    assert found.status == "cancelling"
