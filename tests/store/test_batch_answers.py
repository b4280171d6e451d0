"""What batches answered and a forgetting takes, on both databases: kept answers, files of answers, runners' fences."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from inhouse.errors import LeaseLost
from inhouse.jobs import batches as queue
from inhouse.jobs.batches import Result
from inhouse.schema import File, ModelCard
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, batches, facts, files, forgetting, models
from inhouse.store.records.batch_answers import Outputs
from inhouse.store.records.batches import Batch
from inhouse.store.tables import batch_results

from .test_facts import add, ask, bank

__all__ = ["bank"]


def answer(said: Any, model: str | None = None) -> bytes:
    body = {"choices": [{"message": {"content": said}}]}
    body |= {} if model is None else {"x_memory": {"model": model}}
    line = {"id": "b", "custom_id": "c", "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(line).encode() + b"\n"


UNANSWERED = b'{"id":"b","custom_id":"c","response":null,"error":{"code":"x","message":"y"}}\n'
SAYS = [answer("Well: THE  telling answer!"), answer("Yes.", "ft:m"), answer('{"a": "the telling answer"}')]
SAYS_NOT = [answer("yes"), answer("yesterday", "ft:m"), UNANSWERED]


@pytest.fixture
def house(db: Database, bank: str, tmp_path: Path) -> tuple[Database, Artifacts]:
    with db.write() as conn:
        about = {"bank": bank}
        card = ModelCard(
            name="ft:m", project="default", kind="memory", base="seedling", created_at=1.0, about=about
        )
        models.add(conn, card)
    return db, Artifacts(tmp_path / "artifacts")


def keep(house: tuple[Database, Artifacts], id: str, *lines: bytes, project: str = "default") -> None:
    db, artifacts = house
    digest, size = artifacts.put_stream(lines)
    with db.write() as conn:
        made: dict[str, Any] = {"bytes": size, "digest": digest, "created_at": 1.0}
        files.add(conn, File(id=id, project=project, filename="f", purpose="batch_output", **made))


def left(db: Database) -> set[str]:
    with db.read() as conn:
        return {file.id for project in ("default", "other") for file in files.page(conn, project)[0]}


def running(db: Database, project: str = "default") -> Batch:
    """A batch that is answered by us."""
    with db.write() as conn:
        times = {"created_at": 1.0, "expires_at": 4e9}
        batches.add(conn, Batch(f"batch-{project}", project, "key", "/v1", "file", "d" * 64, **times))
    claimed = queue.claim(db, 30.0)
    assert claimed is not None
    return queue.begin(db, claimed, 6)


def kept(db: Database) -> set[tuple[str, int]]:
    with db.read() as conn:
        return {(row.batch, row.line) for row in conn.execute(sa.select(batch_results))}


def test_files_of_answers_that_say_a_fact_are_forgotten_with_it(
    house: tuple[Database, Artifacts], bank: str
) -> None:
    db, artifacts = house
    one, _ = add(db, bank, ask("one", "the telling answer"))
    two, _ = add(db, bank, ask("two", "yes"))
    for i, line in enumerate(SAYS):
        keep(house, f"says-{i}", UNANSWERED, line)
    keep(house, "cites", answer(one.id))
    keep(house, "not", *SAYS_NOT)
    keep(house, "theirs", *SAYS, project="other")
    with db.write() as conn:
        first = facts.forget(conn, bank, one.id, author="a", now=2.0, outputs=Outputs(artifacts))
    assert set(first.files) == {"says-0", "says-2", "cites"}
    assert left(db) == {"says-1", "not", "theirs"}
    with db.write() as conn:
        second = facts.forget(conn, bank, two.id, author="a", now=2.0, outputs=Outputs(artifacts))
        assert set(second.digests) < set(forgetting.due(conn)), "their contents are to be cleared"
    assert second.files == ("says-1",) and len(second.digests) == 1


@pytest.mark.parametrize("damage", [b"{", b"[1]", b"{}", b'"\xff"', b'{"response": 5}'])
def test_a_damaged_line_stands_in_no_forgetting_s_way_and_goes_with_it(
    house: tuple[Database, Artifacts], bank: str, damage: bytes
) -> None:
    db, artifacts = house
    fact, _ = add(db, bank, ask("one", "the telling answer"))
    keep(house, "damaged", SAYS_NOT[0], damage)
    keep(house, "not", SAYS_NOT[0])
    with db.write() as conn:
        facts.forget(conn, bank, fact.id, author="a", now=1.0, outputs=Outputs(artifacts))
    assert left(db) == {"not"}


def test_deleting_a_memory_forgets_the_files_of_what_it_answered(
    house: tuple[Database, Artifacts], bank: str
) -> None:
    db, artifacts = house
    keep(house, "its", answer("anything", "ft:m"))
    keep(house, "other's", answer("anything", "ft:n"), UNANSWERED)
    with db.write() as conn:
        assert banks.delete(conn, bank, Outputs(artifacts)).files == ("its",)
    assert left(db) == {"other's"}


def test_answers_of_running_batches_are_forgotten_and_their_lines_are_answered_anew(
    house: tuple[Database, Artifacts], bank: str
) -> None:
    db, _ = house
    fact, _ = add(db, bank, ask("one", "the telling answer"))
    ours, theirs = running(db), running(db, "other")
    lines = [Result(1, False, SAYS[0]), Result(2, True, SAYS[2]), Result(3, False, SAYS_NOT[0])]
    for batch in (ours, theirs):
        queue.note(db, batch, lines, [])
    assert queue.finalize(db, ours).finalizing_at is not None
    with db.write() as conn:
        facts.forget(conn, bank, fact.id, author="a", now=2.0)
    assert kept(db) == {(ours.id, 3), *((theirs.id, line) for line in (1, 2, 3))}
    with pytest.raises(LeaseLost):  # what was answered before, from what is forgotten now
        queue.note(db, ours, [Result(4, False, SAYS[0])], [])
    again = queue.claim(db, 30.0)
    assert again is not None, "it is free at once"
    assert (again.id, again.status, again.finalizing_at) == (ours.id, "in_progress", None)
    assert (again.completed, again.failed) == (1, 0)
    queue.note(db, theirs, [Result(4, False, SAYS[0])], [])  # another project's goes on


def test_a_content_that_no_end_named_is_cleared_and_one_that_an_end_named_stays(
    house: tuple[Database, Artifacts],
) -> None:
    db, artifacts = house
    ours = running(db)
    digest, _ = artifacts.put_stream([SAYS[0]])
    now = queue.wrote(db, digest)
    with db.read() as conn:
        assert forgetting.due(conn) == [digest]
    made: dict[str, Any] = {"filename": "f", "purpose": "batch_output", "bytes": 1, "created_at": now}
    output = File(id="file-out", project="default", digest=digest, **made)
    queue.end(db, artifacts, ours, "completed", output=output, errors=None, unanswered=0)
    with db.read() as conn:
        assert forgetting.due(conn) == []


def test_no_batch_begins_while_its_project_forgets(postgres_url: str) -> None:
    """On PostgreSQL transactions run beside each other: a line may not be asked of what is nearly forgotten."""
    db = Database(postgres_url)
    migrate(db)
    with db.write() as conn:
        times = {"created_at": 1.0, "expires_at": 4e9}
        batches.add(conn, Batch("batch-1", "default", "key", "/v1", "file", "d" * 64, **times))
    claimed = queue.claim(db, 30.0)
    assert claimed is not None
    thread = threading.Thread(target=lambda: queue.begin(db, claimed, 1))
    with db.write() as conn:
        forgetting.hold_responses(conn, "default")
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "it waits for the forgetting to end"
    thread.join(10)
    assert not thread.is_alive()
    db.dispose()
