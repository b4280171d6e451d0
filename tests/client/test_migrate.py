"""Jobs of OpenAI's started on a real server, each once; what a worker does is done by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from inhouse.cli import app
from inhouse.client.client import Client
from inhouse.client.migrate import download, read_folder, start
from inhouse.client.migrate.plan import MARK
from inhouse.client.migrate.report import MODELS, Migration
from inhouse.errors import InvalidRequest
from tests.client.openai_things import KEY, MINI, ROWS, OpenAI, folder, job, lines
from tests.server.house import House


@pytest.fixture
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two jobs on one file; ids of their own, since the server is shared."""
    name = request.node.name[:60]
    jobs = [job(f"ftjob-{name}-{i}", user_provided_suffix=f"s{i}") for i in range(2)]
    return folder(tmp_path / "old", jobs, {"file-rows.jsonl": lines(ROWS)})


def here(client: Client, path: Path) -> list[str]:
    """The server's jobs that came from a folder's, newest first."""
    ids = {j["id"] for j in json.loads((path / "jobs.json").read_text())["data"]}
    marked = [
        (job, ((job.details.get("metadata") or {}).get(MARK) or "").split(" ")[0]) for job in client.jobs()
    ]
    return [job.id for job, id in marked if id in ids]


def test_a_rerun_starts_nothing_again(client: Client, old: Path) -> None:
    first = client.migrate_openai(old)
    assert [first.state(plan) for plan in first.plans] == ["started", "started"]
    again = client.migrate_openai(old)
    assert {o.job for o in again.outcomes.values()} == {o.job for o in first.outcomes.values()}
    assert all(o.was_there for o in again.outcomes.values())
    assert len(here(client, old)) == 2


def as_it_runs(done: dict[str, Any]) -> dict[str, Any]:
    """How OpenAI described a job before it ended: nothing is chosen, named or finished yet."""
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    return {
        **done,
        "status": "running",
        "finished_at": None,
        "fine_tuned_model": None,
        "hyperparameters": auto,
        "method": {"type": "supervised", "supervised": {"hyperparameters": auto}},
    }


def test_a_job_that_ends_at_openai_between_two_runs_is_started_once(client: Client, tmp_path: Path) -> None:
    done = job("ftjob-ends-between")
    path = folder(tmp_path / "old", [as_it_runs(done)], {"file-rows.jsonl": lines(ROWS)})
    assert client.migrate_openai(path).outcomes == {}  # it has not ended, and nobody asked for it by name
    assert here(client, path) == []
    first = client.migrate_openai(path, jobs=[done["id"]])
    (path / "jobs.json").write_text(json.dumps({"object": "list", "data": [done]}))
    again = client.migrate_openai(path)
    assert [o.job for o in again.outcomes.values()] == [o.job for o in first.outcomes.values()]
    assert len(here(client, path)) == 1
    client.job(first.outcomes[done["id"]].job).cancel()


def test_the_same_request_is_the_same_job_when_a_run_was_cut_before_it_saw_the_reply(
    client: Client, old: Path
) -> None:
    """The server has made the job and the client knows nothing of it, not even by its list."""
    made = client.migrate_openai(old)
    again = start.carry_out(client._http, iter(()), client.migrate_openai(old))
    assert {o.job for o in again.outcomes.values()} == {o.job for o in made.outcomes.values()}
    assert len(here(client, old)) == 2


def test_files_are_sent_once_for_all_jobs_that_use_them(client: Client, old: Path) -> None:
    made = client.migrate_openai(old)
    jobs = [client.job(outcome.job).details for outcome in made.outcomes.values()]
    assert len({job["training_file"] for job in jobs}) == 1
    assert [job["seed"] for job in jobs] == [7, 7]
    assert [job["method"]["supervised"]["hyperparameters"]["n_epochs"] for job in jobs] == [3, 3]
    assert [job["user_provided_suffix"] for job in jobs] == ["s0", "s1"]


def test_what_failed_here_is_told_and_started_again_only_when_asked(client: Client, old: Path) -> None:
    made = client.migrate_openai(old)
    for outcome in made.outcomes.values():
        client.job(outcome.job).cancel()
    told = client.migrate_openai(old)
    assert [told.state(plan) for plan in told.plans] == ["cancelled", "cancelled"]
    assert not told.is_whole
    assert len(here(client, old)) == 2
    again = client.migrate_openai(old, retry=True)
    assert [again.state(plan) for plan in again.plans] == ["started", "started"]
    assert len(here(client, old)) == 4
    for outcome in again.outcomes.values():
        client.job(outcome.job).cancel()


def test_a_base_that_is_not_there_is_told_of_its_jobs_and_the_others_start(client: Client, old: Path) -> None:
    jobs = json.loads((old / "jobs.json").read_text())
    jobs["data"][0]["model"] = "gpt-4.1-2025-04-14"
    (old / "jobs.json").write_text(json.dumps(jobs))
    made = client.migrate_openai(old, bases={"gpt-4.1-2025-04-14": "no-such-base"})
    assert [made.state(plan) for plan in made.plans] == ["not started", "started"]
    assert "no-such-base" in made.why(made.plans[0])[0]
    assert not made.is_whole


def test_the_table_of_names_keeps_what_earlier_runs_wrote(client: Client, old: Path) -> None:
    """Code in production reads it: neither a dry run, nor a part, nor a typo takes a name away."""
    table = old / MODELS
    table.write_text('{"ft:gpt:a": "ft:seedling:a"}')
    made = client.migrate_openai(old, base="no-such-base")
    Migration(made.folder, made.plans).write()
    assert json.loads(table.read_text()) == {"ft:gpt:a": "ft:seedling:a"}
    table.write_text("[")
    with pytest.raises(InvalidRequest, match="not a JSON object of names"):
        client.migrate_openai(old, base="no-such-base")


def test_a_base_for_a_model_that_no_job_is_of_is_told(client: Client, old: Path) -> None:
    with pytest.raises(InvalidRequest, match="no-such-model, which --base names"):
        client.migrate_openai(old, bases={"no-such-model": "seedling"})


def test_nothing_is_sent_for_a_base_that_is_not_there(client: Client, old: Path) -> None:
    before = client._http.call("GET", "/v1/files", params={"limit": 1000})["data"]
    made = client.migrate_openai(old, base="no-such-base")
    assert {made.state(plan) for plan in made.plans} == {"not started"}
    assert client._http.call("GET", "/v1/files", params={"limit": 1000})["data"] == before


def inhouse(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["migrate", "openai", *arguments])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture
def there(served: House, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("INHOUSE_URL", served.url)
    monkeypatch.setenv("INHOUSE_API_KEY", served.member)
    return served


def said(result: Result) -> dict[str, Any]:
    (line,) = [json.loads(line) for line in result.stdout.splitlines()]
    return dict(line)


def test_a_dry_run_reports_and_needs_no_server(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHOUSE_URL", "http://127.0.0.1:9")  # nobody answers there
    record = said(inhouse(str(old), "--dry-run", "--base", "tiny"))
    assert record["is_dry_run"]
    assert [j["state"] for j in record["jobs"]] == ["ready", "ready"]
    assert "nothing was sent" in (old / "inhouse-migration.md").read_text()


def test_the_command_brings_checks_starts_and_reports(
    there: House, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    jobs = [job("ftjob-by-command", "file-1", model="gpt-4.1-2025-04-14"), job("ftjob-bad", "file-2")]
    files = {"file-1": lines(ROWS), "file-2": b'{"messages": []}\n'}
    with OpenAI(jobs, files).open() as openai:
        arguments = (str(tmp_path / "old"), "--from-api", "--api", openai.url, "--no-wait")
        record = said(inhouse(*arguments, "--base", "gpt-4.1-2025-04-14=seedling", code=1))
    assert {j["old"]["id"]: j["state"] for j in record["jobs"]} == {
        "ftjob-by-command": "started",
        "ftjob-bad": "not started",
    }
    assert (tmp_path / "old" / "inhouse-models.json").read_text() == "{}\n"
    assert all(
        KEY.encode() not in path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()
    )
    for outcome in record["jobs"]:
        if outcome["new"]:
            client.job(outcome["new"]["job"]).cancel()


def test_a_house_gives_its_jobs_and_files_out_as_openai_does(
    served: House, client: Client, old: Path, tmp_path: Path
) -> None:
    job = client.job(next(iter(client.migrate_openai(old).outcomes.values())).job)
    brought = download(tmp_path / "copy", served.member, api=f"{served.url}/v1")
    assert brought.problems == []
    copy = read_folder(tmp_path / "copy")
    assert job.id in [item["id"] for item in copy.jobs]
    assert copy.find(str(job.details["training_file"])).read_bytes() == lines(ROWS)


def test_without_a_key_the_command_says_which_variable(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "OPENAI_API_KEY" in inhouse(str(old), "--from-api", code=1).stderr
    assert "--rows keep is none of stop, drop" in inhouse(str(old), "--rows", "keep", code=1).stderr
    twice = inhouse(str(old), "--base", "a", "--base", "b", code=1).stderr
    assert "Write OLD=b" in twice


def test_the_guide_to_moving_says_what_runs(there: House, client: Client, old: Path, work: Any) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "migrate-openai.md").read_text()
    *_, program = re.findall(r"```python\n(.*?)```", guide, re.S)
    old.rename(old.with_name("from-openai"))
    before = sum(job.state in ("validating_files", "queued") for job in client.jobs())  # other tests' jobs
    working = threading.Thread(target=lambda: [work() for _ in range(before + 2)])
    working.start()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=old.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    working.join()
    assert f"ft:{MINI}:aurora:ferry:" in done.stdout
    assert "ft:seedling:default:s1:" in done.stdout


def test_names_of_models_are_mapped_once_they_are_there(client: Client, work: Any, tmp_path: Path) -> None:
    path = folder(tmp_path / "old", [job("ftjob-mapped")], {"file-rows.jsonl": lines(ROWS)})
    made = client.migrate_openai(path)
    outcome = made.outcomes["ftjob-mapped"]
    while client.job(outcome.job).state != "succeeded":  # other tests' jobs may stand before it
        work()
    made = client.migrate_openai(path)
    name = made.outcomes["ftjob-mapped"].model
    assert json.loads((path / "inhouse-models.json").read_text()) == {f"ft:{MINI}:aurora:ferry:mapped": name}
    assert client.model(name).chat("Who?") == "Who?"  # the stub says the words back
    assert f'+    model="{name}"' in (path / "inhouse-migration.md").read_text()
