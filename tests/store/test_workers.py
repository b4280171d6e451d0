"""Workers note themselves, and what they counted outlives them. On both databases."""

from __future__ import annotations

from inhouse.jobs import queue
from inhouse.schema import Job
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import jobs, workers
from inhouse.store.records.workers import GONE, KEPT_S, WorkerRow


def test_what_a_worker_counted_stays_when_it_leaves_or_falls_silent_for_a_day(db: Database) -> None:
    with db.write() as conn:
        workers.note(conn, WorkerRow("a:1", 1.0, 10.0, 1, 2))
        workers.note(conn, WorkerRow("a:1", 1.0, 20.0, 3, 4))
        workers.note(conn, WorkerRow("b:1", 1.0, 20.0, 10, 20))
        assert {row.id: row.seen_at for row in workers.all(conn)} == {"a:1": 20.0, "b:1": 20.0}
        workers.leave(conn, WorkerRow("b:1", 1.0, 21.0, 11, 21))
        workers.note(conn, WorkerRow("c:1", 1.0, 21.0 + KEPT_S, 100, 200))
        found = {row.id: (row.leases_lost, row.processes_died) for row in workers.all(conn)}
    assert found == {GONE: (14, 25), "c:1": (100, 200)}


def test_the_queue_s_line_tells_the_waiting_the_silent_and_the_running(db: Database) -> None:
    with db.write() as conn:
        now = db.clock(conn)
        for ago_s in (300, 200, 100):
            spec = {"base": "x"}
            at = now - ago_s
            id = ids.new("ftjob")
            jobs.add(conn, Job(id=id, project="p", kind="tune", state="queued", spec=spec, created_at=at))
    assert queue.claim(db, "w", ["tune"], 60) is not None
    silent = queue.claim(db, "w", ["tune"], 60)
    assert silent is not None
    with db.write() as conn:
        conn.exec_driver_sql(f"UPDATE jobs SET lease_until = lease_until - 90 WHERE id = '{silent.id}'")
    with db.read() as conn:
        lines = queue.lines(conn)
    assert (lines["tune"].waiting, lines["tune"].running, lines["serve"].waiting) == (2, 1, 0)
    assert 100 <= lines["tune"].oldest_s < 110
