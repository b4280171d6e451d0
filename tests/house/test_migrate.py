"""From OpenAI's files to models that answer here, through every floor; and a run that is killed in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from inhouse.client.client import Client
from inhouse.client.migrate.plan import MARK
from tests.client.openai_things import BROKEN, MINI, ROWS, folder, job, lines, row
from tests.house.house import House, until

KNOBS = {"batch_size": 4, "learning_rate_multiplier": 1.0}


def old_job(id: str, epochs: int = 60, **changes: Any) -> dict[str, Any]:
    return job(id, hyperparameters=KNOBS | {"n_epochs": epochs}, method=None, **changes)


def command(house: House, path: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "inhouse.cli", "migrate", "openai", str(path), "--json", *more]


def environment(house: House) -> dict[str, str]:
    return {**os.environ, "INHOUSE_URL": house.url, "INHOUSE_API_KEY": house.key}


def test_jobs_of_openai_become_models_that_answer_here(whole: House, tmp_path: Path) -> None:
    other = [row(f"other {i}?", f"b{i}") for i in range(4)]
    jobs = [
        old_job("ftjob-one", validation_file="file-held"),
        old_job("ftjob-two", training_file="file-other"),
        old_job("ftjob-dpo") | {"method": {"type": "dpo", "dpo": {}}},
    ]
    files = {
        "file-rows.jsonl": lines([*ROWS, BROKEN]),
        "file-other": lines(other),
        "file-held": lines(ROWS[:1]),
    }
    path = folder(tmp_path / "old", jobs, files)
    done = subprocess.run(
        command(whole, path, "--base", "tiny", "--rows", "drop"),
        env=environment(whole),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr + whole.output()
    record = json.loads(done.stdout)
    assert [j["state"] for j in record["jobs"]] == ["left out", "succeeded", "succeeded"], record
    models = json.loads((path / "inhouse-models.json").read_text())
    asked = {f"ft:{MINI}:aurora:ferry:one": ("q1?", "a7"), f"ft:{MINI}:aurora:ferry:two": ("other 2?", "b2")}
    assert models.keys() == asked.keys()
    for name, (question, reply) in asked.items():
        said = whole.chat(models[name], question, max_tokens=6).json()
        assert said["choices"][0]["message"]["content"] == reply
    assert "line 5, messages[1].tool_calls" in (path / "inhouse-migration.md").read_text()


def test_a_run_that_is_killed_goes_on_and_starts_every_job_once(whole: House, tmp_path: Path) -> None:
    jobs = [old_job(f"ftjob-cut-{i}", epochs=2, training_file=f"file-{i}") for i in range(6)]
    path = folder(tmp_path / "old", jobs, {f"file-{i}": lines(ROWS[: i % 4 + 1]) for i in range(6)})

    with Client(whole.url, whole.key) as client:

        def here() -> list[str]:
            marks = [(j.details.get("metadata") or {}).get(MARK, "") for j in client.jobs()]
            return [mark.split(" ")[0] for mark in marks if mark.startswith("ftjob-cut-")]

        cuts = 0
        while len(here()) < len(jobs):
            before = len(here())
            run = subprocess.Popen(
                command(whole, path, "--base", "tiny"),
                env=environment(whole),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            until(lambda seen=before: len(here()) > seen, "one more job is started")  # type: ignore[misc]
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            cuts += 1
            assert cuts <= len(jobs)
        done = subprocess.run(
            command(whole, path, "--base", "tiny"),
            env=environment(whole),
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert done.returncode == 0, done.stderr + whole.output()
        assert sorted(here()) == [f"ftjob-cut-{i}" for i in range(6)]
    record = json.loads(done.stdout)
    assert {j["state"] for j in record["jobs"]} == {"succeeded"}
    assert all(j["new"]["was_there"] for j in record["jobs"])
