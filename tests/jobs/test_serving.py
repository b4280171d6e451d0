"""One serve job for a base at a time, however many ask."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from inhouse.errors import ModelLoading
from inhouse.jobs import queue, serving
from inhouse.schema import Job, JobFault
from inhouse.store.db import Database
from inhouse.store.records import jobs as records
from inhouse.store.tables import jobs


def serve_jobs(db: Database) -> list[Job]:
    with db.read() as conn:
        return records.with_state(conn, "serve", ("queued", "running", "failed", "succeeded"))


def claimed(db: Database) -> Job:
    job = queue.claim(db, "w", ("serve",), 60)
    assert job is not None
    return job


def test_sixteen_that_ask_at_once_get_one_replica(db: Database) -> None:
    start = threading.Barrier(16)

    def ask() -> None:
        start.wait()
        serving.ensure_replica(db, "seedling")

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (job,) = serve_jobs(db)
    assert (job.kind, job.state, job.spec) == ("serve", "queued", {"base": "seedling"})


def test_a_replica_is_asked_for_again_only_when_the_last_one_ended(db: Database) -> None:
    serving.ensure_replica(db, "seedling")
    job = claimed(db)
    serving.ensure_replica(db, "seedling")
    serving.ensure_replica(db, "other")
    assert [job.spec["base"] for job in serve_jobs(db)] == ["seedling", "other"]
    queue.finish(db, job.id, job.fence, "succeeded")
    serving.ensure_replica(db, "seedling")
    assert [job.state for job in serve_jobs(db)] == ["succeeded", "queued", "queued"]


def test_a_base_that_has_just_failed_says_why_and_is_tried_again_later(db: Database) -> None:
    serving.ensure_replica(db, "broken")
    job = claimed(db)
    fault = JobFault(code="invalid_checkpoint", message="broken/model.safetensors is cut short.")
    queue.finish(db, job.id, job.fence, "failed", error=fault)
    with pytest.raises(ModelLoading, match="cut short") as caught:
        serving.ensure_replica(db, "broken")
    assert caught.value.retry_after_s is not None
    assert len(serve_jobs(db)) == 1
    with db.write() as conn:
        conn.execute(sa.update(jobs).values(finished_at=jobs.c.finished_at - serving.COOL_DOWN_S))
    serving.ensure_replica(db, "broken")
    assert [job.state for job in serve_jobs(db)] == ["failed", "queued"]


def test_no_project_can_see_or_cancel_a_replicas_job(db: Database) -> None:
    serving.ensure_replica(db, "seedling")
    with db.read() as conn:
        assert records.page(conn, "default", kind="serve") == ([], False)
