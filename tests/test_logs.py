"""What a line of the log holds and never holds, in both forms, whoever writes it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from inhouse import logs
from inhouse.logs import JsonLines, TextLines

KEY = "sk-inhouse-canary_0123456789abcdefABCDEF-canary"


def record(message: str, *args: object, name: str = "inhouse.x", **extra: object) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(
        name, logging.WARNING, "f.py", 1, message, args, None, None, extra or None
    )


def line(message: str, *args: object, **more: object) -> dict[str, object]:
    text = JsonLines("server", {}).format(record(message, *args, **more))  # type: ignore[arg-type]
    assert "\n" not in text and text.isascii()
    return dict(json.loads(text))


def test_a_line_says_when_how_bad_where_and_what() -> None:
    told = line("hello %s", "you")
    assert list(told)[:5] == ["time", "level", "logger", "process", "message"]
    assert (told["level"], told["logger"], told["message"]) == ("warning", "inhouse.x", "hello you")
    assert str(told["time"]).endswith("Z")
    at = datetime.fromisoformat(str(told["time"]))
    assert at.utcoffset() == timedelta(0) and abs(at.timestamp() - datetime.now().timestamp()) < 5
    assert told["process"] == f"server:{os.getpid()}"


def test_a_line_says_whom_it_is_about_and_nothing_unnamed() -> None:
    with logs.about(request_id="req_1", project="proj_1"):
        told = line("x", job="ftjob-1", status=200, prompt="a secret question")
        with logs.about(project="proj_2"):
            assert line("x")["project"] == "proj_2"
    assert (told["request_id"], told["project"], told["job"], told["status"]) == (
        "req_1",
        "proj_1",
        "ftjob-1",
        200,
    )
    assert "prompt" not in told and "request_id" not in line("x")
    assert "request_id=req_2" in TextLines("server", {}).format(record("x", request_id="req_2"))


def test_what_tasks_are_about_does_not_mix() -> None:
    async def one(name: str) -> str:
        with logs.about(request_id=name):
            await asyncio.sleep(0.01)
            return str(line("x")["request_id"])

    async def all() -> list[str]:
        return await asyncio.gather(*(one(f"req_{i}") for i in range(20)))

    assert asyncio.run(all()) == [f"req_{i}" for i in range(20)]


@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY} is unknown",
        f"authorization: Bearer {KEY}",
        "authorization: Basic dXNlcjpjYW5hcnk=",
        "postgresql://inhouse:canary@db.example/inhouse does not answer",
    ],
)
def test_keys_and_passwords_never_leave(text: str) -> None:
    for form in (JsonLines("server", {}), TextLines("server", {})):
        for made in (record(text), record("%s", text), record("x", path=text, name="uvicorn.error")):
            assert "canary" not in form.format(made) and "dXNl" not in form.format(made)


def test_ordinary_words_stay() -> None:
    for text in ("task-force and disk-full-again", "http://127.0.0.1:8420/v1?x=1@y", "Bearer of news"):
        assert line("%s", text)["message"] == text


def test_an_exception_is_one_line_with_its_place_and_without_its_words() -> None:
    try:
        raise ValueError(f"cannot parse 'the prompt' {KEY}\nsecond line")
    except ValueError:
        made = logging.getLogger("uvicorn.error").makeRecord(
            "uvicorn.error", logging.ERROR, "f.py", 1, "Exception in ASGI application\n", (), sys.exc_info()
        )
    for form in (JsonLines("server", {}), TextLines("server", {})):
        text = form.format(made)
        assert "\n" not in text and "the prompt" not in text and "canary" not in text
        assert "ValueError at" in text and "test_logs.py" in text


def test_strangers_further_lines_stay_out() -> None:
    told = line(
        "Task exception was never retrieved\nfuture: <Task exception=ValueError('a prompt')>", name="asyncio"
    )
    assert told["message"] == "Task exception was never retrieved"
    assert line("failed at\n  File x")["message"] == "failed at\n  File x"


def test_text_forges_no_line_and_moves_no_cursor() -> None:
    text = TextLines("server", {}).format(record("a\x1b[2J\rb\n2026-01-01T00:00:00Z ERROR forged"))
    _, second = text.split("\n")
    assert "\x1b" not in text and "\r" not in text and second.startswith("    2026")


def test_a_long_message_is_cut() -> None:
    assert len(str(line("x" * 10**6)["message"])) < 20_000


def test_auto_is_text_where_somebody_reads_along() -> None:
    class Stream:
        def __init__(self, is_terminal: bool) -> None:
            self.isatty = lambda: is_terminal

    assert [logs.form_of("auto", Stream(yes)) for yes in (True, False)] == ["text", "json"]
    assert [logs.form_of(form, Stream(True)) for form in ("json", "text")] == ["json", "text"]


SCRIPT = """
import logging, sys, threading, warnings
from pathlib import Path
from inhouse import logs
logs.FILE_BYTES = 5000
logs.configure("info", "auto", "server", file=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
warnings.warn("careful")
logging.getLogger("sqlalchemy.pool").error("theirs")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
for i in range(100):
    logging.getLogger("inhouse.x").info("line %d " + "x" * 80, i)
print("said to standard output", flush=True)
raise RuntimeError("canary")
"""


def test_everything_a_process_says_is_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    told = [json.loads(text) for text in done.stderr.splitlines()]
    assert {one["logger"] for one in told} >= {
        "py.warnings",
        "sqlalchemy.pool",
        "inhouse.uncaught",
        "inhouse.x",
    }
    last = [one["message"] for one in told if one["level"] == "critical"]
    assert len(last) == 2 and all(text.startswith("ended by a fault") for text in last)
    assert "canary" not in done.stderr and done.returncode == 1


def run_with_file(file: Path) -> list[Path]:
    with file.open("ab") as out:
        subprocess.run([sys.executable, "-c", SCRIPT, str(file)], stdout=out, stderr=out)
    return sorted(file.parent.iterdir())


def test_a_file_of_our_own_is_turned_over_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    for _ in range(3):
        assert run_with_file(file) == [file, tmp_path / "server.log.1"]
    assert all(part.stat().st_size < 6000 for part in tmp_path.iterdir())
    assert "said to standard output" in file.read_text() and "ended by a fault" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0 or file.stat().st_size < 5000


def test_control_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    with file.open("ab") as out:
        subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "server.log")], stdout=out, stderr=out)
    assert [p.name for p in tmp_path.iterdir()] == ["journal"] and file.stat().st_size > 10_000
