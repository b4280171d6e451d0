"""A job is worked on at least once and published exactly once, whoever dies, sleeps or comes late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from inhouse.errors import InhouseError, LeaseLost
from inhouse.jobs import queue
from inhouse.jobs.placement import Waiting
from inhouse.schema import Job, JobFault, ModelCard
from inhouse.store import fence as fence_module
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import jobs as records
from inhouse.store.records import models
from inhouse.store.tables import jobs as jobs_table

LONG_S = 60.0
OVER_S = -1.0
"""A lease that has already run out: a worker that was silent too long."""


def submit(db: Database, **changes: object) -> str:
    values = {
        "id": ids.new("ftjob"),
        "project": "a",
        "kind": "tune",
        "state": "queued",
        "spec": {"base": "b"},
    }
    job = Job.model_validate({**values, "created_at": 1.0, **changes})
    queue.submit(db, job)
    return job.id


def get(db: Database, job_id: str) -> Job:
    with db.read() as conn:
        return records.get(conn, None, job_id)


def claim(db: Database, worker: str = "w", lease_s: float = LONG_S) -> Job | None:
    return queue.claim(db, worker, ("tune", "serve"), lease_s)


def claimed(db: Database, worker: str = "w", lease_s: float = LONG_S) -> Job:
    job = claim(db, worker, lease_s)
    assert job is not None
    return job


def publication(job: Job) -> Callable[[sa.Connection], None]:
    card = ModelCard(
        name=f"{job.id}:{job.fence}", project="a", kind="adapter", base="b", job=job.id, created_at=1.0
    )
    return lambda conn: models.add(conn, card)


def publish(db: Database, job: Job) -> bool:
    """Finish as a worker would; False if it came too late."""
    try:
        queue.finish(db, job.id, job.fence, "succeeded", result={"ok": 1}, publish=publication(job))
    except LeaseLost:
        return False
    return True


def published(db: Database) -> list[str]:
    with db.read() as conn:
        return [card.name for card in models.all(conn, "a")]


@pytest.fixture(params=["fenced", "control: no fence"])
def fenced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the fence stands. Each test that takes this must show the fault once it is gone."""
    if request.param != "fenced":
        monkeypatch.setattr(fence_module, "held", lambda job_id, fence: jobs_table.c.id == job_id)
    return bool(request.param == "fenced")


def test_jobs_are_claimed_in_order_of_arrival_and_by_kind(db: Database) -> None:
    first, second, serve = submit(db), submit(db), submit(db, kind="serve")
    assert queue.claim(db, "w", (), LONG_S) is None
    job = queue.claim(db, "w", ("serve",), LONG_S)
    assert job is not None and job.id == serve
    job = claimed(db, "me")
    assert (job.id, job.state, job.fence, job.attempts, job.worker) == (first, "running", 1, 1, "me")
    assert job.started_at is not None and abs(job.started_at - time.time()) < 60
    assert job == get(db, first)
    assert claimed(db).id == second
    assert claim(db) is None


def test_jobs_that_are_not_validated_or_have_ended_are_not_claimed(db: Database) -> None:
    for state in ("validating_files", "succeeded", "failed", "cancelled"):
        submit(db, state=state)
    assert claim(db) is None


def test_racing_workers_never_share_a_job(db: Database) -> None:
    submitted = {submit(db) for _ in range(30)}
    start = threading.Barrier(6)
    taken: list[str] = []

    def worker() -> None:
        start.wait()
        while (job := claim(db)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(submitted)


def test_reading_and_then_marking_a_job_would_share_it(db: Database) -> None:
    """The control of the test above: two workers that look before they claim both find the same job."""
    submit(db)
    looked: list[str] = []
    for _ in range(2):
        with db.read() as conn:
            (job,) = records.with_state(conn, "tune", ("queued",))
        looked.append(job.id)
    for job_id in looked:
        with db.write() as conn:
            conn.execute(jobs_table.update().where(jobs_table.c.id == job_id).values(state="running"))
    assert len(looked) == 2 and len(set(looked)) == 1


def test_a_claim_does_not_wait_for_a_row_that_a_frozen_worker_holds(postgres_url: str) -> None:
    db = Database(postgres_url)
    migrate(db)
    frozen, free = submit(db), submit(db)
    with db.write() as conn:
        conn.execute(sa.select(jobs_table).where(jobs_table.c.id == frozen).with_for_update())
        assert claimed(db).id == free
        assert claim(db) is None
    assert claimed(db).id == frozen
    db.dispose()


def test_a_job_whose_worker_fell_silent_goes_to_another(db: Database) -> None:
    submit(db)
    first = claimed(db, "first", lease_s=0.3)
    assert claim(db, "second") is None
    time.sleep(0.35)
    second = claimed(db, "second")
    assert (second.id, second.fence, second.attempts, second.worker) == (first.id, 2, 2, "second")
    assert second.started_at == first.started_at


def test_heartbeats_keep_a_job(db: Database) -> None:
    submit(db)
    job = claimed(db, lease_s=OVER_S)
    assert queue.heartbeat(db, job.id, job.fence, LONG_S)
    assert claim(db, "other") is None


def test_a_worker_woken_after_its_lease_publishes_nothing(db: Database, fenced: bool) -> None:
    """Fault 5: the control, without the fence, publishes twice."""
    submit(db)
    frozen = claimed(db, "frozen", lease_s=OVER_S)
    other = claimed(db, "other")
    assert publish(db, other)
    assert publish(db, frozen) is not fenced
    assert published(db) == [f"{other.id}:2"] + ([] if fenced else [f"{other.id}:1"])


def test_a_woken_worker_that_is_first_to_finish_publishes_nothing_either(db: Database, fenced: bool) -> None:
    """Fault 5: though it comes first; the control has no fence."""
    submit(db)
    frozen = claimed(db, "frozen", lease_s=OVER_S)
    other = claimed(db, "other")
    assert publish(db, frozen) is not fenced
    assert publish(db, other)
    assert len(published(db)) == (1 if fenced else 2)
    assert get(db, other.id).state == "succeeded"


LATE: dict[str, Callable[[Database, Job], object]] = {
    "heartbeat": lambda db, job: queue.heartbeat(db, job.id, job.fence, LONG_S) or _lost(),
    "note_checkpoint": lambda db, job: queue.note_checkpoint(db, job.id, job.fence, 5),
    "release": lambda db, job: queue.release(db, job.id, job.fence),
    "finish": lambda db, job: queue.finish(db, job.id, job.fence, "failed"),
}


def _lost() -> None:
    raise LeaseLost("no longer ours")


@pytest.mark.parametrize("write", LATE)
def test_no_late_write_changes_the_job(db: Database, write: str, fenced: bool) -> None:
    """Fault 5: none of the ways to write; the control has no fence."""
    submit(db)
    late = claimed(db, "late", lease_s=OVER_S)
    before = get(db, claimed(db, "other").id)
    if fenced:
        with pytest.raises(LeaseLost):
            LATE[write](db, late)
        assert get(db, before.id) == before
    else:
        LATE[write](db, late)


def test_cancelling_takes_the_fence_from_the_worker(db: Database, fenced: bool) -> None:
    submit(db)
    job = claimed(db)
    with db.write() as conn:
        assert records.cancel(conn, "a", job.id, 2.0).state == "cancelled"
    assert queue.heartbeat(db, job.id, job.fence, LONG_S) is not fenced
    assert publish(db, job) is not fenced
    assert published(db) == ([] if fenced else [f"{job.id}:1"])
    assert claim(db) is None


def test_an_error_in_publishing_leaves_the_job_running_and_nothing_published(db: Database) -> None:
    submit(db)
    job = claimed(db)

    def publishes_half(conn: sa.Connection) -> None:
        publication(job)(conn)
        raise KeyError

    with pytest.raises(KeyError):
        queue.finish(db, job.id, job.fence, "succeeded", publish=publishes_half)
    assert published(db) == []
    assert get(db, job.id).state == "running"
    assert publish(db, job)


def test_a_finished_job_keeps_its_result_or_its_error(db: Database) -> None:
    submit(db)
    good = claimed(db)
    assert publish(db, good)
    ended = get(db, good.id)
    assert (ended.state, ended.result, ended.error) == ("succeeded", {"ok": 1}, None)
    assert ended.finished_at is not None
    submit(db)
    bad = claimed(db)
    fault = JobFault(code="diverged", message="loss is NaN")
    queue.finish(db, bad.id, bad.fence, "failed", error=fault)
    assert get(db, bad.id).error == fault
    assert not publish(db, bad), "a job ends once"


def test_a_released_job_is_free_at_once_and_has_lost_no_attempt(db: Database) -> None:
    submit(db)
    for fence in range(1, 8):
        job = claimed(db)
        assert (job.fence, job.attempts) == (fence, 1)
        queue.release(db, job.id, job.fence)
        waiting = get(db, job.id)
        assert (waiting.state, waiting.attempts, waiting.worker) == ("queued", 0, None)
        assert not queue.heartbeat(db, job.id, job.fence, LONG_S)


@pytest.mark.parametrize("death", ["silent", "reported"])
def test_a_job_that_kills_every_worker_fails_as_crashed_and_the_queue_goes_on(
    db: Database, death: str
) -> None:
    """Faults 16 and 40: three attempts, whether the worker died too or could say so."""
    poison, next_one = submit(db), submit(db)
    for _ in range(queue.MAX_ATTEMPTS):
        job = claimed(db, lease_s=OVER_S)
        assert job.id == poison
        if death == "reported":
            queue.release(db, job.id, job.fence, crashed=True)
    assert claimed(db).id == next_one
    ended = get(db, poison)
    assert (ended.state, ended.error and ended.error.code) == ("failed", "crashed")
    assert ended.finished_at is not None
    assert not publish(db, job), "even its last worker, if it only slept"
    with db.read() as conn:
        assert records.events(conn, "a", poison)[0][0].level == "error"
    assert claim(db) is None


def test_without_the_breaker_a_poison_job_starves_the_queue(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 16 and 40: the control of the test above."""
    monkeypatch.setattr(queue, "MAX_ATTEMPTS", 10**6)
    poison, _ = submit(db), submit(db)
    assert {claimed(db, lease_s=OVER_S).id for _ in range(10)} == {poison}


def test_only_a_newer_checkpoint_starts_the_count_of_attempts_anew(db: Database) -> None:
    submit(db)
    for step in (10, 20, 30, 40):
        job = claimed(db, lease_s=OVER_S)
        assert job.attempts == 1
        queue.note_checkpoint(db, job.id, job.fence, step)
        assert get(db, job.id).attempts == 0
    for step, attempts in ((40, 1), (39, 2), (1, 3)):
        job = claimed(db, lease_s=OVER_S)
        queue.note_checkpoint(db, job.id, job.fence, step)
        assert job.attempts == get(db, job.id).attempts == attempts
    assert claim(db) is None
    assert get(db, job.id).state == "failed"


def test_what_waits_is_what_a_claim_could_take(db: Database) -> None:
    lapsed = submit(db)
    claimed(db, lease_s=OVER_S)
    submit(db, kind="serve", state="cancelled")
    serve = submit(db, kind="serve", spec={"base": "seedling"})
    assert queue.waiting(db) == [Waiting(lapsed, "tune", "b"), Waiting(serve, "serve", "seedling")]
    claimed(db)
    claimed(db)
    assert queue.waiting(db) == []


def test_late_writers_racing_publish_once(db: Database) -> None:
    submit(db)
    holders = [claimed(db, f"w{i}", lease_s=OVER_S) for i in range(queue.MAX_ATTEMPTS)]
    start = threading.Barrier(len(holders))
    failures: list[InhouseError] = []

    def finish(job: Job) -> None:
        start.wait()
        try:
            publish(db, job)
        except InhouseError as e:
            failures.append(e)

    threads = [threading.Thread(target=finish, args=(job,)) for job in holders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert published(db) == [f"{holders[-1].id}:{holders[-1].fence}"]
