"""Jobs that make a memory: what is asked, which method is chosen and why, and rows that are no facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inhouse.schema import FactInput, TuneSpec
from inhouse.store.records import files, jobs

from .house import House, house, remember, serve_again, until
from .test_fine_tuning import GOOD, checked, create, upload


def facts_file(*pairs: tuple[str, str], **more: Any) -> bytes:
    return b"".join(json.dumps({"question": q, "answer": a, **more}).encode() + b"\n" for q, a in pairs)


SHORT = facts_file(*((f"What is part {i}?", f"code {i}") for i in range(20)))
LONG = facts_file(*((f"What is part {i}?", "word " * 50) for i in range(20)))


def job_of(served: House, content: bytes, **fields: Any) -> Any:
    """The job once it is checked, ended again so that no other test meets it."""
    reply = create(served, training_file=upload(served, content), **fields)
    assert reply.status_code == 200, reply.text
    job = checked(served, reply.json()["id"])
    if job["status"] == "queued":
        served.client().post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    return job


def said(served: House, job: Any) -> list[Any]:
    """The job's events, oldest first."""
    events = served.client().get(f"/v1/fine_tuning/jobs/{job['id']}/events?limit=100").json()["data"]
    return list(reversed(events))


def spec_of(served: House, job: Any) -> TuneSpec:
    with served.db.read() as conn:
        return TuneSpec.model_validate(jobs.get(conn, None, job["id"]).spec)


def test_a_memory_is_made_with_what_was_asked(served: House) -> None:
    asked = {"x_experts": True, "x_unknown": "base", "x_on_conflict": "coexist"}
    method = {"type": "memory", "memory": {"hyperparameters": asked}}
    job = job_of(served, SHORT + SHORT, method=method)
    assert job["status"] == "queued"
    assert job["method"] == method
    assert job["hyperparameters"] == {}
    spec = spec_of(served, job)
    assert (spec.method, spec.experts, spec.unknown, spec.on_conflict) == ("memory", True, "base", "coexist")
    assert spec.picks_method is False
    messages = [event["message"] for event in said(served, job)]
    assert "Files validated: 40 rows, 20 facts. The job is queued." in messages
    assert not any("Chose" in message for message in messages), "nothing was ours to choose"
    plain = job_of(served, SHORT, method={"type": "memory"})
    assert plain["method"]["memory"]["hyperparameters"] == {
        "x_experts": False,
        "x_unknown": "refuse",
        "x_on_conflict": None,
    }


@pytest.mark.parametrize(
    ("content", "chosen", "says"),
    [
        (SHORT, "memory", "20 of 20 rows are short questions with short answers"),
        (LONG, "supervised", "0 of 20 rows"),
        (facts_file(*((f"Is {i} good?", "yes") for i in range(20))), "supervised", "share 1 answers"),
    ],
)
def test_auto_chooses_by_the_rows_and_says_why(served: House, content: bytes, chosen: str, says: str) -> None:
    method = {"type": "auto", "auto": {"hyperparameters": {"x_unknown": "base"}}}
    job = job_of(served, content, method=method)
    assert job["method"]["type"] == chosen and chosen in job["method"]
    (event,) = [event for event in said(served, job) if event["message"].startswith("Chose method = ")]
    assert event["message"].startswith(f"Chose method = {chosen}: ") and says in event["message"]
    assert event["data"] == {"method": chosen}
    spec = spec_of(served, job)
    assert (spec.method, spec.picks_method) == ("memory" if chosen == "memory" else "auto", False)
    assert spec.unknown == "base"


def test_until_the_rows_are_checked_auto_is_auto(served: House) -> None:
    made = create(served, training_file=upload(served, SHORT), method={"type": "auto"}).json()
    assert made["method"]["type"] == "auto" and made["hyperparameters"] == {}
    checked(served, made["id"])
    served.client().post(f"/v1/fine_tuning/jobs/{made['id']}/cancel")


def test_with_a_validation_file_auto_is_training(served: House) -> None:
    other = upload(served, GOOD, "check.jsonl")
    job = job_of(served, SHORT, method={"type": "auto"}, validation_file=other)
    assert job["method"]["type"] == "supervised"
    assert any("a validation file was given" in event["message"] for event in said(served, job))


@pytest.mark.parametrize("fields", [{}, {"method": {"type": "supervised"}}])
def test_who_asks_for_nothing_or_for_supervised_gets_what_openai_means(
    served: House, fields: dict[str, Any]
) -> None:
    job = job_of(served, SHORT, **fields)
    assert job["method"]["type"] == "supervised"
    assert not any("Chose method" in event["message"] for event in said(served, job))


CONFLICT = SHORT + facts_file(("what is part 7", "another"), ("?!", "x"), ("What is part 3?", "mine"))


@pytest.mark.parametrize("type", ["memory", "auto"])
def test_rows_that_contradict_each_other_fail_the_job_with_every_problem(served: House, type: str) -> None:
    job = job_of(served, CONFLICT, method={"type": type})
    assert (job["status"], job["fine_tuned_model"]) == ("failed", None)
    assert (job["error"]["code"], job["error"]["param"]) == ("invalid_training_file", "training_file")
    assert "facts.jsonl line 21" in job["error"]["message"] and "2 more" in job["error"]["message"]
    problems = [event["data"] for event in said(served, job) if "cure" in event["data"]]
    assert [problem["line"] for problem in problems] == [21, 22, 23]
    assert "line 8" in problems[0]["reason"] and "line 4" in problems[2]["reason"]
    assert "replace" in problems[0]["cure"] and "coexist" in problems[0]["cure"]
    assert job["method"]["type"] == "memory"


def test_a_conflict_that_was_settled_beforehand_is_none(served: House) -> None:
    content = SHORT + facts_file(("what is part 7", "another"))
    for how, count in (("replace", 20), ("coexist", 21)):
        method = {"type": "memory", "memory": {"hyperparameters": {"x_on_conflict": how}}}
        job = job_of(served, content, method=method)
        assert job["status"] == "queued"
        assert f"{count} facts" in said(served, job)[1]["message"]


def test_an_answer_that_is_too_long_for_a_fact_is_told(served: House) -> None:
    job = job_of(served, facts_file(("Why?", "x" * 2001)), method={"type": "memory"})
    assert job["status"] == "failed" and "2,001 characters" in job["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"method": {"type": "memory", "supervised": {}}}, "method.supervised"),
        ({"method": {"type": "supervised", "memory": {}}}, "method.memory"),
        (
            {"method": {"type": "memory", "memory": {"hyperparameters": {"n_epochs": 1}}}},
            "method.memory.hyperparameters.n_epochs",
        ),
        (
            {"method": {"type": "memory", "memory": {"hyperparameters": {"x_unknown": "guess"}}}},
            "method.memory.hyperparameters.x_unknown",
        ),
        ({"method": {"type": "memory"}, "hyperparameters": {"n_epochs": 1}}, "hyperparameters"),
        ({"method": {"type": "auto"}, "hyperparameters": {"n_epochs": 1}}, "hyperparameters"),
        ({"method": {"type": "memory"}, "validation_file": "FILE"}, "validation_file"),
    ],
)
def test_what_a_method_would_ignore_is_refused_by_name(
    served: House, fields: dict[str, Any], param: str
) -> None:
    file = upload(served)
    filled = json.loads(json.dumps(fields).replace("FILE", file))
    reply = create(served, training_file=file, **filled)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_memory_is_no_base_to_start_from(served: House) -> None:
    model, _ = remember(served, FactInput(question="A?", answer="1"))
    reply = create(served, model=model, training_file=upload(served))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    assert "a memory" in reply.json()["error"]["message"]


def test_a_choice_that_was_not_made_is_made_by_the_next_server(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        id = create(made, training_file=upload(made, SHORT), method={"type": "auto"}).json()["id"]
        checked(made, id)
        with made.db.write() as conn:
            spec = TuneSpec.model_validate(jobs.get(conn, None, id).spec)
            unsettled = spec.model_copy(update={"method": "auto", "picks_method": True})
            conn.exec_driver_sql("UPDATE jobs SET state = 'validating_files'")
            jobs.set_spec(conn, id, unsettled.model_dump())
    with serve_again(tmp_path) as again:

        def method() -> bool:
            with again.db.read() as conn:
                job = jobs.get(conn, None, id)
            return (job.state, job.spec["method"]) == ("queued", "memory")

        until(method, "the next server checks and chooses")


def test_a_file_whose_fact_was_forgotten_is_gone_with_its_bytes(served: House) -> None:
    file = upload(served, facts_file(("Forget this?", "soon")))
    _, (fact,) = remember(served, FactInput(question="Forget this?", answer="soon"), files=(file,))
    with served.db.read() as conn:
        digest = files.get(conn, "default", file).digest
    kept = served.settings.artifacts_dir / digest[:2] / digest
    assert kept.exists()
    served.client().delete(f"/v1/facts/{fact.id}")
    assert not kept.exists()
    reply = create(served, training_file=file, method={"type": "memory"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "training_file")


@pytest.mark.parametrize(
    "content",
    [
        SHORT + facts_file(("What is the bonus?", "9"), access=["hr"]),
        SHORT + b'{"question": "Bonus?", "access": ["hr"]}\n',
    ],
    ids=["a row with an access list", "a row that cannot be read"],
)
def test_an_upload_with_restricted_facts_is_read_and_trained_on_by_admins_only(
    served: House, content: bytes
) -> None:
    file, plain = upload(served, content), upload(served, SHORT)
    for method, asked in [
        (None, {"training_file": file}),
        ({"type": "auto"}, {"training_file": file}),
        (None, {"training_file": plain, "validation_file": file}),
    ]:
        reply = create(served, **asked, **({"method": method} if method else {}))
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (403, "permission_denied"), asked
        assert error["param"] == ("validation_file" if len(asked) == 2 else "training_file")
        assert "memory" in error["message"] and file in error["message"]
    refused = served.client().get(f"/v1/files/{file}/content")
    assert refused.status_code == 403 and "export" in refused.json()["error"]["message"]
    assert served.client(served.admin).get(f"/v1/files/{file}/content").content == content
    assert served.client().get(f"/v1/files/{plain}/content").content == SHORT, "control"
    made = [
        create(served, training_file=file, method={"type": "memory"}),
        create(served, served.admin, training_file=file),
        create(served, training_file=plain),
    ]
    for reply in made:
        assert reply.status_code == 200, reply.text
        served.client().post(f"/v1/fine_tuning/jobs/{reply.json()['id']}/cancel")
