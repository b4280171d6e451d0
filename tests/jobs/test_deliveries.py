"""The outbox: what is told is what happened, and each delivery is one server's to send until it has arrived."""

from __future__ import annotations

import json
import threading
import time

import pytest
import sqlalchemy as sa

from inhouse.errors import LeaseLost
from inhouse.jobs import batches, deliveries, queue
from inhouse.jobs.deliveries import Due
from inhouse.schema import JobFault
from inhouse.store import tables
from inhouse.store.db import Database
from inhouse.store.records import batches as batch_records
from inhouse.store.records import jobs as records
from inhouse.store.records import webhooks
from inhouse.store.records.webhooks import EVENTS, Delivery, Webhook

from .test_batches import add as add_batch
from .test_batches import claimed as claimed_batch
from .test_queue import OVER_S, claim, claimed, submit


def hook(db: Database, id: str = "we_1", project: str = "a", events: tuple[str, ...] = EVENTS) -> str:
    with db.write() as conn:
        webhooks.add(
            conn,
            Webhook(
                id=id,
                project=project,
                name=id,
                url="http://x",
                events=[*events],
                secret="whsec_AAAA",
                old_secret=None,
                old_until=None,
                created_at=1.0,
                updated_at=1.0,
            ),
        )
    return id


def outbox(db: Database, id: str = "we_1") -> list[Delivery]:
    """Oldest first."""
    with db.read() as conn:
        return webhooks.told(conn, id, limit=100)[0][::-1]


def told(db: Database, id: str = "we_1") -> list[tuple[str, str]]:
    """What each delivery says of which object."""
    bodies = [json.loads(one.payload) for one in outbox(db, id)]
    return [(body["type"], body["data"]["id"]) for body in bodies]


def due(db: Database, *busy: str) -> Due:
    found = deliveries.claim(db, busy)
    assert found is not None
    return found


def cancel(db: Database, job: str) -> None:
    with db.write() as conn:
        records.cancel(conn, "a", job, 2.0)


def test_every_way_in_which_a_job_ends_is_told_once(db: Database) -> None:
    hook(db)
    done, failed, crashed = submit(db), submit(db), submit(db)
    bad, cancelled = submit(db, state="validating_files"), submit(db, state="validating_files")
    for id, state in ((done, "succeeded"), (failed, "failed")):
        job = claimed(db)
        assert job.id == id
        queue.finish(db, id, job.fence, state)
        with pytest.raises(LeaseLost):
            queue.finish(db, id, job.fence, state)
    for _ in range(queue.MAX_ATTEMPTS):
        assert claimed(db, lease_s=OVER_S).id == crashed
    assert claim(db) is None
    with db.write() as conn:
        fault = JobFault(code="x", message="x")
        records.set_validated(conn, bad, False, fault, 3.0)
        records.set_validated(conn, bad, False, fault, 3.0)
    cancel(db, cancelled)
    ends = [(done, "succeeded"), (failed, "failed"), (crashed, "failed"), (bad, "failed")]
    assert told(db) == [(f"fine_tuning.job.{s}", id) for id, s in (*ends, (cancelled, "cancelled"))]


def test_serving_jobs_are_nobodys_news(db: Database) -> None:
    hook(db)
    job = claimed(db) if submit(db, kind="serve") else None
    assert job is not None
    queue.finish(db, job.id, job.fence, "failed")
    assert told(db) == []


def test_every_way_in_which_a_batch_ends_is_told_once(db: Database, tmp_path: object) -> None:
    from pathlib import Path

    from inhouse.store.artifacts import Artifacts

    hook(db)
    artifacts = Artifacts(Path(str(tmp_path)) / "artifacts")
    expected = []
    for status in ("completed", "expired", "cancelled"):
        add_batch(db)
        batch = claimed_batch(db)
        batches.end(db, artifacts, batch, status, output=None, errors=None, unanswered=0)  # type: ignore[arg-type]
        with pytest.raises(LeaseLost):
            batches.end(db, artifacts, batch, status, output=None, errors=None, unanswered=0)  # type: ignore[arg-type]
        expected.append((f"batch.{status}", batch.id))
    add_batch(db)
    batch = claimed_batch(db)
    batches.fail(db, batch, [], 0)
    assert told(db) == [*expected, ("batch.failed", batch.id)]
    with db.read() as conn:
        assert batch_records.get(conn, "a", batch.id).status == "failed"


def test_a_webhook_is_told_of_its_own_project_and_of_what_it_asked_for(db: Database) -> None:
    hook(db, "we_all")
    hook(db, "we_some", events=("fine_tuning.job.failed",))
    hook(db, "we_other", project="b")
    cancel(db, submit(db))
    assert [len(outbox(db, id)) for id in ("we_all", "we_some", "we_other")] == [1, 0, 0]


def test_what_does_not_happen_is_not_told(db: Database) -> None:
    hook(db)
    submit(db)
    job = claimed(db)

    def publish(conn: sa.Connection) -> None:
        raise KeyError("the disk is gone")

    with pytest.raises(KeyError):
        queue.finish(db, job.id, job.fence, "succeeded", publish=publish)
    assert told(db) == []
    with db.read() as conn:
        assert records.get(conn, "a", job.id).state == "running"


def test_racing_servers_never_send_the_same_delivery(db: Database) -> None:
    hook(db)
    for _ in range(20):
        cancel(db, submit(db))
    taken: list[str] = []
    start = threading.Barrier(4)

    def serve() -> None:
        start.wait()
        while (found := deliveries.claim(db)) is not None:
            taken.append(found.delivery.id)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(one.id for one in outbox(db)) and len(set(taken)) == 20


def test_a_busy_webhook_waits_and_the_others_do_not(db: Database) -> None:
    hook(db, "we_1")
    hook(db, "we_2")
    cancel(db, submit(db))
    assert due(db, "we_1").webhook.id == "we_2"
    assert deliveries.claim(db, ("we_1",)) is None
    assert due(db).webhook.id == "we_1"


def test_what_does_not_arrive_is_due_later_and_later_until_it_is_given_up(db: Database) -> None:
    hook(db)
    cancel(db, submit(db))
    with db.write() as conn:  # told now, not at the second of the epoch
        conn.execute(tables.deliveries.update().values(created_at=time.time(), due_at=time.time() - 1))
    waits = []
    for count in range(1, 60):
        found = due(db)
        assert found.delivery.tries == count
        assert deliveries.claim(db) is None, "it is ours"
        deliveries.settle(db, found.delivery, arrived=False, said="status 500")
        (left,) = outbox(db)
        if left.due_at is None:
            break
        with db.write() as conn:
            wait_s = left.due_at - db.clock(conn)
            waits.append(wait_s)
            moved = {"due_at": db.clock(conn) - 1, "created_at": tables.deliveries.c.created_at - wait_s}
            conn.execute(tables.deliveries.update().values(**moved))
    assert 4 < waits[0] < 6 and waits[:9] == sorted(waits[:9])
    assert 8 * 3600 <= waits[-1] <= 9 * 3600
    assert 60 * 3600 < sum(waits) <= deliveries.PATIENCE_S
    assert (left.delivered_at, left.said, left.tries) == (None, "status 500", len(waits) + 1)
    assert deliveries.claim(db) is None


def test_what_arrived_is_over(db: Database) -> None:
    hook(db)
    cancel(db, submit(db))
    deliveries.settle(db, due(db).delivery, arrived=True, said="status 200")
    (over,) = outbox(db)
    assert over.delivered_at is not None and over.due_at is None
    assert deliveries.claim(db) is None


@pytest.mark.parametrize("lease_s", [-1.0, 60.0])
def test_a_server_that_came_late_says_nothing_of_what_another_sends(
    db: Database, monkeypatch: pytest.MonkeyPatch, lease_s: float
) -> None:
    """With a lease that has run out the delivery is another's; with one that has not, nobody else gets it."""
    monkeypatch.setattr(deliveries, "LEASE_S", lease_s)
    hook(db)
    cancel(db, submit(db))
    late = due(db)
    again = deliveries.claim(db)
    if lease_s > 0:
        assert again is None
        return
    assert again is not None and again.delivery.id == late.delivery.id
    deliveries.settle(db, late.delivery, arrived=False, said="late")
    assert outbox(db)[0].said == ""
    deliveries.settle(db, again.delivery, arrived=True, said="status 200")
    assert outbox(db)[0].said == "status 200"


def test_a_removed_webhook_is_told_nothing_more(db: Database) -> None:
    id = hook(db)
    cancel(db, submit(db))
    with db.write() as conn:
        webhooks.remove(conn, "a", id)
    assert deliveries.claim(db) is None


def test_old_deliveries_are_forgotten_and_those_that_wait_are_not(db: Database) -> None:
    hook(db)
    for _ in range(2):
        cancel(db, submit(db))
    deliveries.settle(db, due(db).delivery, arrived=True, said="status 200")
    with db.write() as conn:
        assert webhooks.sweep(conn, 2.0 + webhooks.KEPT_S - 1) == 0
        assert webhooks.sweep(conn, 2.0 + webhooks.KEPT_S + 1) == 1
    assert [one.due_at is None for one in outbox(db)] == [False]
