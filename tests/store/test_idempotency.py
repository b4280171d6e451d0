"""A request that is sent again is answered again and done once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from inhouse.errors import Conflict
from inhouse.schema import Job
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import idempotency, jobs
from inhouse.store.records.idempotency import KEPT_S, StoredReply


def submit(conn: sa.Connection) -> bytes:
    job = Job(id=ids.new("ftjob"), project="a", kind="tune", state="queued", spec={}, created_at=1.0)
    jobs.add(conn, job)
    return job.id.encode()


def test_a_request_in_flight_is_a_conflict_that_says_when_to_retry(db: Database) -> None:
    with db.write() as conn:
        assert idempotency.reserve(conn, "a", "key", "one", 1.0, lease_s=15.0) is None
    with pytest.raises(Conflict) as caught, db.write() as conn:
        idempotency.reserve(conn, "a", "key", "one", 2.0)
    assert caught.value.retry_after_s is not None
    with db.write() as conn:
        idempotency.forget(conn, "a", "key")
        assert idempotency.reserve(conn, "a", "key", "one", 3.0) is None


def test_a_failed_request_leaves_no_reservation_in_its_transaction(db: Database) -> None:
    @contextmanager
    def failing() -> Iterator[sa.Connection]:
        with db.write() as conn:
            yield conn
            raise KeyError

    with pytest.raises(KeyError), failing() as conn:
        assert idempotency.reserve(conn, "a", "key", "one", 1.0) is None
        submit(conn)
    with db.write() as conn:
        assert idempotency.reserve(conn, "a", "key", "one", 2.0) is None


def test_a_reservation_of_a_server_that_died_is_taken_over_once_its_lease_is_over(db: Database) -> None:
    def reserve(holder: str) -> StoredReply | None:
        with db.write() as conn:
            return idempotency.reserve(conn, "a", "key", "one", 1.0, holder=holder, lease_s=15.0)

    def lapse() -> None:
        with db.write() as conn:
            conn.exec_driver_sql("UPDATE idempotency SET lease_until = lease_until - 16")

    assert reserve("dead") is None
    lapse()
    with db.write() as conn:
        idempotency.renew(conn, ["dead"], 15.0)
    with pytest.raises(Conflict):
        reserve("other")
    lapse()
    assert reserve("other") is None
    with pytest.raises(Conflict):
        reserve("third")
    with pytest.raises(Conflict, match="taken for lost"), db.write() as conn:
        submit(conn)
        idempotency.finish(conn, "a", "key", 200, b"late", holder="dead")
    with db.write() as conn:
        assert jobs.counts(conn) == {}, "what came too late did nothing"
        idempotency.forget(conn, "a", "key", holder="dead")
        idempotency.finish(conn, "a", "key", 200, b"reply", holder="other")
    assert reserve("dead") == StoredReply(200, b"reply")


def test_a_key_is_kept_for_a_day(db: Database) -> None:
    with db.write() as conn:
        for key in ("key", "other"):
            idempotency.reserve(conn, "a", key, "one", 0.0)
            idempotency.finish(conn, "a", key, 200, b"old")
        assert idempotency.reserve(conn, "a", "key", "one", KEPT_S - 1) == StoredReply(200, b"old")
        assert idempotency.reserve(conn, "a", "key", "another body", KEPT_S + 1) is None
        assert idempotency.sweep(conn, KEPT_S + 1) == 1


def test_a_key_that_has_its_reply_is_not_given_back(db: Database) -> None:
    with db.write() as conn:
        assert idempotency.reserve(conn, "a", "key", "hash", 1.0) is None
        idempotency.finish(conn, "a", "key", 200, b"reply")
        idempotency.forget(conn, "a", "key")
        assert idempotency.reserve(conn, "a", "key", "hash", 1.0) == StoredReply(200, b"reply")
