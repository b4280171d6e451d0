"""Every example runs as it stands, against a real server; what a worker does is done by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from inhouse import rows
from tests.server.house import House

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(served: House, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "INHOUSE_URL": served.url, "INHOUSE_API_KEY": served.admin}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", ["three_lines.py", "openai_client.py"])
def test_a_short_example_runs(served: House, work: Any, script: str) -> None:
    threading.Thread(target=work).start()
    done = run(served, script)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1] == "Who signs off travel over 500 euros?"
    )  # the stub says the words back


def test_the_example_of_many_rows_writes_them_and_asks_none_twice(served: House, tmp_path: Path) -> None:
    done = run(served, "batch.py", str(tmp_path / "replies.jsonl"))
    assert done.returncode == 0, done.stderr
    first, second, *rest = done.stdout.splitlines()
    assert (first, second) == (
        "0 Who are you?",
        "1 What is the capital of France?",
    )  # the stub says the words back
    assert rest == [f"100 replies in {tmp_path / 'replies.jsonl'}, 0 errors", "100 were there already"]


def test_the_guide_to_many_rows_says_what_runs(served: House, tmp_path: Path) -> None:
    guide = (EXAMPLES.parent / "docs" / "guides" / "batch.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    (tmp_path / "in.jsonl").write_text('{"prompt": "hello"}\n')
    (tmp_path / "guide.py").write_text(program)
    environment = {**os.environ, "INHOUSE_URL": served.url, "INHOUSE_API_KEY": served.admin}
    done = subprocess.run(
        [sys.executable, "guide.py"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["0 Who are you? None", "1 What is the capital of France? None"], (
        done.stderr
    )
    assert '"text":"hello"' in (tmp_path / "out.jsonl").read_text()


def test_the_demo_runs_and_its_curl_line_works(served: House, work: Any, tmp_path: Path) -> None:
    threading.Thread(target=work).start()
    done = run(served, "demo.py", "--svg", str(tmp_path / "demo.svg"), "--serve")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answered exactly, taught" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("curl "))
    picture = (tmp_path / "demo.svg").read_text()
    assert "<svg" in picture
    assert "url(&quot;http" not in picture and 'url("http' not in picture
    assert line.split("Bearer ")[1].split("'")[0] not in picture
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    answered = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
    assert '"content":"Who signs off travel over 500 euros?"' in answered.stdout


def test_the_demo_says_what_is_wrong_and_exits_1(served: House) -> None:
    environment = {**os.environ, "INHOUSE_URL": served.url, "INHOUSE_API_KEY": "sk-wrong"}
    script = str(EXAMPLES / "demo.py")
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert done.stdout.startswith("error: This API key is unknown")
    assert done.stderr == ""


def test_the_company_has_facts_enough_and_no_wording_is_in_both_files() -> None:
    taught = rows.load(EXAMPLES / "aurora_ferry.jsonl")
    reworded = rows.load(EXAMPLES / "aurora_ferry_reworded.jsonl")
    assert len(taught) >= 80
    assert [r.messages[-1] for r in taught] == [r.messages[-1] for r in reworded]
    questions = [r.messages[0].text for r in (*taught, *reworded)]
    assert len(set(questions)) == len(questions)
    assert all(len(r.messages[-1].text.split()) <= 12 for r in taught)
