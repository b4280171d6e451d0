"""`/ready` says why not: each cause is real, and only an admin is told more than its name."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.jobs import queue, serving
from inhouse.schema import Job, JobFault
from inhouse.server import readiness
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import jobs, workers
from inhouse.store.records.workers import WorkerRow
from tests.postgres import Cluster

from .house import House, announce, engine, house, until
from .test_main import started, told


@pytest.fixture(autouse=True)
def every_look_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", 0.0)


@pytest.fixture
def well(tmp_path: Path) -> Iterator[House]:
    """A house that is ready."""
    with house(tmp_path) as made, engine(made.db, tmp_path):
        assert failing(made) == {}
        yield made


def failing(made: House, key: str | None = None) -> dict[str, dict[str, Any]]:
    """The checks that are not well, by name, as an admin is told of them."""
    reply = made.client(made.admin if key is None else key).get("/ready")
    found = reply.json()
    assert tuple(check["name"] for check in found["checks"]) == readiness.NAMES
    failed = {check["name"]: check for check in found["checks"] if not check["ok"]}
    assert reply.status_code == (503 if failed else 200)
    assert (found["status"] == "ready") == (not failed)
    return failed


def note_worker(made: House, ago_s: float) -> None:
    with made.db.write() as conn:
        now = made.db.clock(conn)
        workers.note(conn, WorkerRow("host:1", now - 100, now - ago_s, 0, 0))


def test_a_removed_database_file(well: House) -> None:
    assert well.db.file is not None
    well.db.file.rename(well.db.file.with_name("elsewhere"))
    failed = failing(well, "local")
    assert "inhouse.db is gone" in failed["database"]["why"] and failed["database"]["cure"]
    assert set(failed) == {"database", "schema", "workers", "queue", "bases"}


def test_a_damaged_database(well: House) -> None:
    assert well.db.file is not None
    well.db.dispose()
    well.db.file.write_bytes(b"no database at all" * 100)
    for beside in ("-wal", "-shm"):
        well.db.file.with_name(well.db.file.name + beside).unlink(missing_ok=True)
    assert "cannot be read" in failing(well, "local")["database"]["why"]


def test_postgresql_that_is_gone_and_comes_back(tmp_path: Path, postgres: Cluster) -> None:
    with house(tmp_path, database_url=postgres.new_database()) as made:
        note_worker(made, 0)
        assert failing(made) == {}
        postgres.stop(signal.SIGKILL)
        try:
            failed = failing(made, "local")
        finally:
            postgres.start()
        assert "did not answer" in failed["database"]["why"]
        until(lambda: failing(made, "local").keys() <= {"workers"}, "it is back")


def test_a_schema_of_another_release(well: House) -> None:
    with well.db.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    failed = failing(well)
    assert "schema 9999" in failed["schema"]["why"] and "database" not in failed


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", small]).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        with house(small) as made, engine(made.db, tmp_path):
            assert failing(made) == {}
            (small / "big").write_bytes(bytes(40 * 2**20))
            failed = failing(made)
            assert set(failed) == {"disk"}
            assert "MiB left" in failed["disk"]["why"] and "Free some space" in failed["disk"]["cure"]
            (small / "big").unlink()
            assert failing(made) == {}
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_less_room_than_the_setting_asks_for(tmp_path: Path) -> None:
    size = shutil.disk_usage(tmp_path).total
    with house(tmp_path, min_free_bytes=size + 1) as made, engine(made.db, tmp_path):
        assert set(failing(made)) == {"disk"}


def test_no_worker_and_one_that_fell_silent(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        assert failing(made)["workers"]["why"] == "No worker was ever seen."
        note_worker(made, made.settings.lease_s + 30)
        assert "No worker was seen for 4" in failing(made)["workers"]["why"]
        note_worker(made, 1)
        assert failing(made) == {}


def test_a_replica_s_live_lease_shows_a_worker(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        replica = announce(made.db, "unix:/nowhere")
        assert failing(made) == {}
        with made.db.write() as conn:
            conn.exec_driver_sql(f"UPDATE jobs SET lease_until = 1 WHERE id = '{replica.job}'")
        assert "workers" in failing(made)


def test_jobs_that_wait_while_none_runs(well: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with well.db.write() as conn:
        at = well.db.clock(conn) - 500
        one = Job(id=ids.new("ftjob"), project="default", kind="tune", state="queued", spec={}, created_at=at)
        jobs.add(conn, one)
    assert failing(well) == {}, "the server has only begun: its worker may be on its way"
    monkeypatch.setattr(well.server.gateway.readiness, "_began", time.monotonic() - 100)
    assert "1 of kind tune wait, one for 5" in failing(well)["queue"]["why"]
    queue.claim(well.db, "somebody", ["tune"], 60)
    assert failing(well) == {}


def test_a_declared_base_that_loads_and_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house(tmp_path) as made:
        note_worker(made, 0)
        monkeypatch.setattr(made.server.gateway.readiness, "declared", ("seedling",))
        assert failing(made)["bases"]["why"] == "seedling is not loaded."
        serving.ensure_replica(made.db, "seedling")
        assert failing(made)["bases"]["why"] == "seedling is being loaded."
        job = queue.claim(made.db, "w", ["serve"], 60)
        assert job is not None
        fault = JobFault(code="invalid_checkpoint", message="config.json is gone.")
        queue.finish(made.db, job.id, job.fence, "failed", error=fault)
        assert failing(made)["bases"]["why"] == "seedling could not be loaded: config.json is gone."
        with made.db.write() as conn:
            conn.exec_driver_sql("UPDATE jobs SET finished_at = 1")
        made.server.gateway.readiness._retry("seedling")
        with engine(made.db, tmp_path):
            assert failing(made) == {}
        with made.db.write() as conn:
            conn.exec_driver_sql("UPDATE jobs SET state = 'cancelled'")
        note_worker(made, 0)
        assert failing(made) == {}, "what was put out to make room comes back when it is asked for"


def test_draining(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")
    with started(tmp_path, "--drain-s", "20") as process:
        at = told(tmp_path, process)
        headers = {"authorization": f"Bearer {at['key']}"}
        body = {
            "model": "seedling",
            "stream": True,
            "messages": [{"role": "user", "content": "count 400 0.05"}],
        }
        with (
            engine(db, tmp_path),
            httpx2.Client(timeout=30, trust_env=False, headers=headers) as client,
            client.stream("POST", f"{at['url']}/v1/chat/completions", json=body) as stream,
        ):
            next(stream.iter_raw())
            process.send_signal(signal.SIGTERM)

            def drains() -> Any:
                said = httpx2.get(f"{at['url']}/ready", headers=headers, trust_env=False)
                return said if said.json()["status"] == "draining" else None

            said = until(drains, "it drains")
        assert said.status_code == 503
        (failed,) = [check for check in said.json()["checks"] if not check["ok"]]
        assert failed["name"] == "accepting" and "told to stop" in failed["why"]
    db.dispose()


def test_only_admins_are_told_why(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        for key in ("", made.member, made.stranger, "sk-inhouse-nobody"):
            check = failing(made, key)["workers"]
            assert check == {"name": "workers", "ok": False}
        for key in (made.admin, "local"):
            check = failing(made, key)["workers"]
            assert str(tmp_path) in check["cure"]


def test_health_stays_cheap(well: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with well.db.write() as conn:
        conn.exec_driver_sql("DROP TABLE workers")
    monkeypatch.setattr(well.server.gateway.store, "read", None)
    assert well.client("").get("/health").json() == {"status": "ok"}


def test_many_who_ask_share_one_look(well: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", 60.0)
    asked: list[str] = []
    gw = well.server.gateway
    see = gw.readiness._see
    monkeypatch.setattr(gw.readiness, "_see", lambda conn: asked.append("store") or see(conn))  # type: ignore[func-returns-value]
    client = well.client("")
    for _ in range(20):
        assert client.get("/ready").status_code == 200
    assert len(asked) == 1


def test_workers_that_take_no_more_jobs_are_told_of_with_the_cure(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        note_worker(made, 0)
        with made.db.write() as conn:
            now = made.db.clock(conn)
            why = "its device failed 2 times; look at the device"
            workers.note(conn, WorkerRow("host:2", now - 100, now, 0, 2, why))
        reply = made.client(made.admin).get("/ready")
        (check,) = [c for c in reply.json()["checks"] if c["name"] == "workers"]
        assert reply.status_code == 200 and check["ok"], "another takes some"
        assert f"host:2 takes no more jobs: {why}" in check["why"] and check["cure"]
        note_worker(made, made.settings.lease_s + 30)
        announce(made.db, "unix:/nowhere")
        failed = failing(made)["workers"]
        assert f"host:2 takes no more jobs: {why}" in failed["why"] and "nothing is lost" in failed["cure"]
