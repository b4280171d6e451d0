"""Kills, full disks and bad input: nothing acknowledged is lost, and the next command works."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.house.house import House, descendants, rows, until
from tests.tiny import base_folder

ROWS = rows(24)
HYPERPARAMETERS = {"n_epochs": 25, "batch_size": 2, "x_rank": 4}


def step_of(house: House, job: str) -> int:
    return max((e["data"].get("step", 0) for e in house.events(job) if e["type"] == "metrics"), default=0)


def metrics(house: House, job: str) -> list[dict[str, Any]]:
    """Every step's event in the order written."""
    found: list[dict[str, Any]] = []
    after = {}
    while True:
        page = house.call("GET", f"/v1/fine_tuning/jobs/{job}/events", params={"limit": 100, **after}).json()
        found += page["data"]
        if not page["has_more"]:
            return [e for e in found[::-1] if e["type"] == "metrics"]
        after = {"after": page["data"][-1]["id"]}


def children(house: House, what: str) -> list[int]:
    assert house.process is not None
    return [pid for pid, command in descendants(house.process.pid).items() if what in command]


def test_a_job_whose_process_is_killed_at_random_ends_with_the_same_adapter(own: House) -> None:
    own.start()
    undisturbed = own.ended(own.submit("tiny", ROWS, **HYPERPARAMETERS))
    assert undisturbed["status"] == "succeeded", own.output()
    rng = random.Random(11)
    job = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    kills = 0
    for aim in (rng.randrange(20, 100), rng.randrange(120, 250)):
        until(
            lambda aim=aim: step_of(own, job) >= aim or own.job(job)["status"] == "succeeded", f"step {aim}"
        )
        for pid in children(own, f"worker.child {job}"):
            os.kill(pid, signal.SIGKILL)
            kills += 1
    ended = own.ended(job)
    assert ended["status"] == "succeeded", own.output()
    assert kills >= 1
    assert own.adapter_digest(ended["fine_tuned_model"]) == own.adapter_digest(
        undisturbed["fine_tuned_model"]
    )
    until(lambda: not list((own.data_dir / "jobs").glob("ftjob-*")), "folders of ended jobs are removed")


def test_kill_9_of_the_server_loses_nothing_that_was_acknowledged(own: House) -> None:
    own.start()
    done = own.ended(own.submit("tiny", rows(2), n_epochs=1))
    running = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    waiting = own.submit("tiny", rows(2), n_epochs=1)
    until(lambda: step_of(own, running) >= 10, "the job is under way")
    assert own.process is not None
    below = descendants(own.process.pid)
    own.kill()
    until(
        lambda: not any(Path(f"/proc/{p}/cmdline").exists() for p in below),
        "worker and engines follow the server",
    )
    own.start()
    assert own.job(done["id"])["fine_tuned_model"] == done["fine_tuned_model"]
    assert own.ended(running)["status"] == own.ended(waiting)["status"] == "succeeded"
    assert own.chat(done["fine_tuned_model"], "q0?").status_code == 200


def test_sigterm_gives_running_jobs_back_and_the_next_start_resumes_them(own: House) -> None:
    own.start()
    job = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    until(lambda: step_of(own, job) >= 40, "some checkpoints")
    assert own.stop() == 0, own.output()
    own.start()
    assert own.ended(job)["status"] == "succeeded"
    again = [e["data"]["step"] for e in metrics(own, job)]
    restarts = [b for a, b in pairwise(again) if b <= a]
    assert len(restarts) <= 1 and all(step > 1 for step in restarts), "it began anew"


def test_a_job_that_kills_its_process_every_time_is_failed_as_crashed_and_the_queue_goes_on(
    own: House,
) -> None:
    own.start()
    job = own.submit("tiny", rows(64), n_epochs=1000, batch_size=1)
    deadline = time.monotonic() + 90
    while own.job(job)["status"] not in ("failed", "succeeded") and time.monotonic() < deadline:
        for pid in children(own, f"worker.child {job}"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    ended = own.job(job)
    assert ended["status"] == "failed" and ended["error"]["code"] == "crashed", ended
    assert own.ended(own.submit("tiny", rows(2), n_epochs=1))["status"] == "succeeded"


def test_an_engine_that_is_killed_comes_back_by_itself(own: House) -> None:
    own.start()
    assert own.chat("tiny", "hello", max_tokens=3).status_code == 200
    engines = list(children(own, "worker.child job-"))
    assert len(engines) == 1
    os.kill(engines[0], signal.SIGKILL)
    assert own.chat("tiny", "hello", max_tokens=3).status_code == 200


@pytest.mark.parametrize("is_database_elsewhere", [False, True])
def test_a_full_disk_pauses_a_job_and_room_resumes_it(
    is_database_elsewhere: bool, tmp_path: Path, tiny: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system to fill")
    elsewhere = {"database_url": f"sqlite:///{tmp_path}/elsewhere.db"} if is_database_elsewhere else {}
    house = House(disk / "data", [tiny], **elsewhere)
    try:
        house.start()
        assert house.chat("tiny", "hello", max_tokens=1).status_code == 200
        wanted = HYPERPARAMETERS | {"n_epochs": 100}
        undisturbed = house.ended(house.submit("tiny", ROWS, **wanted))
        job = house.submit("tiny", ROWS, **wanted)
        until(lambda: step_of(house, job) >= 5, "the job is under way")
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
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(file: Path) -> None:
    """Writes until nothing more fits; unbuffered, for a buffer would fail once more when it is closed."""
    with file.open("ab", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(b"\0" * 65536)


def test_a_base_folder_with_a_pickle_or_a_missing_shard_is_refused_at_the_door(tmp_path: Path) -> None:
    for spoil, said in (
        (lambda d: (d / "pytorch_model.bin").write_bytes(b""), "pytorch_model.bin"),
        (lambda d: (d / "model.safetensors").unlink(), "safetensors"),
    ):
        folder = base_folder(tmp_path / "spoilt")
        spoil(folder)
        done = subprocess.run(
            [sys.executable, "-m", "inhouse.server", "--port", "0", "--base", str(folder)],
            env={**os.environ, "INHOUSE_DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr and "Traceback" not in done.stderr
        shutil.rmtree(folder)


def test_a_base_that_breaks_while_loading_tells_the_one_who_asked(tmp_path: Path, tiny: Path) -> None:
    folder = base_folder(tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "strange_new_factor": 2.0}))
    house = House(tmp_path / "data", [tiny, folder], load_wait_s=20)
    house.start()
    try:
        reply = house.chat("broken", "hello")
        assert reply.status_code in (400, 503)
        assert "strange_new_factor" in reply.json()["error"]["message"]
        assert house.chat("tiny", "hello", max_tokens=1).status_code == 200
    finally:
        assert house.stop() == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (rows(16) + b'{"messages": [{"role": "user",\n', "line 17"),
        (b'{"messages": [{"role": "user", "content": "q"}]}\n', "line 1"),
        (rows(2) + b'{"prompt": "\xff\xfe", "completion": "x"}\n', "line 3"),
        (rows(1) + b'{"prompt": "' + b"x" * 10_000_000 + b'", "completion": "y"}\n', "line 2"),
        (rows(1) + b'{"prompt": "' + b"x" * 1_000 + b'", "completion": "y"}\n', "line 2"),
    ],
    ids=["empty", "invalid-json-on-17", "no-reply", "bad-utf8", "10-MB-line", "longer-than-context"],
)
def test_bad_rows_fail_the_job_with_the_line_and_the_next_job_works(
    content: bytes, said: str, whole: House
) -> None:
    reply = whole.call(
        "POST", "/v1/files", files={"file": ("facts.jsonl", content)}, data={"purpose": "fine-tune"}
    )
    if reply.status_code != 200:
        assert said in reply.json()["error"]["message"]
        return
    created = whole.call(
        "POST", "/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": reply.json()["id"]}
    )
    assert created.status_code == 200
    ended = whole.ended(created.json()["id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "invalid_training_file"
    assert said in ended["error"]["message"]


def test_bad_requests_get_an_answer_that_names_the_fault(whole: House) -> None:
    too_long = whole.chat("tiny", "x" * 1000)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "256" in too_long.json()["error"]["message"]
    unknown = whole.chat("no-such-model", "hello")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    wrong = whole.call("GET", "/v1/models", key="sk-wrong")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert whole.chat("tiny", "hello", max_tokens=1).status_code == 200


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
    own.start()
    undisturbed = own.ended(own.submit("tiny", ROWS, **HYPERPARAMETERS))
    job = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    until(lambda: step_of(own, job) >= 30, "the job is under way")
    frozen = [*children(own, "-m inhouse.worker"), *children(own, f"worker.child {job}")]
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
    assert len(names) == 2
