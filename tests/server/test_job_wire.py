"""Tuning jobs on the wire: every field as OpenAI describes it; pause, resume, checkpoints, filters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.jobs import queue
from inhouse.schema import Job, JobFault, ModelCard, TuneSpec
from inhouse.store import ids
from inhouse.store.records import checkpoints, jobs

from .description import faults
from .house import ADAPTER, House, house
from .test_fine_tuning import checked, create, upload

WAIVED = "learning_rate_multiplier"
"""A number of this name can never be right: the description's bound for it is a boolean."""
LOSSES = {"step": 4, "train_loss": 0.5, "train_mean_token_accuracy": 0.75, "valid_loss": 0.6}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("jobs")) as one:
        yield one


def path(id: str, *more: str) -> str:
    return "/".join((f"/v1/fine_tuning/jobs/{id}", *more))


def queued(made: House, **fields: Any) -> str:
    id = str(create(made, training_file=upload(made), **fields).json()["id"])
    assert checked(made, id)["status"] == "queued"
    return id


def running(made: House, **fields: Any) -> Job:
    """A job whose worker reported four of ten steps, and two checkpoints."""
    id = queued(made, **fields)
    while (job := queue.claim(made.db, "w", ["tune"], 600.0)) is not None and job.id != id:
        queue.finish(made.db, job.id, job.fence, "failed")
    assert job is not None
    name = ids.tuned_model("seedling", "default", "", job.id)
    with made.db.write() as conn:
        now = made.db.clock(conn)
        chosen = {
            "epochs": 3,
            "batch_size": 2,
            "learning_rate_multiplier": 1.0,
            "rank": 8,
            "learning_rate": 0.001,
        }
        jobs.set_result(conn, id, job.fence, {"hyperparameters": chosen})
        data = {**LOSSES, "seconds_left": 90.5}
        jobs.add_event(conn, id, "Step 4/10", now, type="metrics", data=data, fence=job.fence)
        for step in (2, 4):
            card = ModelCard(
                name=ids.checkpoint(name, step),
                project="default",
                kind="adapter",
                base="seedling",
                digest=ADAPTER,
                job=id,
                created_at=now,
            )
            checkpoints.put(conn, card, step, {**LOSSES, "step": step})
    return job


def wrong(name: str, value: Any) -> list[str]:
    return [fault for fault in faults(name, value) if WAIVED not in fault]


def test_every_state_of_a_job_is_as_openai_describes_it(made: House) -> None:
    client = made.client()
    job = running(made, metadata={"team": "a"}, suffix="facts", seed=5)
    seen = [client.get(path(job.id)).json()]
    assert wrong("ListFineTuningJobCheckpointsResponse", client.get(path(job.id, "checkpoints")).json()) == []
    queue.finish(
        made.db,
        job.id,
        job.fence,
        "succeeded",
        result={"model": "ft:x", "trained_tokens": 9, "result_files": ["file-1"]},
    )
    seen.append(client.get(path(job.id)).json())
    failed = running(made)
    queue.finish(made.db, failed.id, failed.fence, "failed", error=JobFault(code="diverged", message="NaN"))
    seen.append(client.get(path(failed.id)).json())
    waiting = queued(made)
    seen += [client.get(path(waiting)).json(), client.post(path(waiting, "pause")).json()]
    seen += [client.post(path(waiting, "resume")).json(), client.post(path(waiting, "cancel")).json()]
    seen.append(create(made, training_file=upload(made)).json())
    states = ["running", "succeeded", "failed", "queued", "queued", "queued", "cancelled", "validating_files"]
    assert [job["status"] for job in seen] == states
    assert [wrong("FineTuningJob", one) for one in seen] == [[]] * len(seen)
    assert wrong("ListPaginatedFineTuningJobsResponse", client.get("/v1/fine_tuning/jobs").json()) == []
    for one in (job.id, failed.id, waiting):
        assert wrong("ListFineTuningJobEventsResponse", client.get(path(one, "events")).json()) == []


def test_a_running_job_says_when_it_may_end_and_what_was_chosen(made: House) -> None:
    job = running(made)
    told = made.client().get(path(job.id)).json()
    assert told["estimated_finish"] == pytest.approx(time.time() + 90, abs=5)
    assert told["hyperparameters"] == {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.0}
    assert told["method"]["supervised"]["hyperparameters"]["x_rank"] == 8
    assert told["trained_tokens"] is None and told["finished_at"] is None
    listed = made.client().get("/v1/fine_tuning/jobs").json()["data"][0]
    assert listed == told
    queue.finish(made.db, job.id, job.fence, "failed", error=JobFault(code="diverged", message="NaN"))
    told = made.client().get(path(job.id)).json()
    assert told["estimated_finish"] is None
    assert told["hyperparameters"]["n_epochs"] == 3, (
        "what a failed job was trained with is still worth knowing"
    )
    assert told["error"] == {"code": "diverged", "message": "NaN", "param": None}


def test_a_queued_job_is_paused_and_resumed(made: House) -> None:
    client, id = made.client(), queued(made)
    paused = client.post(path(id, "pause")).json()
    assert (paused["status"], paused["x_state"]) == ("queued", "paused")
    assert client.post(path(id, "pause")).json() == paused, "a client that lost the reply may ask again"
    assert id not in [w.job for w in queue.waiting(made.db)]
    resumed = client.post(path(id, "resume")).json()
    assert (resumed["status"], resumed["x_state"]) == ("queued", None)
    assert client.post(path(id, "resume")).json() == resumed
    assert id in [w.job for w in queue.waiting(made.db)]
    events = [e["message"] for e in client.get(path(id, "events")).json()["data"]]
    assert events[:2] == ["Resumed.", "Paused before it began."]
    client.post(path(id, "cancel"))


def test_a_running_job_is_pausing_until_its_worker_has_stopped(made: House) -> None:
    client, job = made.client(), running(made)
    pausing = client.post(path(job.id, "pause")).json()
    assert (pausing["status"], pausing["x_state"]) == ("running", "pausing")
    assert pausing["estimated_finish"] is None
    assert queue.put_down(made.db, job.id, job.fence, "Paused after step 4 of 10.")
    paused = client.get(path(job.id)).json()
    assert (paused["status"], paused["x_state"], paused["finished_at"]) == ("queued", "paused", None)
    client.post(path(job.id, "cancel"))
    assert client.get(path(job.id)).json()["x_state"] is None


def test_a_job_that_is_still_checked_waits_once_it_is_found_good(made: House) -> None:
    id = create(made, training_file=upload(made)).json()["id"]
    assert made.client().post(path(id, "pause")).json()["x_state"] == "paused"
    assert (checked(made, id)["status"], checked(made, id)["x_state"]) == ("queued", "paused")
    made.client().post(path(id, "cancel"))


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_what_has_ended_is_a_conflict_that_no_client_tries_again(made: House, verb: str) -> None:
    id = queued(made)
    made.client().post(path(id, "cancel"))
    reply = made.client().post(path(id, verb))
    assert (reply.status_code, reply.headers["x-should-retry"]) == (409, "false")
    assert verb in reply.json()["error"]["message"]


def test_a_memory_that_is_being_made_is_not_paused(made: House) -> None:
    with made.db.write() as conn:
        spec = TuneSpec(base="seedling", training="c" * 64, method="memory").model_dump()
        job = Job(
            id=ids.new("ftjob"), project="default", kind="tune", state="running", spec=spec, created_at=1.0
        )
        jobs.add(conn, job)
    reply = made.client().post(path(job.id, "pause"))
    assert (reply.status_code, reply.headers["x-should-retry"]) == (409, "false")
    assert "one go" in reply.json()["error"]["message"]
    made.client().post(path(job.id, "cancel"))


def test_another_projects_job_is_none(made: House) -> None:
    job = running(made)
    stranger = made.client(made.stranger)
    for method, verb in (("POST", "pause"), ("POST", "resume"), ("GET", "checkpoints")):
        replies = [stranger.request(method, path(id, verb)) for id in (job.id, "ftjob-" + "0" * 24)]
        assert [r.status_code for r in replies] == [404, 404]
    name = made.client().get(path(job.id, "checkpoints")).json()["data"][0]["fine_tuned_model_checkpoint"]
    assert stranger.get(f"/v1/models/{name}").status_code == 404
    assert stranger.delete(f"/v1/models/{name}").status_code == 404
    assert made.client().get(f"/v1/models/{name}").status_code == 200


def test_checkpoints_come_in_pieces_newest_first_and_are_deleted_by_name(made: House) -> None:
    client, job = made.client(), running(made)
    first = client.get(path(job.id, "checkpoints"), params={"limit": 1}).json()
    assert (first["object"], first["has_more"]) == ("list", True)
    rest = client.get(path(job.id, "checkpoints"), params={"after": first["last_id"]}).json()
    assert [c["step_number"] for c in (*first["data"], *rest["data"])] == [4, 2]
    assert rest["has_more"] is False
    newest = first["data"][0]
    assert newest["fine_tuning_job_id"] == job.id
    assert newest["metrics"] == LOSSES
    name = newest["fine_tuned_model_checkpoint"]
    assert name == f"ft:seedling:default::{job.id[-8:]}:ckpt-step-4"
    card = client.get(f"/v1/models/{name}").json()
    assert (card["x_kind"], card["x_base"]) == ("adapter", "seedling")
    refused = create(made, training_file=upload(made), model=name)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert client.delete(f"/v1/models/{name}").json()["deleted"] is True
    left = client.get(path(job.id, "checkpoints")).json()["data"]
    assert [c["step_number"] for c in left] == [2]
    assert client.get(f"/v1/models/{name}").status_code == 404


@pytest.mark.parametrize("query", [{"limit": "0"}, {"after": "ftckpt-none"}, {"colour": "red"}])
def test_a_list_of_checkpoints_refuses_what_it_does_not_know(made: House, query: dict[str, str]) -> None:
    id = running(made).id
    assert made.client().get(path(id, "checkpoints"), params=query).status_code == 400


def test_jobs_are_found_by_their_metadata(tmp_path: Path, database_url: str) -> None:
    with house(tmp_path, database_url=database_url) as made:
        a, b, none = (
            create(made, training_file=upload(made), **fields).json()["id"]
            for fields in (
                {"metadata": {"team": "a", "run": "1"}},
                {"metadata": {"team": "b", "run": "1"}},
                {},
            )
        )

        def found(**query: str) -> list[str]:
            reply = made.client().get("/v1/fine_tuning/jobs", params=query)
            assert reply.status_code == 200, reply.text
            return [job["id"] for job in reply.json()["data"]]

        assert found(**{"metadata[team]": "a"}) == [a]
        assert found(**{"metadata[run]": "1"}) == [b, a]
        assert found(**{"metadata[run]": "1", "metadata[team]": "b", "limit": "1"}) == [b]
        assert found(**{"metadata[run]": "2"}) == []
        assert found(metadata="null") == [none]
        assert found() == [none, b, a]
        for query in ({"metadata": "a"}, {"metadata": "null", "metadata[a]": "b"}, {"metadata[]": "x"}):
            assert made.client().get("/v1/fine_tuning/jobs", params=query).status_code == 400
        twice = made.client().get("/v1/fine_tuning/jobs", params={"metadata[team]": ["a", "b"]})
        assert twice.status_code == 400 and "more than once" in twice.json()["error"]["message"]


def test_files_are_as_openai_describes_them(made: House) -> None:
    client = made.client()
    rows = {"file": ("rows.jsonl", b'{"input": "a", "output": "b"}\n')}
    fields = {
        "purpose": "fine-tune",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": "7200",
    }
    file = client.post("/v1/files", data=fields, files=rows).json()
    assert faults("OpenAIFile", file) == [] and "expires_at" in file
    assert None not in file.values(), "what is absent is left out, not null"
    assert faults("ListFilesResponse", client.get("/v1/files").json()) == []
    assert faults("DeleteFileResponse", client.delete(f"/v1/files/{file['id']}").json()) == []


def test_the_client_and_the_command_pause_resume_and_show(
    made: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inhouse.client.client import Client
    from inhouse.errors import Conflict
    from tests.test_cli import inhouse, lines

    monkeypatch.setenv("INHOUSE_URL", made.url)
    monkeypatch.setenv("INHOUSE_API_KEY", made.member)
    job = running(made)
    with Client(made.url, made.member) as client:
        handle = client.job(job.id)
        assert [(c.step, c.metrics["train_loss"]) for c in handle.checkpoints()] == [(4, 0.5), (2, 0.5)]
        assert handle.checkpoints()[0].model.endswith(":ckpt-step-4")
        assert not handle.is_paused and handle.pause().is_paused and not handle.resume().is_paused
        assert lines(inhouse("jobs", job.id, "--pause"))[0]["state"] == "pausing"
        assert queue.put_down(made.db, job.id, job.fence, "Paused.")
        assert [j["state"] for j in lines(inhouse("jobs")) if j["job"] == job.id] == ["paused"]
        assert lines(inhouse("jobs", job.id, "--resume"))[0]["state"] == "queued"
        inhouse("jobs", job.id, "--pause", "--resume", code=1)
        inhouse("jobs", "--pause", code=1)
        handle.cancel()
        with pytest.raises(Conflict):
            handle.resume()
        inhouse("jobs", job.id, "--pause", code=1)
