"""What a folder of OpenAI's becomes: every job, every setting, every row, and nothing is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inhouse.client.migrate import Choices, JobPlan, Migration, plan, read_folder
from inhouse.errors import InvalidRequest
from tests.client.openai_things import BROKEN, CALLING, MINI, ROWS, folder, job, lines, row


def planned(path: Path, **choices: Any) -> list[JobPlan]:
    return plan(read_folder(path), Choices(**{"base": "tiny", **choices}))


def only(path: Path, **choices: Any) -> JobPlan:
    (made,) = planned(path, **choices)
    return made


def verdicts(made: JobPlan) -> dict[str, tuple[Any, Any, str]]:
    return {s.name: (s.was, s.becomes, s.verdict) for s in made.settings}


def test_a_job_keeps_its_rows_numbers_seed_and_suffix_and_changes_its_base(tmp_path: Path) -> None:
    path = folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines(ROWS)})
    made = only(path)
    assert made.is_ready
    assert verdicts(made) == {
        "model": (MINI, "tiny", "changed"),
        "method": ("supervised", "supervised", "kept"),
        "n_epochs": (3, 3, "kept"),
        "batch_size": (2, 2, "kept"),
        "learning_rate_multiplier": (1.8, 1.8, "kept"),
        "seed": (7, 7, "kept"),
        "suffix": ("ferry", "ferry", "kept"),
    }
    knobs = {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.8}
    assert made.body["method"] == {"type": "supervised", "supervised": {"hyperparameters": knobs}}
    assert made.files[0].send == path / "file-rows.jsonl"  # as it is, byte for byte


def test_auto_stays_auto_and_can_be_asked_for(tmp_path: Path) -> None:
    old = job("ftjob-1", method=None, hyperparameters={"n_epochs": "auto", "batch_size": 4})
    path = folder(tmp_path / "old", [old], {"file-rows.jsonl": lines(ROWS)})
    kept, auto = only(path), only(path, hyperparameters="auto")
    assert kept.body["method"]["supervised"]["hyperparameters"] == {"batch_size": 4}
    assert auto.body["method"]["supervised"]["hyperparameters"] == {}
    assert verdicts(auto)["batch_size"] == (4, "auto", "changed")


def test_what_has_no_equal_here_is_named_with_its_reason(tmp_path: Path) -> None:
    pairs = {f"k{i}": "v" for i in range(16)}
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "dreams": 3}}}
    old = job(
        "ftjob-1",
        method=method,
        hyperparameters={},
        seed=2**40,
        user_provided_suffix="Ferry line ü",
        metadata=pairs,
        integrations=[{"type": "wandb", "wandb": {"project": "p"}}],
    )
    made = only(folder(tmp_path / "old", [old], {"file-rows.jsonl": lines(ROWS)}))
    told = verdicts(made)
    assert told["dreams"] == (3, None, "dropped")
    assert told["integration"] == ("wandb", None, "dropped")
    assert told["seed"] == (2**40, 0, "changed")
    assert told["suffix"] == ("Ferry line ü", "Ferry-line-", "changed")
    assert len(made.body["metadata"]) == 15
    assert all(s.why for s in made.settings if s.verdict != "kept")


def test_each_of_openais_models_may_get_a_base_of_its_own(tmp_path: Path) -> None:
    jobs = [job("ftjob-1"), job("ftjob-2", model="gpt-4.1-2025-04-14")]
    path = folder(tmp_path / "old", jobs, {"file-rows.jsonl": lines(ROWS)})
    assert [made.base for made in planned(path, bases={"gpt-4.1-2025-04-14": "big"})] == ["tiny", "big"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "preferences"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "grader"),
        ({"status": "failed", "fine_tuned_model": None}, "failed at OpenAI"),
        ({"status": "cancelled", "fine_tuned_model": None}, "cancelled at OpenAI"),
        ({"model": f"ft:{MINI}:aurora::abc"}, "goes on from"),
    ],
)
def test_a_job_that_cannot_be_moved_is_left_out_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    made = only(folder(tmp_path / "old", [job("ftjob-1", **changes)], {"file-rows.jsonl": lines(ROWS)}))
    assert not made.is_ready
    assert word in made.left_out


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, "dpo"),
        ({"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}, "reinforcement"),
        ({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}, "batch"),
    ],
)
def test_files_of_other_kinds_are_recognised_and_not_trained_on(
    tmp_path: Path, content: dict[str, Any], word: str
) -> None:
    made = only(folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines([content])}))
    assert not made.is_ready
    assert word in made.obstacles[0]


def test_rows_that_cannot_be_trained_stop_their_job_or_are_left_out_by_line(tmp_path: Path) -> None:
    content = [ROWS[0], BROKEN, {**ROWS[1], "parallel_tool_calls": True, "tools": []}, ROWS[2]]
    path = folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines(content)})
    stopped = only(path)
    assert not stopped.is_ready
    assert "1 of 4 rows cannot be trained" in stopped.obstacles[0]
    assert "line 2" in stopped.obstacles[0]
    made = only(path, rows="drop")
    assert made.is_ready
    (file,) = made.files
    assert [problem.line for problem in file.judged.problems] == [2]
    assert [change.line for change in file.judged.changed] == [3]
    assert [json.loads(line) for line in file.send.read_bytes().splitlines()] == ROWS[:3]
    assert (path / "file-rows.jsonl").read_bytes() == lines(content)  # what was brought stays as it was


def test_files_of_one_name_in_two_folders_are_sent_as_two(tmp_path: Path) -> None:
    jobs = [job("ftjob-1", "file-a"), job("ftjob-2", "file-b")]
    files = {"a/rows.jsonl": lines([ROWS[0], BROKEN]), "b/rows.jsonl": lines([ROWS[1], BROKEN])}
    path = folder(tmp_path / "old", jobs, files)
    (path / "manifest.json").write_text('{"file-a": "a/rows.jsonl", "file-b": "b/rows.jsonl"}')
    sent = [made.files[0].send.read_bytes() for made in planned(path, rows="drop")]
    assert sent == [lines(ROWS[:1]), lines(ROWS[1:2])]


def test_weights_are_kept_word_for_word(tmp_path: Path) -> None:
    weighted = {
        "messages": [
            {"role": "user", "content": "a?"},
            {"role": "assistant", "content": "no", "weight": 0},
            {"role": "user", "content": "a?"},
            {"role": "assistant", "content": "yes", "weight": 1},
        ]
    }
    made = only(folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines([weighted])}))
    assert made.is_ready
    assert made.files[0].judged.is_sent_as_it_is


def test_rows_with_tools_are_kept_word_for_word(tmp_path: Path) -> None:
    function = CALLING["tools"][0]["function"]
    older = {
        "messages": [
            CALLING["messages"][0],
            {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
        ],
        "functions": [function],
        "parallel_tool_calls": True,
    }
    content = lines([*ROWS, CALLING, older])
    made = only(folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": content}))
    assert made.is_ready
    assert made.files[0].judged.is_sent_as_it_is
    assert made.files[0].judged.rows == len(ROWS) + 2


def test_every_fault_of_every_file_has_its_line_and_cure(tmp_path: Path) -> None:
    bad = b'{"messages": []}\nnot json\n' + lines(
        [row("q?", "a"), {"messages": [{"role": "user", "content": "q"}]}]
    )
    made = only(folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": bad}), rows="drop")
    problems = made.files[0].judged.problems
    assert [p.line for p in problems] == [1, 2, 4]
    assert all(p.reason and p.cure for p in problems)


@pytest.mark.parametrize(
    "name", ["file-rows", "file-rows.jsonl", "deep/file-rows_handbook.jsonl", "handbook.jsonl"]
)
def test_a_file_is_found_by_its_id_or_by_the_name_it_had(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path / "old", [job("ftjob-1")], {name: lines(ROWS)})
    about = {"object": "file", "id": "file-rows", "filename": "handbook.jsonl", "purpose": "fine-tune"}
    (path / "files.jsonl").write_text(json.dumps(about) + "\n")
    assert only(path).files[0].send == path / name


def test_a_manifest_says_which_file_is_meant_and_doubt_is_told(tmp_path: Path) -> None:
    files = {"a/file-rows.jsonl": lines(ROWS[:1]), "b/file-rows.jsonl": lines(ROWS)}
    path = folder(tmp_path / "old", [job("ftjob-1")], files)
    assert "may be any of a/file-rows.jsonl, b/file-rows.jsonl" in only(path).obstacles[0]
    (path / "manifest.json").write_text('{"file-rows": "b/file-rows.jsonl"}')
    assert only(path).files[0].send == path / "b/file-rows.jsonl"


def test_a_file_that_is_missing_is_an_obstacle_with_a_cure(tmp_path: Path) -> None:
    made = only(
        folder(tmp_path / "old", [job("ftjob-1", validation_file="file-gone")], {"file-rows": lines(ROWS)})
    )
    assert "Put it there as file-gone.jsonl" in made.obstacles[0]


def test_jobs_are_read_from_objects_lists_arrays_and_lines(tmp_path: Path) -> None:
    path = folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines(ROWS)})
    (path / "two.json").write_text(json.dumps(job("ftjob-2"), indent=2))
    (path / "three.json").write_text(json.dumps([job("ftjob-3"), {"object": "other"}]))
    (path / "more.jsonl").write_bytes(
        lines([job("ftjob-4"), job("ftjob-1", status="running", finished_at=None)])
    )
    found = read_folder(path)
    assert {j["id"]: j["status"] for j in found.jobs} == {f"ftjob-{i}": "succeeded" for i in (1, 2, 3, 4)}


def test_a_document_that_is_no_json_is_a_problem_of_the_folder(tmp_path: Path) -> None:
    path = folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines(ROWS), "bad.json": b"{"})
    found = read_folder(path)
    assert found.problems == ("bad.json: is not valid JSON. Write it again with job.model_dump_json().",)
    assert not Migration(found, []).is_whole


def test_a_job_that_is_asked_for_and_not_there_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines(ROWS)})
    with pytest.raises(InvalidRequest, match="describes no job ftjob-9"):
        planned(path, jobs=frozenset({"ftjob-9"}))
    with pytest.raises(InvalidRequest, match="describes no tuning job"):
        planned(folder(tmp_path / "empty", [], {"file-rows.jsonl": lines(ROWS)}))
    with pytest.raises(InvalidRequest, match="no folder"):
        read_folder(tmp_path / "elsewhere")


def test_another_base_other_rows_or_numbers_are_another_job_and_nothing_else_is(tmp_path: Path) -> None:
    path = folder(tmp_path / "old", [job("ftjob-1")], {"file-rows.jsonl": lines(ROWS)})
    first = only(path).mark
    assert only(path).mark == first
    others = {only(path, base="other").mark, only(path, hyperparameters="auto").mark}
    (path / "file-rows.jsonl").write_bytes(lines(ROWS[:3]))
    others.add(only(path).mark)
    assert len(others | {first}) == 4


@pytest.mark.parametrize("status", ["validating_files", "queued", "running", "paused"])
def test_a_job_that_has_not_ended_is_left_out_with_the_reason_until_it_is_named(
    tmp_path: Path, status: str
) -> None:
    running = job("ftjob-1", status=status, finished_at=None, fine_tuned_model=None)
    path = folder(tmp_path / "old", [running], {"file-rows.jsonl": lines(ROWS)})
    waits = only(path)
    assert not waits.is_ready
    assert status in waits.left_out and "--job ftjob-1" in waits.left_out
    assert only(path, jobs=frozenset({"ftjob-1"})).is_ready


def test_the_report_tells_every_change_and_reads_as_markdown(tmp_path: Path) -> None:
    content = [ROWS[0], BROKEN]
    jobs = [job("ftjob-1"), job("ftjob-2", method={"type": "dpo", "dpo": {}})]
    path = folder(tmp_path / "old", jobs, {"file-rows.jsonl": lines(content), "notes.txt": b"hello"})
    found = read_folder(path)
    written = Migration(found, plan(found, Choices(base="tiny", rows="drop"))).write().read_text()
    for words in (
        "nothing was sent",
        f"| model | {MINI} | tiny | changed |",
        "- line 2, messages[1].tool_calls: 'weather' is called and is none of the row's tools.",
        "It trains on preferences (dpo), which this house cannot do yet.",
        "- `notes.txt`",
        "This house has no aliases",
    ):
        assert words in written
    record = json.loads((path / "inhouse-migration.json").read_text())
    assert [j["state"] for j in record["jobs"]] == ["ready", "left out"]
    assert record["jobs"][0]["files"][0]["problems"][0]["line"] == 2
    assert read_folder(path) == found  # what a migration writes is not read as OpenAI's
