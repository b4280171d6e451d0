"""Whole houses whose processes are killed, frozen and starved of disk: nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from inhouse.jobs.queue import MAX_ATTEMPTS
from tests.faults.small_disk import fill, small_disk
from tests.faults.workshop import Workshop, script, working
from tests.house.house import House, descendants, rows, until

ROWS = rows(24)
HYPERPARAMETERS = {"n_epochs": 25, "batch_size": 2, "x_rank": 4}


def create(house: House, file: str, key: str | None, epochs: int = 1) -> dict[str, object]:
    """Creates a job as an SDK does: the request has a key, and is sent again under it when no reply came."""
    supervised = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs}}}
    body = {"model": "tiny", "training_file": file, "method": supervised}
    headers = {"authorization": f"Bearer {house.key}"} | ({"idempotency-key": key} if key else {})
    with httpx2.Client(base_url=house.url, timeout=60, trust_env=False) as client:
        return dict(client.post("/v1/fine_tuning/jobs", json=body, headers=headers).json())


def test_kill_9_of_the_server_loses_nothing_that_was_acknowledged(own: House) -> None:
    """Fault 1: jobs, files and keys are all there after a restart, and a retry under the same key makes nothing new."""
    own.start()
    done = own.ended(own.submit("tiny", rows(2), n_epochs=1))
    key = own.call("POST", "/v1/x/keys", json={"name": "kept"}).json()["key"]
    file = own.upload(rows(2))
    retried = create(own, file, "one")
    running = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    until(lambda: own.step_of(running) >= 5, "the job is under way")
    readers = [Reader(own) for _ in range(3)]
    until(lambda: all(reader.begun.is_set() for reader in readers), "streams are under way")
    assert own.process is not None
    below = descendants(own.process.pid)
    own.kill()
    for reader in readers:
        reader.join(30)
        assert reader.fault is not None, "a stream that was cut must not look whole"
    until(
        lambda: not any(Path(f"/proc/{p}/cmdline").exists() for p in below), "all of them follow the server"
    )
    own.start()
    assert own.call("GET", "/v1/models", key=key).status_code == 200
    assert own.job(done["id"])["fine_tuned_model"] == done["fine_tuned_model"]
    assert create(own, file, "one")["id"] == retried["id"]
    assert create(own, file, None)["id"] != retried["id"], (
        "the control: without the key it is a job of its own"
    )
    assert own.ended(str(retried["id"]))["status"] == "succeeded"
    assert own.ended(running)["status"] == "succeeded", own.output()
    assert own.chat(done["fine_tuned_model"], "q0?").status_code == 200


class Reader(threading.Thread):
    """Reads one stream to its end; `fault` says how it broke."""

    def __init__(self, house: House) -> None:
        super().__init__(daemon=True)
        self.house = house
        self.begun = threading.Event()
        self.fault: httpx2.HTTPError | None = None
        self.start()

    def run(self) -> None:
        body = {"model": "tiny", "stream": True, "max_tokens": 200}
        body["messages"] = [{"role": "user", "content": "hello"}]  # type: ignore[assignment]
        headers = {"authorization": f"Bearer {self.house.key}"}
        try:
            with httpx2.Client(base_url=self.house.url, timeout=60, trust_env=False) as client:
                while True:  # until the server is killed
                    with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
                        assert reply.status_code == 200, reply.read()
                        for _ in reply.iter_bytes():
                            self.begun.set()
        except httpx2.HTTPError as e:
            self.fault = e


def test_a_job_whose_process_and_worker_are_killed_ends_with_the_same_adapter(own: House) -> None:
    """Faults 2 and 16: killed at random moments, the job goes on from its last checkpoint to the very same bytes."""
    own.start()
    undisturbed = own.ended(own.submit("tiny", ROWS, **HYPERPARAMETERS))
    assert undisturbed["status"] == "succeeded", own.output()
    rng = random.Random(11)
    job = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    kills = 0
    for whom, aim in (
        (f"worker.child {job}", rng.randrange(20, 100)),
        ("inhouse.worker ", rng.randrange(120, 250)),
    ):
        until(lambda aim=aim: own.step_of(job) >= aim or own.job(job)["status"] == "succeeded", f"step {aim}")
        for pid in own.below(whom):
            os.kill(pid, signal.SIGKILL)
            kills += 1
    ended = own.ended(job)
    assert ended["status"] == "succeeded", own.output()
    assert kills >= 1
    assert own.adapter_digest(ended["fine_tuned_model"]) == own.adapter_digest(
        undisturbed["fine_tuned_model"]
    )
    until(lambda: not list((own.data_dir / "jobs").glob("ftjob-*")), "folders of ended jobs are removed")


def freeze_outside_a_write(house: House, pids: list[int]) -> bool:
    """Stops processes, but not inside SQLite's write lock: there they hold up every writer until they wake."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with contextlib.closing(sqlite3.connect(house.data_dir / "inhouse.db", timeout=1)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            return False
        database.rollback()
    return True


def test_a_process_frozen_past_its_lease_and_woken_changes_nothing(own: House) -> None:
    """Fault 5: the job has moved on, so who wakes publishes nothing and is put down; its controls are the queue's."""
    own.start()
    undisturbed = own.ended(own.submit("tiny", ROWS, **HYPERPARAMETERS))
    job = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    until(lambda: own.step_of(job) >= 30, "the job is under way")
    frozen = [*own.below("-m inhouse.worker "), *own.below(f"worker.child {job}")]
    until(lambda: freeze_outside_a_write(own, frozen), "a moment between two writes")
    second = subprocess.Popen(
        [sys.executable, "-m", "inhouse.worker"], stdin=subprocess.PIPE, env=own.environment()
    )
    try:
        is_taken = f"worker.child {job}"
        until(
            lambda: any(is_taken in c for c in descendants(second.pid).values()), "another worker has the job"
        )
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        until(
            lambda: not any(Path(f"/proc/{p}").exists() for p in frozen[-1:]), "the woken process is put down"
        )
        ended = own.ended(job)
    finally:
        second.terminate()
        second.wait()
        second.stdin.close()  # type: ignore[union-attr]
    assert ended["status"] == "succeeded", own.output()
    assert own.adapter_digest(ended["fine_tuned_model"]) == own.adapter_digest(
        undisturbed["fine_tuned_model"]
    )
    names = [m["id"] for m in own.call("GET", "/v1/models").json()["data"] if m["id"].startswith("ft:")]
    names = [name for name in names if ":ckpt-step-" not in name]
    assert len(names) == 2


@pytest.mark.parametrize("is_database_elsewhere", [False, True])
def test_a_full_disk_pauses_a_job_and_room_resumes_it(
    is_database_elsewhere: bool, tmp_path: Path, tiny: Path
) -> None:
    """Fault 6: the job is paused as disk_full, and what it learns is what it would have learnt."""
    with small_disk(tmp_path / "disk", 96) as disk:
        elsewhere = {"database_url": f"sqlite:///{tmp_path}/elsewhere.db"} if is_database_elsewhere else {}
        house = House(disk / "data", [tiny], **elsewhere)
        try:
            house.start()
            assert house.chat("tiny", "hello", max_tokens=1).status_code == 200
            wanted = HYPERPARAMETERS | {"n_epochs": 50}
            undisturbed = house.ended(house.submit("tiny", ROWS, **wanted))
            job = house.submit("tiny", ROWS, **wanted)
            until(lambda: house.step_of(job) >= 5, "the job is under way")
            ballast = disk / "ballast"
            fill(ballast)
            if is_database_elsewhere:  # where the database's disk is full too, no state can be written
                until(lambda: house.job(job).get("x_state") == "paused: disk_full", "the job pauses")
            else:
                until(lambda: f"{job} pauses" in house.output() or fill(ballast), "the job pauses")
            reply = house.call(
                "POST", "/v1/files", files={"file": ("x.jsonl", ROWS * 2000)}, data={"purpose": "fine-tune"}
            )
            assert reply.status_code == 507 and reply.json()["error"]["code"] == "disk_full"
            assert house.job(job)["status"] == "running"
            assert house.chat("tiny", "still here", max_tokens=1).status_code == 200
            ballast.unlink()
            ended = house.ended(job)
            assert ended["status"] == "succeeded", house.output()
            digests = {house.adapter_digest(j["fine_tuned_model"]) for j in (undisturbed, ended)}
            assert len(digests) == 1, "the pause changed what was learned"
            assert house.stop() == 0
        finally:
            if house.process is not None and house.process.poll() is None:
                house.process.kill()
                house.process.wait()


def test_a_disk_that_is_full_before_a_job_begins_pauses_it_as_well(tmp_path: Path, tiny: Path) -> None:
    """Fault 6: whatever a job writes first, the note of its device too, waits for room."""
    with small_disk(tmp_path / "disk", 96) as disk:
        house = House(disk / "data", [tiny], database_url=f"sqlite:///{tmp_path}/elsewhere.db")
        try:
            house.start()
            assert house.chat("tiny", "hello", max_tokens=1).status_code == 200
            file = house.upload(rows(2))
            fill(disk / "ballast")
            job = str(create(house, file, None)["id"])
            until(lambda: house.job(job).get("x_state") == "paused: disk_full", "the job pauses")
            (disk / "ballast").unlink()
            assert house.ended(job)["status"] == "succeeded", house.output()
        finally:
            if house.process is not None and house.process.poll() is None:
                house.process.kill()
                house.process.wait()


def test_a_job_that_kills_its_process_every_time_is_failed_as_crashed_and_the_queue_goes_on(
    own: House,
) -> None:
    """Fault 40: three attempts without a newer checkpoint, and the job is `failed: crashed`."""
    own.start()
    job = own.submit("tiny", rows(64), n_epochs=1000, batch_size=1)
    deadline = time.monotonic() + 90
    while own.job(job)["status"] not in ("failed", "succeeded") and time.monotonic() < deadline:
        for pid in own.below(f"worker.child {job}"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    ended = own.job(job)
    assert ended["status"] == "failed" and ended["error"]["code"] == "crashed", ended
    assert own.ended(own.submit("tiny", rows(2), n_epochs=1))["status"] == "succeeded"


@pytest.mark.parametrize("is_swept", [True, False], ids=["swept", "control: nobody sweeps"])
def test_an_upload_that_is_cut_is_seen_by_nobody_and_leaves_nothing(is_swept: bool, own: House) -> None:
    """Fault 4: killed half-way through an upload, the server has no such file, and its pieces are swept. In the control
    they stay, and each further kill leaves more. (A file is a row that is written last: nothing makes it seen before,
    so there is no guard of that to take out.)"""
    own.start()
    pieces = own.data_dir / "artifacts" / "partial"
    has_sent, may_end = threading.Event(), threading.Event()

    def slowly() -> object:
        yield b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--x\r\n'
        yield b'content-disposition: form-data; name="file"; filename="half.jsonl"\r\n\r\n'
        yield ROWS * 100
        has_sent.set()
        may_end.wait(60)
        yield b"\r\n--x--\r\n"

    def upload() -> None:
        headers = {"authorization": f"Bearer {own.key}", "content-type": "multipart/form-data; boundary=x"}
        with (
            httpx2.Client(base_url=own.url, timeout=60, trust_env=False) as client,
            contextlib.suppress(httpx2.HTTPError),
        ):
            client.post("/v1/files", content=slowly(), headers=headers)  # type: ignore[arg-type]

    sender = threading.Thread(target=upload, daemon=True)
    sender.start()
    until(lambda: has_sent.is_set() and list(pieces.iterdir()), "half of the upload is there")
    own.kill()
    may_end.set()
    sender.join(30)
    (left,) = pieces.iterdir()
    os.utime(left, (1, 1))  # a day and more later
    own.module = "inhouse.server" if is_swept else "tests.faults.unswept"
    own.start()
    assert own.call("GET", "/v1/files").json()["data"] == []
    assert bool(list(pieces.iterdir())) is not is_swept
    whole = own.call(
        "POST", "/v1/files", files={"file": ("half.jsonl", ROWS * 100)}, data={"purpose": "fine-tune"}
    )
    assert whole.json()["bytes"] == len(ROWS * 100), json.dumps(whole.json())


def test_a_store_that_goes_away_again_and_again_costs_a_job_no_attempt(tmp_path: Path) -> None:
    """However often it goes at a moment when nobody can wait, the job ends well."""
    shop = Workshop(tmp_path)
    job = shop.submit(epochs=1)
    with working(shop.settings, command=script("refusing", tmp_path, "StoreBusy", MAX_ATTEMPTS + 1)):
        assert shop.ended(job).state == "succeeded"


def test_whoever_is_busy_for_a_moment_costs_an_attempt_and_not_the_job(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    job = shop.submit(epochs=1)
    with working(shop.settings, command=script("refusing", tmp_path, "EngineOverloaded", 1)):
        assert shop.ended(job).state == "succeeded"
    assert any("Nobody answers. The job goes back" in e.message for e in shop.log(job))
