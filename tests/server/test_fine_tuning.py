from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from inhouse.jobs import queue
from inhouse.schema import Job, ModelCard, TuneSpec
from inhouse.server import validation
from inhouse.store import db as db_module
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.records import jobs, models

from .house import TUNED, House, house, until

GOOD = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


def upload(made: House, content: bytes = GOOD, name: str = "facts.jsonl", purpose: str = "fine-tune") -> str:
    reply = made.client().post("/v1/files", data={"purpose": purpose}, files={"file": (name, content)})
    return str(reply.json()["id"])


def create(made: House, key: str | None = None, **fields: Any) -> Any:
    return made.client(key).post("/v1/fine_tuning/jobs", json={"model": "seedling", **fields})


def checked(made: House, id: str) -> Any:
    """The job once its files have been checked."""
    client = made.client()

    def ask() -> Any:
        job = client.get(f"/v1/fine_tuning/jobs/{id}").json()
        return job if job["status"] != "validating_files" else None

    return until(ask, "the files are checked")


def test_a_job_is_checked_and_then_queued_with_what_was_asked(served: House) -> None:
    file, other = upload(served), upload(served, GOOD * 2, "more.jsonl")
    hyperparameters = {
        "n_epochs": 3,
        "batch_size": "auto",
        "learning_rate_multiplier": 2,
        "x_method": "lora",
        "x_rank": 8,
        "x_alpha": 16,
        "x_learning_rate": 0.001,
    }
    made = create(
        served,
        training_file=file,
        validation_file=other,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        suffix="facts",
        seed=7,
        metadata={"who": "me"},
    ).json()
    assert made["object"] == "fine_tuning.job"
    assert made["status"] == "validating_files"
    job = checked(served, made["id"])
    assert job["status"] == "queued"
    assert job["method"]["supervised"]["hyperparameters"] == hyperparameters | {
        "x_checkpoint_every": "auto",
        "x_evaluate_every": "auto",
    }
    assert job["hyperparameters"] == {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 2}
    assert (job["training_file"], job["validation_file"], job["seed"]) == (file, other, 7)
    assert (job["metadata"], job["user_provided_suffix"]) == ({"who": "me"}, "facts")
    assert job["error"] is None and job["fine_tuned_model"] is None and job["result_files"] == []
    with served.db.read() as conn:
        spec = TuneSpec.model_validate(jobs.get(conn, "default", made["id"]).spec)
    assert (spec.training_name, spec.validation_name) == ("facts.jsonl", "more.jsonl")
    assert (spec.epochs, spec.rank, spec.alpha, spec.learning_rate, spec.method) == (3, 8, 16, 0.001, "lora")
    events = served.client().get(f"/v1/fine_tuning/jobs/{made['id']}/events").json()
    assert "3 rows" in events["data"][0]["message"]
    assert events["data"][-1]["message"].startswith("Created")
    assert {e["object"] for e in events["data"]} == {"fine_tuning.job.event"}
    served.client().post(f"/v1/fine_tuning/jobs/{made['id']}/cancel")


def test_the_older_place_for_hyperparameters_is_read(served: House) -> None:
    file = upload(served)
    job = create(served, training_file=file, hyperparameters={"n_epochs": 2, "batch_size": 1}).json()
    assert job["hyperparameters"]["n_epochs"] == 2
    served.client().post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD * 16 + b"{not json}\n", "line 17"),
        (GOOD + b'{"messages": [{"role": "user", "content": "q"}]}\n', "line 2"),
        (GOOD + b'{"input": "\xff", "output": "b"}\n', "line 2"),
        (b"\n\n", "facts.jsonl"),
        (b'{"input": "' + b"x" * 5_000_000 + b'", "output": "b"}\n', "line 1"),
    ],
)
def test_a_bad_file_fails_its_job_with_line_and_cure(served: House, content: bytes, says: str) -> None:
    job = checked(served, create(served, training_file=upload(served, content)).json()["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "invalid_training_file"
    assert job["error"]["param"] == "training_file"
    assert says in job["error"]["message"] and "facts.jsonl" in job["error"]["message"]
    assert job["finished_at"] is not None
    events = served.client().get(f"/v1/fine_tuning/jobs/{job['id']}/events").json()["data"]
    problem = next(e for e in events if "cure" in e["data"])
    assert problem["level"] == "error" and problem["data"]["cure"]


def test_every_problem_is_an_event(served: House) -> None:
    job = checked(served, create(served, training_file=upload(served, b"{bad}\n" * 30)).json()["id"])
    events = served.client().get(f"/v1/fine_tuning/jobs/{job['id']}/events?limit=100").json()["data"]
    assert sorted(e["data"]["line"] for e in events if "line" in e["data"]) == list(range(1, 31))


def test_a_bad_validation_file_is_named(served: House) -> None:
    bad = upload(served, b"{bad}\n", "check.jsonl")
    job = checked(served, create(served, training_file=upload(served), validation_file=bad).json()["id"])
    assert job["error"]["param"] == "validation_file"
    assert "check.jsonl" in job["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"training_file": "file-none"}, 404, "training_file"),
        ({}, 400, "training_file"),
        ({"model": "nothing"}, 404, "model"),
        ({"model": TUNED}, 400, "model"),
        ({"model": "/somewhere/else"}, 404, "model"),
        ({"suffix": "a b"}, 400, "suffix"),
        ({"suffix": "x" * 65}, 400, "suffix"),
        ({"seed": -1}, 400, "seed"),
        ({"method": {"type": "dpo"}}, 400, "method.type"),
        ({"method": {"type": "supervised", "dpo": {}}}, 400, "method.dpo"),
        ({"integrations": [{"type": "wandb"}]}, 400, "integrations"),
        ({"hyperparameters": {"n_epochs": 0}}, 400, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"x_rank": 8}}, 400, "hyperparameters.x_rank"),
        ({"hyperparameters": {"n_epochs": "many"}}, 400, "hyperparameters.n_epochs"),
        (
            {
                "hyperparameters": {"n_epochs": 1},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
            },
            400,
            "hyperparameters",
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused_by_name(
    served: House, fields: dict[str, Any], status: int, param: str
) -> None:
    file = {} if fields == {} else {"training_file": upload(served)}
    reply = create(served, **(file | fields))
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


def test_a_file_for_another_purpose_is_refused(served: House) -> None:
    reply = create(served, training_file=upload(served, purpose="user_data"))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "training_file")


def test_a_folder_becomes_a_base_for_an_admin_only(tmp_path: Path) -> None:
    folder = tmp_path / "own-base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with house(tmp_path / "data") as made:
        file = upload(made)

        def ask(key: str) -> Any:
            return create(made, key, training_file=file, model=str(folder))

        assert ask(made.member).status_code == 404
        assert "safetensors" in ask(made.admin).json()["error"]["message"]
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "pytorch_model.bin").write_bytes(b"")
        assert "pytorch_model.bin" in ask(made.admin).json()["error"]["message"]
        (folder / "pytorch_model.bin").unlink()
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
        assert "one.safetensors" in ask(made.admin).json()["error"]["message"]
        (folder / "one.safetensors").write_bytes(b"")
        assert ask(made.admin).json()["model"] == "own-base"
        assert ask(made.member).json()["model"] == "own-base"
        assert made.client().get("/v1/models/own-base").json()["x_kind"] == "base"
        other = tmp_path / "deeper" / "own-base"
        folder.rename(tmp_path / "moved")
        other.parent.mkdir()
        (tmp_path / "moved").rename(other)
        again = create(made, made.admin, training_file=file, model=str(other)).json()["model"]
        assert again.startswith("own-base-")
        put = made.client(made.admin).put("/v1/x/bases", json={"source": "someone/base"}).json()
        assert (put["id"], put["x_source"]) == ("someone/base", "someone/base")
        assert len(made.client(made.admin).get("/v1/x/bases").json()["data"]) == 4


def test_a_base_may_have_two_names_and_a_name_only_one_base(tmp_path: Path) -> None:
    with house(tmp_path) as made:

        def put(**fields: str) -> Any:
            return made.client(made.admin).put("/v1/x/bases", json=fields)

        assert put(source="someone/base").json()["id"] == "someone/base"
        alias = put(source="someone/base", name="ours").json()
        assert (alias["id"], alias["x_source"]) == ("ours", "someone/base")
        assert put(source="someone/base", name="ours").json() == alias
        taken = put(source="someone/other", name="ours")
        assert (taken.status_code, taken.json()["error"]["param"]) == (409, "name")
        assert "someone/base" in taken.json()["error"]["message"]
        assert put(source="ours").json() == alias


@pytest.mark.parametrize("base", ["seedling", "someone/base", "FOLDER"])
def test_exactly_the_servers_own_base_is_marked_as_its_default(tmp_path: Path, base: str) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    with house(tmp_path / "data", base=str(folder) if base == "FOLDER" else base) as made:
        for source in ("someone/base", str(folder)):
            made.client(made.admin).put("/v1/x/bases", json={"source": source})
        wanted = "weights" if base == "FOLDER" else base
        for path in ("/v1/models", "/v1/x/bases"):
            found = made.client(made.admin).get(path).json()["data"]
            assert [m["id"] for m in found if m["x_default"]] == [wanted]
        assert made.client().get(f"/v1/models/{wanted}").json()["x_default"] is True
        assert made.client().get(f"/v1/models/{TUNED}").json()["x_default"] is False


def test_a_finished_job_names_its_model_and_results(served: House) -> None:
    with served.db.write() as conn:
        now = served.db.clock(conn)
        spec = TuneSpec(base="seedling", training="c" * 64).model_dump()
        id = ids.new("ftjob")
        jobs.add(conn, Job(id=id, project="default", kind="tune", state="queued", spec=spec, created_at=now))
    while (claimed := queue.claim(served.db, "w", ["tune"], 60.0)) is not None and claimed.id != id:
        queue.finish(served.db, claimed.id, claimed.fence, "failed")
    assert claimed is not None
    assert served.client().get(f"/v1/fine_tuning/jobs/{id}").json()["status"] == "running"
    name = f"ft:seedling:default::{id[-8:]}"
    card = ModelCard(name=name, project="default", kind="full", base=name, digest="d" * 64, created_at=now)
    result = {
        "model": name,
        "trained_tokens": 12,
        "result_files": ["file-r"],
        "hyperparameters": {"epochs": 5, "batch_size": 2, "rank": 8, "learning_rate": 0.01},
    }
    queue.finish(
        served.db, id, claimed.fence, "succeeded", result=result, publish=lambda conn: models.add(conn, card)
    )
    job = served.client().get(f"/v1/fine_tuning/jobs/{id}").json()
    assert (job["status"], job["fine_tuned_model"], job["trained_tokens"]) == ("succeeded", name, 12)
    assert job["result_files"] == ["file-r"]
    assert job["hyperparameters"] == {"n_epochs": 5, "batch_size": 2, "learning_rate_multiplier": "auto"}
    client = served.client()
    assert client.get(f"/v1/models/{name}").json()["owned_by"] == "default"
    assert client.delete(f"/v1/models/{name}").json() == {"id": name, "object": "model", "deleted": True}
    assert client.get(f"/v1/models/{name}").status_code == 404
    assert client.delete("/v1/models/seedling").status_code == 403


def test_racing_requests_with_one_key_make_one_job(served: House) -> None:
    file = upload(served)
    headers = {"idempotency-key": "race", "authorization": f"Bearer {served.member}"}
    client = served.client()

    def send(_: int) -> Any:
        return client.post(
            "/v1/fine_tuning/jobs", json={"model": "seedling", "training_file": file}, headers=headers
        )

    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(send, range(16)))
    assert {r.status_code for r in replies} == {200}
    assert len({r.json()["id"] for r in replies}) == 1
    client.post(f"/v1/fine_tuning/jobs/{replies[0].json()['id']}/cancel")


def test_control_without_a_key_every_request_makes_a_job(served: House) -> None:
    file = upload(served)
    made = {create(served, training_file=file).json()["id"] for _ in range(2)}
    assert len(made) == 2
    for id in made:
        served.client().post(f"/v1/fine_tuning/jobs/{id}/cancel")


def test_a_job_left_unchecked_is_checked_by_the_next_server(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        id = create(made, training_file=upload(made)).json()["id"]
        checked(made, id)
    from inhouse.settings import Settings
    from inhouse.store.db import Database

    db = Database(Settings(data_dir=tmp_path).database)
    with db.write() as conn:
        conn.exec_driver_sql("UPDATE jobs SET state = 'validating_files'")
    db.dispose()
    from .house import serve_again

    with serve_again(tmp_path) as again:

        def state() -> bool:
            with again.db.read() as conn:
                return jobs.get(conn, None, id).state == "queued"

        until(state, "the next server checks the file")


@pytest.mark.parametrize("retry_s", [0.05, 3600.0])
def test_a_check_that_a_busy_store_broke_is_made_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, retry_s: float
) -> None:
    monkeypatch.setattr(validation, "RETRY_S", retry_s)
    with house(tmp_path) as made:
        id = create(made, training_file=upload(made)).json()["id"]
        checked(made, id)
        made.server.gateway.validator.close()
        with made.db.write() as conn:
            conn.exec_driver_sql("UPDATE jobs SET state = 'validating_files'")
        monkeypatch.setattr(db_module, "BUSY_TIMEOUT_S", 0.05)
        impatient = db_module.Database(made.settings.database)
        validator = validation.Validator(impatient, Artifacts(made.settings.artifacts_dir), 10_000)

        def state() -> str:
            with made.db.read() as conn:
                return jobs.get(conn, None, id).state

        with made.db.write():
            validator.start()
            until(lambda: "StoreBusy" in caplog.text, "the check meets a busy store")
        if retry_s < 1:
            until(lambda: state() == "queued", "it is made again")
        else:  # the control: had it not been put off, it would be through
            time.sleep(0.3)
            assert state() == "validating_files"
        validator.close()
        impatient.dispose()


@pytest.mark.parametrize("is_fenced", [True, False], ids=["fenced", "control: no fence"])
def test_a_check_that_a_silent_server_left_is_made_once_by_another_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_fenced: bool
) -> None:
    """The first server wakes when the job is long queued, and says nothing more of it."""
    if not is_fenced:
        monkeypatch.setattr(validation.unchecked, "require", lambda conn, job: None)
    with house(tmp_path) as made:
        sleeping, woken, done = threading.Event(), threading.Event(), threading.Event()
        settled, check = validation.Validator._settled, validation.Validator._check_job

        def asleep(self: validation.Validator, job: Job, spec: TuneSpec) -> tuple[TuneSpec, str | None]:
            if self is silent:
                sleeping.set()
                woken.wait(20)
            return settled(self, job, spec)

        def checking(self: validation.Validator, job: Job) -> None:
            check(self, job)
            if self is silent:
                done.set()

        monkeypatch.setattr(validation.Validator, "_settled", asleep)
        monkeypatch.setattr(validation.Validator, "_check_job", checking)
        made.server.gateway.validator.close()
        artifacts = Artifacts(made.settings.artifacts_dir)
        silent = validation.Validator(made.db, artifacts, 10_000, lease_s=0.5)
        other = validation.Validator(made.db, artifacts, 10_000, lease_s=0.5)
        id = create(made, training_file=upload(made)).json()["id"]
        silent.start()
        assert sleeping.wait(10)
        other.start()
        checked(made, id)
        woken.set()
        assert done.wait(10)
        silent.close()
        other.close()
        events = made.client().get(f"/v1/fine_tuning/jobs/{id}/events").json()["data"]
        said = [event for event in events if event["message"].startswith("Files validated")]
        assert len(said) == (1 if is_fenced else 2)
