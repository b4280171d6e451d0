"""`inhouse facts`: which requests a command makes, lines for programs, tables and questions for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.client import conftest as shared
from tests.client.scripted import Reply, Script, scripted
from tests.client.test_facts import (
    CHANGE,
    FACT,
    JOB,
    MEMORY,
    MODELS,
    STREAMED,
    UPLOADED,
    conflict,
    ok,
    page,
    sent,
)
from tests.client.test_report import REPORT
from tests.test_cli import Terminal, inhouse, lines

bare_environment = shared.bare_environment

MEMORY_CARD = {"id": MEMORY, "x_kind": "memory", "x_base": "seedling", "created": 20}
CARDS = page(
    {"id": "seedling", "x_kind": "base", "created": 1},
    {**MEMORY_CARD, "id": "ft:older", "created": 10},
    MEMORY_CARD,
    {"id": "ft:newest", "x_kind": "adapter", "created": 30},
)
Serve = Callable[..., Script]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server that gives these replies, and names it in the environment."""
    with ExitStack() as running:

        def start(*replies: Reply) -> Script:
            script = running.enter_context(scripted(*replies))
            monkeypatch.setenv("INHOUSE_URL", script.url)
            monkeypatch.setenv("INHOUSE_API_KEY", "sk-test")
            return script

        yield start


def test_without_a_name_the_newest_memory_is_meant(serve: Serve) -> None:
    script = serve(CARDS, page(FACT))
    (told,) = lines(inhouse("facts", "list"))
    assert (told["id"], told["answer"], told["access"]) == ("fact_1", "Nadia Brandt", ["finance"])
    assert "subject" not in told
    assert f"model={MEMORY.replace(':', '%3A')}" in script.asked[1].path


def test_a_name_before_the_text_says_which_memory_is_searched(serve: Serve) -> None:
    script = serve(ok({**MEMORY_CARD, "id": "ft:older"}), page(FACT))
    inhouse("facts", "search", "ft:older", "travel", "--limit", "1")
    assert script.asked[0].path == "/v1/models/ft%3Aolder"
    assert "model=ft%3Aolder" in script.asked[1].path and "query=travel" in script.asked[1].path


def test_add_sends_every_option_and_tells_the_outcome(serve: Serve) -> None:
    script = serve(CARDS, page({**FACT, "x_outcome": "added"}))
    options = (
        "--wording Whom? --wording Wer? --subject S --alias A --kind code --source d --span s --access hr"
    )
    told = lines(inhouse("facts", "add", "Who?", "Mara", *options.split(), "--valid-until", "2026-01-31"))
    assert told[0]["outcome"] == "added"
    assert sent(script)[2]["facts"] == [
        {
            "question": "Who?",
            "answer": "Mara",
            "wordings": ["Whom?", "Wer?"],
            "subject": "S",
            "aliases": ["A"],
            "kind": "code",
            "source": "d",
            "span": "s",
            "access": ["hr"],
            "valid_until": 1769817600.0,
        }
    ]


def test_a_file_of_facts_is_added_in_one_go(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text(
        '{"question": "a", "answer": "b"}\n{"question": "c", "answer": "d"}\n'
    )
    script = serve(CARDS, page(FACT, FACT))
    inhouse("facts", "add", "--file", str(tmp_path / "more.jsonl"), "--on-conflict", "coexist")
    body = sent(script)[2]
    assert (len(body["facts"]), body["on_conflict"]) == (2, "coexist")


def test_edit_sends_the_changes_and_clear_empties_a_field(serve: Serve) -> None:
    script = serve(CARDS, ok(FACT))
    inhouse(
        "facts", "edit", "fact_1", "--answer", "Ida", "--clear", "access", "--clear", "source", "--coexist"
    )
    assert sent(script) == (
        "POST",
        "/v1/facts/fact_1",
        {"answer": "Ida", "access": [], "source": None, "on_conflict": "coexist"},
    )


def test_forgetting_without_a_terminal_wants_a_yes(serve: Serve) -> None:
    script = serve(CARDS)
    assert "--yes" in inhouse("facts", "forget", "fact_1", code=1).stderr
    assert all(asked.method == "GET" for asked in script.asked), "nothing was forgotten"
    serve(CARDS, ok({"id": "fact_1", "deleted": True, "x_files_deleted": ["file-1"]}))
    (told,) = lines(inhouse("facts", "forget", "fact_1", "--yes"))
    assert told == {"fact": "fact_1", "forgotten": True, "files_deleted": ["file-1"]}


def test_history_takes_a_memory_or_a_fact_or_both(serve: Serve) -> None:
    script = serve(CARDS, CARDS, page(CHANGE))
    (told,) = lines(inhouse("facts", "history", "fact_1"))
    assert (told["action"], told["fact_then"]["answer"]) == ("edit", "Nadia Brandt")
    assert script.asked[2].path.startswith("/v1/facts/fact_1/history")
    script = serve(CARDS, ok(MEMORY_CARD), page(CHANGE))
    inhouse("facts", "history", MEMORY)
    assert script.asked[2].path.startswith("/v1/facts/history?model=")
    script = serve(ok(MEMORY_CARD), page(CHANGE))
    inhouse("facts", "history", MEMORY, "fact_1", "--limit", "3")
    assert script.asked[1].path.startswith("/v1/facts/fact_1/history")


def test_rollback_and_explain_ask_the_server(serve: Serve) -> None:
    script = serve(CARDS, ok(FACT))
    inhouse("facts", "rollback", "fact_1", "1")
    assert sent(script) == ("POST", "/v1/facts/fact_1/rollback", {"version": 1})
    serve(CARDS, ok({"decision": "exact", "candidates": [{"id": "fact_1", "gate": 0.98765}]}))
    (told,) = lines(inhouse("facts", "explain", "Who?"))
    assert told["candidates"][0]["gate"] == 0.98765


def test_export_never_writes_over_a_file_unasked(serve: Serve, tmp_path: Path) -> None:
    there = tmp_path / "facts.jsonl"
    there.write_text("mine")
    serve(CARDS, (200, {}, b'{"question": "a", "answer": "b"}\n'))
    assert "--force" in inhouse("facts", "export", "--out", str(there), code=1).stderr
    assert there.read_text() == "mine"
    assert lines(inhouse("facts", "export", "--out", str(there), "--force")) == [
        {"file": str(there), "facts": 1}
    ]


def test_report_is_one_json_line_or_three_files(serve: Serve, tmp_path: Path) -> None:
    serve(CARDS, ok(REPORT))
    assert lines(inhouse("facts", "report")) == [REPORT]
    serve(CARDS, ok(REPORT), ok(FACT))
    told = lines(inhouse("facts", "report", "--out", str(tmp_path / "out")))
    assert [Path(line["file"]).name for line in told] == ["report.md", "report.json", "report.svg"]
    assert all(Path(line["file"]).is_file() for line in told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "a", "b", "--kind", "poem"], "--kind poem is none of text, number, date, code"),
        (["add", "a", "b", "--on-conflict", "merge"], "none of replace, coexist"),
        (["add", "a", "b", "--valid-from", "soon"], "--valid-from soon is no date"),
        (["add", "--file", "x.jsonl", "--source", "s"], "Give it and MODEL alone"),
        (["edit", "fact_1"], "nothing to change"),
        (["list", "seedling"], "holds no facts"),
    ],
)
def test_user_errors_are_one_line_with_a_cure(serve: Serve, arguments: list[str], words: str) -> None:
    serve(ok({"id": "seedling", "x_kind": "base"}) if "seedling" in arguments else CARDS)
    told = inhouse("facts", *arguments, code=1).stderr
    assert told.startswith("error: ") and words in told and told.count("\n") == 1


def test_a_house_without_a_memory_says_how_to_make_one(serve: Serve) -> None:
    serve(MODELS)
    assert "inhouse tune FILE --memory" in inhouse("facts", "list", code=1).stderr


@pytest.mark.parametrize(
    "arguments", [["search"], ["add", "a"], ["rollback", "fact_1", "two"], ["history", "a", "b", "c"]]
)
def test_wrong_use_is_exit_code_2(serve: Serve, arguments: list[str]) -> None:
    serve(CARDS)
    inhouse("facts", *arguments, code=2)


def test_a_conflict_without_a_terminal_is_an_error_and_changes_nothing(serve: Serve) -> None:
    script = serve(CARDS, conflict("fact_9 answers this otherwise: replace or coexist?"))
    assert "fact_9" in inhouse("facts", "add", "Who?", "Mara", code=1).stderr
    assert len(script.asked) == 2


# ── on a terminal ─────────────────────────────────────────────────────────────────────────────────────────


def test_on_a_terminal_facts_are_a_table(serve: Serve) -> None:
    serve(CARDS, page({**FACT, "answer": "Nadia [bold]\x1b[31m Brandt", "status": "retrieval_only"}))
    terminal = Terminal("facts", "list")
    terminal.sees("Nadia [bold][31m Brandt (retrieval only)")
    assert terminal.end() == 0
    assert "mara" in terminal.seen and f"{MEMORY}:" in terminal.seen


def test_a_conflict_on_a_terminal_is_asked_and_the_answer_sent(serve: Serve) -> None:
    added = page({**FACT, "x_outcome": "coexists"})
    script = serve(CARDS, conflict("fact_9 answers this otherwise."), added)
    terminal = Terminal("facts", "add", "Who?", "Mara")
    terminal.sees("fact_9 answers this otherwise.")
    terminal.sees("replace or coexist?")
    terminal.type("both\n")
    terminal.type("coexist\n")
    terminal.sees("coexists")
    assert terminal.end() == 0
    assert sent(script)[2]["on_conflict"] == "coexist"


def test_an_empty_line_leaves_a_conflict_as_it_is(serve: Serve) -> None:
    script = serve(CARDS, conflict("fact_9 answers this otherwise."))
    terminal = Terminal("facts", "add", "Who?", "Mara")
    terminal.sees("replace or coexist?")
    terminal.type("\n")
    assert terminal.end() == 1
    assert len(script.asked) == 2


def test_on_a_terminal_a_chat_tells_what_an_answer_rests_on(serve: Serve) -> None:
    serve(CARDS, ok(MEMORY_CARD), STREAMED)
    terminal = Terminal("chat", MEMORY, "Who signs off travel?")
    terminal.sees("fact_1: handbook.pdf (exact)")
    assert terminal.end() == 0
    assert "Nadia Brandt" in terminal.seen


def test_elsewhere_a_chat_is_its_text_alone(serve: Serve) -> None:
    serve(CARDS, ok(MEMORY_CARD), STREAMED)
    result = inhouse("chat", MEMORY, "Who signs off travel?")
    assert (result.stdout, result.stderr) == ("Nadia Brandt\n", "")


@pytest.mark.parametrize(("said", "requests"), [("n\n", 2), ("\n", 2), ("y\n", 3)])
def test_forgetting_on_a_terminal_asks_first(serve: Serve, said: str, requests: int) -> None:
    script = serve(CARDS, ok(FACT), ok({"id": "fact_1", "deleted": True, "x_files_deleted": []}))
    terminal = Terminal("facts", "forget", "fact_1")
    terminal.sees("Nadia Brandt")
    terminal.sees("The uploaded file file-1 holds it and goes too.")
    terminal.sees("Forget it for good? [y/N]")
    terminal.type(said)
    terminal.sees("fact_1 is forgotten." if requests == 3 else "Nothing has changed.")
    assert terminal.end() == 0
    assert len(script.asked) == requests


def test_yes_forgets_at_once(serve: Serve) -> None:
    serve(CARDS, ok({"id": "fact_1", "deleted": True, "x_files_deleted": ["file-1"]}))
    terminal = Terminal("facts", "forget", "fact_1", "--yes")
    terminal.sees("The uploaded file file-1 is deleted.")
    assert terminal.end() == 0


def test_on_a_terminal_a_report_shows_its_tables_and_an_explanation_its_numbers(serve: Serve) -> None:
    serve(CARDS, ok(REPORT), ok(FACT))
    terminal = Terminal("facts", "report")
    terminal.sees("a name that is nearly known")
    assert terminal.end() == 0
    assert "over 99.9 %" in terminal.seen and "Who signs off travel?" in terminal.seen
    serve(CARDS, ok({"decision": "exact", "candidates": [{"id": "fact_1", "gate": 0.98765}]}))
    terminal = Terminal("facts", "explain", "Who?")
    terminal.sees("candidates 1.gate")
    assert terminal.end() == 0
    assert "0.988" in terminal.seen


TWO_ANSWERS = '{"question": "Who?", "answer": "Mara"}\n{"question": "Who?", "answer": "Ida"}\n'


@pytest.mark.parametrize("option", ["--memory", "--method=auto"])
def test_two_answers_in_a_file_are_asked_about_and_the_job_begun_anew(
    serve: Serve, tmp_path: Path, option: str
) -> None:
    """A memory's rows are checked before the upload; where the server chooses the method, the job fails."""
    file = tmp_path / "facts.jsonl"
    file.write_text(TWO_ANSWERS)
    default = page({"id": "seedling", "x_kind": "base", "x_default": True})
    error = {"code": "invalid_training_file", "message": "line 2, answer: is another answer than line 1 has"}
    failed = ok({**json.loads(JOB[2]), "status": "failed", "error": error})
    done = ok({**json.loads(JOB[2]), "status": "succeeded", "fine_tuned_model": MEMORY})
    begun: list[Reply] = [UPLOADED, default, JOB]
    in_vain = [*begun, failed, page()] if option == "--method=auto" else []
    script = serve(*in_vain, *begun, done, page(), ok(MEMORY_CARD))
    terminal = Terminal("tune", str(file), option)
    terminal.sees("is another answer than line 1 has")
    terminal.sees("replace or coexist?")
    terminal.type("r\n")
    terminal.sees(f"inhouse facts list '{MEMORY}'")
    assert terminal.end() == 0
    *_, created = [json.loads(a.body) for a in script.asked if a.path == "/v1/fine_tuning/jobs"]
    (told,) = [block for name, block in created["method"].items() if name != "type"]
    assert told["hyperparameters"]["x_on_conflict"] == "replace"


def test_nobody_is_asked_about_a_file_with_other_faults(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text(TWO_ANSWERS + "{\n")
    serve(MODELS)
    terminal = Terminal("tune", str(tmp_path / "facts.jsonl"), "--memory")
    terminal.sees("line 3: is not valid JSON")
    assert terminal.end() == 1
    assert "coexist?" not in terminal.seen
