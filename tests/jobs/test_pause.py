"""A paused job is nobody's to claim, whatever becomes of its worker; resumed, it is claimed again."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from inhouse.errors import Conflict, LeaseLost, NotFound
from inhouse.jobs import queue
from inhouse.schema import Job
from inhouse.store.db import Database
from inhouse.store.records import jobs as records

from .test_queue import LONG_S, OVER_S, claim, claimed, get, publish, published, submit


def pause(db: Database, id: str) -> Job:
    with db.write() as conn:
        return records.pause(conn, "a", id, db.clock(conn))


def resume(db: Database, id: str) -> Job:
    with db.write() as conn:
        return records.resume(conn, "a", id)


def test_a_paused_job_is_claimed_only_once_it_is_resumed(db: Database) -> None:
    first, second = submit(db), submit(db)
    paused = pause(db, first)
    assert (paused.state, paused.paused_at is None) == ("queued", False)
    assert [w.job for w in queue.waiting(db)] == [second]
    assert claimed(db).id == second
    assert claim(db) is None
    assert resume(db, first).paused_at is None
    assert claimed(db).id == first


def test_a_running_job_is_put_down_and_goes_on_with_a_fence_of_its_own(db: Database) -> None:
    id = submit(db)
    job = claimed(db)
    assert not queue.is_pause_asked(db, id, job.fence)
    assert pause(db, id).state == "running"
    assert queue.is_pause_asked(db, id, job.fence)
    assert queue.put_down(db, id, job.fence, "Paused after step 3 of 9.")
    assert (get(db, id).state, get(db, id).worker) == ("queued", None)
    assert claim(db) is None
    assert not publish(db, job), "whoever put it down has nothing more to say"
    resume(db, id)
    again = claimed(db)
    assert (again.id, again.fence) == (id, job.fence + 1)
    assert publish(db, again)
    with db.read() as conn:
        log, _ = records.events(conn, "a", id)
    assert [e.message for e in log] == ["Paused after step 3 of 9."]


def test_a_job_that_is_resumed_before_it_stopped_runs_on(db: Database) -> None:
    id = submit(db)
    job = claimed(db)
    pause(db, id)
    resume(db, id)
    assert not queue.put_down(db, id, job.fence, "Paused.")
    assert get(db, id).state == "running"
    assert publish(db, job)


def test_pausing_twice_keeps_the_first_time_and_resuming_twice_changes_nothing(db: Database) -> None:
    id = submit(db)
    since = pause(db, id).paused_at
    assert pause(db, id).paused_at == since
    assert resume(db, id) == resume(db, id)


def test_an_ended_job_is_neither_paused_nor_resumed(db: Database) -> None:
    id = submit(db)
    assert publish(db, claimed(db))
    for verb in (pause, resume):
        with pytest.raises(Conflict) as caught:
            verb(db, id)
        assert "succeeded" in caught.value.message
    with pytest.raises(NotFound):
        pause(db, "ftjob-none")


def test_a_job_whose_worker_dies_before_it_came_to_pause_is_paused(db: Database) -> None:
    id = submit(db)
    dead = claimed(db, lease_s=OVER_S)
    pause(db, id)
    assert claim(db) is None
    found = get(db, id)
    assert (found.state, found.worker, found.paused_at is None) == ("queued", None, False)
    with pytest.raises(LeaseLost):  # it was only frozen, and wakes
        queue.note_checkpoint(db, id, dead.fence, 5)
    assert not publish(db, dead)
    resume(db, id)
    assert claimed(db).id == id


def test_a_crashing_job_is_not_failed_while_it_is_paused(db: Database) -> None:
    id = submit(db)
    for _ in range(queue.MAX_ATTEMPTS):
        assert claimed(db, lease_s=OVER_S).id == id
    pause(db, id)
    assert claim(db) is None
    assert get(db, id).state == "queued"
    resume(db, id)
    assert claim(db) is None
    assert get(db, id).state == "failed"


def test_a_cancelled_job_is_paused_no_more(db: Database) -> None:
    id = submit(db)
    pause(db, id)
    with db.write() as conn:
        assert records.cancel(conn, "a", id, 5.0).paused_at is None


def test_a_pause_that_races_with_the_end_leaves_a_job_that_has_ended_or_waits(db: Database) -> None:
    """Thirty jobs, each finished by its worker while its owner pauses it."""
    ended = paused = 0
    for _ in range(30):
        id = submit(db)
        job = claimed(db)
        start = threading.Barrier(2)
        outcome: list[str] = []

        def work(job: Job = job, start: threading.Barrier = start) -> None:
            start.wait()
            if queue.is_pause_asked(db, job.id, job.fence) and queue.put_down(
                db, job.id, job.fence, "Paused."
            ):
                return
            publish(db, job)

        def own(id: str = id, start: threading.Barrier = start, outcome: list[str] = outcome) -> None:
            start.wait()
            try:
                outcome.append(pause(db, id).state)
            except Conflict:
                outcome.append("too late")

        threads = [threading.Thread(target=work), threading.Thread(target=own)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = get(db, id)
        is_published = any(name.startswith(f"{id}:") for name in published(db))
        assert is_published == (found.state == "succeeded")
        if found.state == "succeeded":
            assert found.paused_at is None
            ended += 1
        else:
            assert (found.state, outcome) == ("queued", ["running"])
            paused += 1
    assert ended + paused == 30
    assert claim(db, lease_s=LONG_S) is None


def test_control_without_the_condition_a_paused_job_is_claimed(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = submit(db)
    pause(db, id)
    monkeypatch.setattr(
        queue, "_is_free", lambda conn, job: sa.or_(job["state"] == "queued", job["state"] == "running")
    )
    assert claimed(db).id == id
