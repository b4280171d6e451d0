"""A request that is sent again, by sixteen at once or with another body: done once, and said so."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from inhouse.errors import IdempotencyMismatch
from inhouse.schema import Job
from inhouse.server import idempotency as once
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import idempotency, jobs
from inhouse.store.records.idempotency import StoredReply
from tests.server.house import house

RACERS = 16


def submit(conn: sa.Connection) -> bytes:
    job = Job(id=ids.new("ftjob"), project="a", kind="tune", state="queued", spec={}, created_at=1.0)
    jobs.add(conn, job)
    return job.id.encode()


def race(db: Database, *, guarded: bool) -> list[bytes]:
    """Sixteen threads send one request at once; returns what each was answered."""
    start = threading.Barrier(RACERS)
    answers: list[bytes] = []

    def send() -> None:
        start.wait()
        with db.write() as conn:
            reply = idempotency.reserve(conn, "a", "key", "hash", 1.0) if guarded else None
            if reply is None:
                reply = StoredReply(200, submit(conn))
                if guarded:
                    idempotency.finish(conn, "a", "key", reply.status, reply.body)
        answers.append(reply.body)

    threads = [threading.Thread(target=send) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("guarded", [True, False])
def test_sixteen_racing_duplicates_make_one_job(db: Database, guarded: bool) -> None:
    """Fault 18: sixteen threads send one request at once; the control has no key, and sixteen jobs."""
    answers = race(db, guarded=guarded)
    with db.read() as conn:
        made = jobs.with_state(conn, "tune", ("queued",))
    assert len(answers) == RACERS
    assert len(made) == (1 if guarded else RACERS)
    assert set(answers) == {job.id.encode() for job in made}


@pytest.mark.parametrize("guarded", [True, False])
def test_another_body_under_the_same_key_is_a_422(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 19: nothing is done. The control knows keys and no bodies: whoever asks for another job is told of the
    first, as if it were his."""
    if not guarded:
        monkeypatch.setattr(once, "_digest", lambda request, asked: "any body")
    with house(tmp_path / "data") as made:
        client = made.client()

        def create(suffix: str) -> httpx2.Response:
            body = {"model": "seedling", "training_file": file, "suffix": suffix}
            return client.post("/v1/fine_tuning/jobs", json=body, headers={"idempotency-key": "one"})

        rows = {"file": ("r.jsonl", b'{"input": "a", "output": "b"}\n')}
        file = client.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
        first, again, other = create("first"), create("first"), create("other")
        assert len(client.get("/v1/fine_tuning/jobs").json()["data"]) == 1
    assert first.status_code == again.status_code == 200 and first.json()["id"] == again.json()["id"]
    if guarded:
        assert other.status_code == 422 and other.json()["error"]["code"] == "idempotency_key_reused"
    else:
        assert other.status_code == 200 and other.json()["id"] == first.json()["id"]


def test_another_body_under_the_same_key_is_refused_by_the_store(db: Database) -> None:
    """Fault 19: the first reply stays what it was, and each project has keys of its own."""
    with db.write() as conn:
        assert idempotency.reserve(conn, "a", "key", "one", 1.0) is None
        idempotency.finish(conn, "a", "key", 201, b"\x00\xff")
        assert idempotency.reserve(conn, "a", "key", "one", 2.0) == StoredReply(201, b"\x00\xff")
        with pytest.raises(IdempotencyMismatch):
            idempotency.reserve(conn, "a", "key", "other", 2.0)
        assert idempotency.reserve(conn, "b", "key", "other", 2.0) is None, "each project has its own keys"
