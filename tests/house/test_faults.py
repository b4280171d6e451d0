"""Stops and bad input: what was asked gets an answer that names the fault, and the next command works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.house.house import House, rows, until
from tests.tiny import base_folder

ROWS = rows(24)
HYPERPARAMETERS = {"n_epochs": 25, "batch_size": 2, "x_rank": 4}


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


def test_sigterm_gives_running_jobs_back_and_the_next_start_resumes_them(own: House) -> None:
    own.start()
    job = own.submit("tiny", ROWS, **HYPERPARAMETERS)
    until(lambda: own.step_of(job) >= 40, "some checkpoints")
    assert own.stop() == 0, own.output()
    own.start()
    assert own.ended(job)["status"] == "succeeded"
    again = [e["data"]["step"] for e in metrics(own, job)]
    restarts = [b for a, b in pairwise(again) if b <= a]
    assert len(restarts) <= 1 and all(step > 1 for step in restarts), "it began anew"


def test_an_engine_that_is_killed_comes_back_by_itself(own: House) -> None:
    own.start()
    assert own.chat("tiny", "hello", max_tokens=3).status_code == 200
    engines = own.below("worker.child job-")
    assert len(engines) == 1
    os.kill(engines[0], signal.SIGKILL)
    assert own.chat("tiny", "hello", max_tokens=3).status_code == 200


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
