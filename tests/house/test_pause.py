"""A running job is paused over HTTP, its server killed, and resumed: the adapter is that of a job left alone."""

from __future__ import annotations

import signal
from typing import Any

from inhouse.schema import TERMINAL_STATES
from tests.house.house import House, descendants, rows, until

KNOBS: dict[str, Any] = {"n_epochs": 150, "batch_size": 4, "x_rank": 4, "x_checkpoint_every": 1000}
"""Some hundred steps, and no checkpoint on the way that nobody asked for."""


def paused(house: House, job: str) -> dict[str, Any]:
    """The job, once its worker has put it down."""
    asked = house.call("POST", f"/v1/fine_tuning/jobs/{job}/pause").json()
    assert (asked["status"], asked["x_state"]) in (("running", "pausing"), ("queued", "paused"))
    return dict(until(lambda: (j := house.job(job))["status"] == "queued" and j, "the job is put down"))


def steps(house: House, job: str) -> list[int]:
    """The steps that its log tells of, oldest first."""
    found: list[int] = []
    params: dict[str, Any] = {"limit": 100}
    while True:
        page = house.call("GET", f"/v1/fine_tuning/jobs/{job}/events", params=params).json()
        found += [e["data"]["step"] for e in page["data"] if e["type"] == "metrics"]
        if not page["has_more"]:
            return found[::-1]
        params["after"] = page["last_id"]


def training(house: House) -> list[int]:
    assert house.process is not None
    below = descendants(house.process.pid)
    return [pid for pid, command in below.items() if "worker.child ftjob" in command]


def test_a_job_paused_over_a_killed_server_gives_the_same_adapter(own: House) -> None:
    own.start()
    alone = own.ended(own.submit("tiny", rows(12), **KNOBS))
    assert alone["status"] == "succeeded"

    job = own.submit("tiny", rows(12), **KNOBS)
    until(lambda: any(e["type"] == "metrics" for e in own.events(job)), "it trains")
    told = paused(own, job)
    assert (told["x_state"], told["finished_at"], told["fine_tuned_model"]) == ("paused", None, None)
    until(lambda: not training(own), "its process ends")
    (said,) = [e["message"] for e in own.events(job) if e["message"].startswith("Paused after step")]
    step = int(said.split()[3])
    assert 0 < step < 450

    other = own.submit("tiny", rows(4, "other "), n_epochs=2)
    assert own.ended(other)["status"] == "succeeded", "a paused job's slot is another's"
    own.kill()
    own.start()
    assert own.job(job)["x_state"] == "paused"
    assert own.call("POST", f"/v1/fine_tuning/jobs/{job}/resume").json()["x_state"] is None
    ended = own.ended(job)
    assert ended["status"] == "succeeded"

    assert steps(own, job) == list(range(1, 451)), "it went on where it was: no step is run twice"
    results = [own.call("GET", f"/v1/files/{one['result_files'][0]}/content").text for one in (alone, ended)]
    tables = [[line.split(",")[:-1] for line in text.splitlines()] for text in results]  # the last is a speed
    assert tables[0] == tables[1] and len(tables[1]) == 451
    digests = [own.adapter_digest(str(one["fine_tuned_model"])) for one in (alone, ended)]
    assert digests[0] == digests[1]


def test_a_worker_killed_while_a_pause_is_asked_leaves_a_paused_job(own: House) -> None:
    import os

    own.start()
    job = own.submit("tiny", rows(12), **KNOBS)
    (child,) = until(lambda: training(own), "it runs")
    os.kill(child, signal.SIGSTOP)  # so that it cannot come to pause
    assert own.call("POST", f"/v1/fine_tuning/jobs/{job}/pause").json()["status"] in ("running", "queued")
    os.kill(child, signal.SIGKILL)
    until(lambda: own.job(job)["status"] == "queued", "the dead worker's job waits")
    assert own.job(job)["x_state"] == "paused"
    own.call("POST", f"/v1/fine_tuning/jobs/{job}/resume")
    ended = own.ended(job)
    assert ended["status"] in TERMINAL_STATES and ended["status"] == "succeeded"


def test_each_checkpoint_answers_by_its_name(whole: House) -> None:
    job = whole.ended(whole.submit("tiny", rows(4), n_epochs=4, batch_size=4, x_rank=4, x_learning_rate=0.02))
    found = whole.call("GET", f"/v1/fine_tuning/jobs/{job['id']}/checkpoints").json()["data"]
    assert [c["step_number"] for c in found] == [4, 3, 2, 1]
    digests = []
    for checkpoint in found:
        name = checkpoint["fine_tuned_model_checkpoint"]
        reply = whole.chat(name, "q0?", max_tokens=4)
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"] == name
        digests.append(reply.json()["x_adapter"])
    assert len(set(digests)) == 4
    assert digests[0] == whole.chat(job["fine_tuned_model"], "q0?", max_tokens=1).json()["x_adapter"]
    gone = found[1]["fine_tuned_model_checkpoint"]
    assert whole.call("DELETE", f"/v1/models/{gone}").json()["deleted"]
    assert whole.chat(gone, "q0?", max_tokens=1).status_code == 404
    assert whole.chat(found[2]["fine_tuned_model_checkpoint"], "q0?", max_tokens=1).status_code == 200
