"""Clocks that are an hour off, or are set while everything runs, and the zones and seasons that people live in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from inhouse.client.facts import _plain as seconds
from inhouse.jobs import batches, deliveries, queue
from inhouse.rows.formats import _seconds as moment
from inhouse.schema import Job
from inhouse.server.limits import month_start
from inhouse.store import fence, tables
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import batches as batch_records
from inhouse.store.records import jobs as records
from inhouse.store.records import webhooks
from tests.faults.other_clock import OtherClock
from tests.house.house import House, rows, until
from tests.queued import submitted

HOUR_S = 3600
LEASE_S = 2.0
BY_TIME_OF_DAY = """
import time, sqlalchemy
import inhouse.store.db as db
db.lease_now = lambda conn: sqlalchemy.literal(time.time(), sqlalchemy.Double)
"""
"""The control: leases by the time of day."""
WORKER = "import sys; from inhouse.worker.main import main; sys.exit(main())"


def job_of(db: Database, job_id: str) -> Job:
    with db.read() as conn:
        return records.get(conn, None, job_id)


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    db = Database(database_url)
    migrate(db)
    yield db
    db.dispose()


def worker_of(
    clock: OtherClock, url: str, data_dir: Path, *, by_time_of_day: bool = False
) -> subprocess.Popen[str]:
    """A real worker whose clock is another, once it looks at the queue."""
    chosen = {"DATABASE_URL": url, "DATA_DIR": str(data_dir), "LEASE_S": str(LEASE_S)}
    process = subprocess.Popen(
        [sys.executable, "-c", (BY_TIME_OF_DAY if by_time_of_day else "") + WORKER],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **{f"INHOUSE_{n}": v for n, v in chosen.items()}, **clock.variables},
        text=True,
    )
    assert process.stderr is not None
    assert "is ready" in process.stderr.readline()
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def claim_batch(db: Database) -> bool:
    """Whether the one batch, made here, is free, and now claimed for a minute."""
    with db.write() as conn:
        if not batch_records.any_unfinished(conn):
            own = {
                "id": "batch_1",
                "project": "a",
                "key": "k",
                "endpoint": "/v1/completions",
                "input_file": "f",
            }
            batch_records.add(conn, batch_records.Batch(**own, digest="d", created_at=1.0, expires_at=2.0))
    return batches.claim(db, 60.0) is not None


def claim_delivery(db: Database) -> bool:
    """The same of the one delivery, which takes the lease that deliveries have."""
    with db.write() as conn:
        if conn.execute(sa.select(tables.deliveries.c.id)).first() is None:
            hook = {"id": "we_1", "project": "a", "name": "n", "url": "http://x", "secret": "whsec_AAAA"}
            conn.execute(
                tables.webhooks.insert().values(
                    **hook, events=["batch.failed"], created_at=1.0, updated_at=1.0
                )
            )
            webhooks.tell(conn, "a", "batch.failed", "batch_1", 1.0)
    return deliveries.claim(db) is not None


@pytest.mark.parametrize("off_by_s", [HOUR_S, -HOUR_S])
def test_a_worker_whose_clock_is_an_hour_off_steals_nothing(
    off_by_s: int, store: Database, database_url: str, tmp_path: Path
) -> None:
    """Fault 13: another's job stays its own, whatever the new worker thinks the time is."""
    job_id = submitted(store).id
    mine = queue.claim(store, "honest", ("tune",), 60.0)
    assert mine is not None and mine.id == job_id
    process = worker_of(OtherClock(tmp_path, off_by_s), database_url, tmp_path / "data")
    try:
        time.sleep(1.5)  # seven looks at the queue
        assert queue.heartbeat(store, job_id, mine.fence, 60.0), "the job was stolen"
    finally:
        ended(process)


def test_by_the_time_of_day_a_worker_an_hour_ahead_does_steal(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 13: the control, with SQLite's leases read off the time of day."""

    def time_of_day(conn: sa.Connection) -> sa.ColumnElement[float]:
        return sa.literal(time.time(), sa.Double)

    for module in (queue, fence):
        monkeypatch.setattr(module, "lease_now", time_of_day)
    store = Database(sqlite_url)
    migrate(store)
    job_id = submitted(store).id
    assert queue.claim(store, "honest", ("tune",), 60.0) is not None
    clock = OtherClock(tmp_path, HOUR_S)
    process = worker_of(clock, sqlite_url, tmp_path / "data", by_time_of_day=True)
    try:
        until(lambda: job_of(store, job_id).fence == 2, "the job is stolen", 20)
    finally:
        ended(process)
        store.dispose()


@pytest.mark.parametrize("off_by_s", [HOUR_S, -HOUR_S])
def test_a_job_is_not_stuck_with_a_worker_whose_clock_was_an_hour_off(
    off_by_s: int, store: Database, database_url: str, tmp_path: Path
) -> None:
    """Fault 13: once that worker is dead, its lease is over as soon as any other's would be."""
    job_id = submitted(store).id
    process = worker_of(OtherClock(tmp_path, off_by_s), database_url, tmp_path / "data")
    try:
        until(lambda: job_of(store, job_id).fence == 1, "the worker has the job", 20)
    finally:
        ended(process)
    if job_of(store, job_id).state == "running":  # else its process has ended the job, which has no such base
        until(lambda: queue.claim(store, "honest", ("tune",), 60.0), "the job is free again", LEASE_S + 10)


def test_a_lease_that_another_clock_wrote_is_over(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 13: after a start of the machine its seconds begin anew, and no job is stuck until they catch up."""
    store = Database(sqlite_url)
    migrate(store)
    submitted(store)
    assert queue.claim(store, "before", ("tune",), 60.0) is not None
    real = time.monotonic
    monkeypatch.setattr("inhouse.store.db.time.monotonic", lambda: real() - 10 * HOUR_S)
    assert queue.claim(store, "after", ("tune",), 60.0) is not None
    monkeypatch.setattr(fence, "LONGEST_LEASE_S", 10**9)
    assert queue.claim(store, "control", ("tune",), 60.0) is None
    store.dispose()


@pytest.mark.parametrize("claim", [claim_batch, claim_delivery], ids=["a batch", "a delivery"])
@pytest.mark.parametrize("by_time_of_day", [False, True], ids=["guarded", "control: by the time of day"])
def test_a_clock_that_jumps_takes_no_batch_and_no_delivery_and_leaves_none_stuck(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, claim: Callable[[Database], bool], by_time_of_day: bool
) -> None:
    """Faults 13 and 14: an hour ahead, nobody else has it; back again, it is free as soon as its lease is over."""
    store = Database(sqlite_url)
    migrate(store)
    real, seconds_run = time.time, time.monotonic
    if by_time_of_day:
        monkeypatch.setattr(fence, "lease_now", lambda conn: sa.literal(time.time(), sa.Double))
        monkeypatch.setattr(fence, "LONGEST_LEASE_S", 10**9)
    assert claim(store), "it is there"
    monkeypatch.setattr(time, "time", lambda: real() + HOUR_S)
    assert claim(store) is by_time_of_day, "the clock is an hour ahead"
    monkeypatch.setattr(time, "time", real)
    monkeypatch.setattr(time, "monotonic", lambda: seconds_run() + 61)
    assert claim(store) is not by_time_of_day, "its lease is over"
    store.dispose()


@pytest.mark.parametrize(
    "by_time_of_day", [False, True], ids=["guarded", "control: leases by the time of day"]
)
def test_setting_the_server_s_clock_takes_no_job_and_turns_no_list_around(
    by_time_of_day: bool, tmp_path: Path, tiny: Path
) -> None:
    """Fault 14: the clock of server, worker and jobs jumps an hour ahead and two back, and nothing is told anew."""
    clock = OtherClock(tmp_path)
    house = ClockHouse(tmp_path / "data", [tiny], clock, by_time_of_day, lease_s=15, tune_slots=2)
    house.start()
    try:
        job = house.submit("tiny", rows(24), n_epochs=40, batch_size=2)
        until(lambda: house.step_of(job) >= 5, "the job is under way")
        first = house.upload(rows(2), "first.jsonl")
        key = house.call("POST", "/v1/x/keys", json={"name": "lasting"}).json()["key"]
        clock.set(HOUR_S)
        second = house.upload(rows(2), "second.jsonl")
        assert house.call("GET", "/v1/models", key=key).status_code == 200
        ended_once = house.ended(job)
        clock.set(-HOUR_S)
        third = house.upload(rows(2), "third.jsonl")
        listed = [f["id"] for f in house.call("GET", "/v1/files").json()["data"]]
        assert [f for f in listed if f in (first, second, third)] == [third, second, first]
        assert house.call("GET", "/v1/models", key=key).status_code == 200
        attempts = [e["message"] for e in house.all_events(job) if e["message"].startswith("Attempt")]
        assert ended_once["status"] == "succeeded", house.output()
        assert (len(attempts) > 1) is by_time_of_day, attempts
    finally:
        assert house.stop() == 0


class ClockHouse(House):
    """A house on a clock of its own."""

    def __init__(
        self,
        data_dir: Path,
        bases: list[Path | str],
        clock: OtherClock,
        by_time_of_day: bool,
        **settings: object,
    ) -> None:
        super().__init__(data_dir, bases, **settings)
        self.clock = clock
        self.startup = data_dir.parent / "startup"
        self.startup.mkdir()
        if by_time_of_day:
            (self.startup / "sitecustomize.py").write_text(BY_TIME_OF_DAY)

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.startup), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**super().environment(), **self.clock.variables, "PYTHONPATH": path}

    def all_events(self, job: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        after: dict[str, object] = {}
        while True:
            path = f"/v1/fine_tuning/jobs/{job}/events"
            page = self.call("GET", path, params={"limit": 100, **after}).json()
            found += page["data"]
            if not page["has_more"]:
                return found
            after = {"after": page["data"][-1]["id"]}


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe")
"""With seasons, without, ahead, behind, by half hours and quarters, and one that once left out a day."""


@given(some.datetimes(datetime(1972, 1, 1), datetime(2100, 1, 1)), some.sampled_from(ZONES))
@hypothesis_settings(max_examples=200, deadline=None)
def test_a_moment_is_the_same_wherever_the_machine_stands(when: datetime, zone: str) -> None:
    """Fault 43: what has no zone is UTC, in rows, in the client and in months, in any zone and season."""
    expected = (when - datetime(1970, 1, 1)) / timedelta(seconds=1)
    first = datetime(when.year, when.month, 1, tzinfo=UTC).timestamp()
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        assert seconds(when) == pytest.approx(expected, abs=1e-3)
        assert moment(when.isoformat()) == pytest.approx(expected, abs=1e-3)
        assert month_start(expected) == first
        is_seen = when.timestamp() != expected
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()
    assert not (zone == "UTC" and is_seen), (
        "the control: a datetime's own timestamp goes by the machine's zone"
    )


def test_the_machine_s_own_zone_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 43: the control of the test above: Python's own reading of a moment without a zone differs there."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    here = datetime(2026, 7, 1).timestamp()
    monkeypatch.undo()
    time.tzset()
    assert here != seconds(datetime(2026, 7, 1))
