"""`inhouse generate`: a file in, a file out, JSON lines or a bar on the way, and exit codes that tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inhouse.cli import generate as verb
from tests.client import conftest as shared
from tests.server.house import TUNED, House
from tests.test_cli import Terminal, inhouse, lines

bare_environment, served = shared.bare_environment, shared.served


@pytest.fixture
def there(served: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The environment names the running server."""
    monkeypatch.setenv("INHOUSE_URL", served.url)
    monkeypatch.setenv("INHOUSE_API_KEY", served.member)
    return served


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"row {i} of 5"}) + "\n" for i in range(5)))
    return str(source), str(tmp_path / "out.jsonl")


def replies(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(out).read_text().splitlines()]


def test_every_row_is_answered_and_a_summary_is_the_last_line(there: House, files: tuple[str, str]) -> None:
    *told, summary = lines(inhouse("generate", *files, "--model", TUNED))
    assert [reply["text"] for reply in replies(files[1])] == [f"row {i} of 5" for i in range(5)]
    assert {line["type"] for line in told} == {"progress"}
    assert summary["type"] == "summary"
    assert (summary["rows"], summary["errors"], summary["completion_tokens"]) == (5, 0, 20)
    (*_, again) = lines(inhouse("generate", *files, "--model", TUNED))
    assert (again["rows"], again["resumed"]) == (5, 5)


def test_options_reach_the_server(there: House, files: tuple[str, str]) -> None:
    inhouse("generate", *files, "--max-tokens", "2", "--seed", "1", "--temperature", "0.5", "--keep-input")
    assert [(r["text"], r["finish_reason"]) for r in replies(files[1])] == [
        (f"row {i} ", "length") for i in range(5)
    ]
    assert replies(files[1])[0]["input"] == {"prompt": "row 0 of 5"}


def test_rows_without_a_reply_are_told_and_the_code_is_1(there: House, files: tuple[str, str]) -> None:
    with Path(files[0]).open("a") as source:
        source.write('{"prompt": \n{"prompt": "last"}\n')
    told = inhouse("generate", *files, code=1)
    assert "1 of 7 rows has no reply: its line says why." in told.stderr
    assert replies(files[1])[-1]["text"] == "last"
    strict = inhouse("generate", *files, "--strict", "--restart", code=1)
    assert "error: Row 6: line 6: is not valid JSON" in strict.stderr
    assert "holds 5 rows. The same command again goes on from there." in strict.stderr
    assert "Mend that row first, or leave strict out" in strict.stderr
    Path(files[0]).write_text('{"prompt": "one"}\n{"prompt": ""}\n')
    assert "holds 1 row. " in inhouse("generate", *files, "--strict", "--restart", code=1).stderr


def test_changed_rows_are_refused_with_the_way_out(there: House, files: tuple[str, str]) -> None:
    inhouse("generate", *files)
    Path(files[0]).write_text('{"prompt": "another"}\n')
    assert "--restart" in inhouse("generate", *files, code=1).stderr
    inhouse("generate", *files, "--restart")
    assert [reply["text"] for reply in replies(files[1])] == ["another"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.jsonl", "out"], "no such file"),
        (["IN", "OUT", "--model", "nobody"], "nobody"),
        (["IN", "IN"], "is the input itself"),
        (["IN", "OUT", "--concurrency", "0"], "Give 1 or more"),
    ],
)
def test_what_cannot_be_is_one_line(
    there: House,
    files: tuple[str, str],
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    placed = [{"IN": files[0], "OUT": files[1]}.get(word, word) for word in arguments]
    assert words in inhouse("generate", *placed, code=1).stderr


def test_a_terminal_sees_a_bar_and_then_the_counts(there: House, files: tuple[str, str]) -> None:
    terminal = Terminal("generate", *files, "--model", TUNED)
    terminal.sees("5 rows")
    terminal.sees("20 written in")
    assert terminal.end() == 0
    assert "answering" in terminal.seen and "5/5" in terminal.seen


def test_json_lines_of_progress_come_now_and_then(
    there: House, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr("inhouse.client.replies.SYNC_EVERY_S", 0.0)
    told = lines(inhouse("generate", *files))
    assert [line["rows"] for line in told] == [0, 1, 2, 3, 4, 5, 5, 5]
