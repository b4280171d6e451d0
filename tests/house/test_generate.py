"""Many rows through the real server and engine: killed runs end with the bytes of undisturbed ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse import Client
from tests.house.house import House, descendants, until

ROWS = 60


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of different lengths, two of them bad."""
    file = tmp_path_factory.mktemp("rows") / "in.jsonl"
    rows = [{"prompt": f"row {i} " + "x" * (i % 7), "id": str(i)} for i in range(ROWS)]
    rows[7] = {"prompt": ""}
    rows[30] = {"prompt": "y" * 1000}  # longer than the context
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def undisturbed(whole: House, source: Path) -> bytes:
    """The file that a run makes that nobody interrupts."""
    out = source.with_name("undisturbed.jsonl")
    with Client(whole.url, whole.key) as client:
        made = client.generate(source, model="tiny", out=out, max_tokens=40, progress=False)
    assert (made.rows, made.errors) == (ROWS, 2)
    return out.read_bytes()


def begin(house: House, source: Path, out: Path, *, is_named: bool = True) -> subprocess.Popen[bytes]:
    """The command, under way; it finds the server by address and key, or by the house's data folder."""
    command = [sys.executable, "-m", "inhouse.cli", "generate", str(source), str(out), "--model", "tiny"]
    named = {"INHOUSE_URL": house.url, "INHOUSE_API_KEY": house.key}
    return subprocess.Popen(
        [*command, "--max-tokens", "40", "--concurrency", "2"],
        env={**house.environment(), **(named if is_named else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def whole_lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    whole: House, source: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    kept: list[int] = []
    for at_least in (1, 15, 40):
        run = begin(whole, source, out)
        until(lambda least=at_least: whole_lines(out) >= least, f"{at_least} lines are there")  # type: ignore[misc]
        run.send_signal(signal.SIGKILL)
        run.communicate()
        kept.append(whole_lines(out))
        assert undisturbed.startswith(out.read_bytes()[: out.read_bytes().rfind(b"\n") + 1])
    out.write_bytes(out.read_bytes() + b'{"index":')  # as if it had died inside a line
    last = begin(whole, source, out)
    told, complaint = last.communicate(timeout=60)
    assert last.returncode == 1, complaint  # two rows have no reply
    assert b"2 of 60 rows have no reply" in complaint
    summary = json.loads(told.splitlines()[-1])
    assert (summary["rows"], summary["resumed"], summary["errors"]) == (ROWS, kept[-1], 2)
    assert kept == sorted(kept) and 40 <= kept[-1] < ROWS
    assert out.read_bytes() == undisturbed


def test_ctrl_c_keeps_what_is_written_and_says_how_to_go_on(
    whole: House, source: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    run = begin(whole, source, out)
    until(lambda: whole_lines(out) >= 5, "some lines are there")
    run.send_signal(signal.SIGINT)
    _, complaint = run.communicate(timeout=30)
    assert run.returncode == 130
    assert b"The same command again goes on from there." in complaint and b"Traceback" not in complaint
    assert undisturbed.startswith(out.read_bytes())


def test_an_engine_that_is_killed_meanwhile_costs_no_row(
    own: House, source: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    own.start()
    out = tmp_path / "out.jsonl"
    run = begin(own, source, out)
    until(lambda: whole_lines(out) >= 5, "some lines are there")
    assert own.process is not None
    for pid, command in descendants(own.process.pid).items():
        if "worker.child job-" in command:
            os.kill(pid, signal.SIGKILL)
    run.communicate(timeout=90)
    assert out.read_bytes() == undisturbed


def test_a_server_that_is_killed_meanwhile_is_started_again_and_costs_no_row(
    tmp_path: Path, tiny: Path, source: Path, undisturbed: bytes
) -> None:
    """Of this machine's own server, that is: the client finds it by its data folder, and its successor, which serves as
    the first one did, whatever the client's own settings are."""
    house = House(tmp_path / "data", [tiny], port=0, quantization="int8")
    house.start()
    rounded, out = tmp_path / "rounded.jsonl", tmp_path / "out.jsonl"
    with Client(house.url, house.key) as client:
        client.generate(source, model="tiny", out=rounded, max_tokens=40, progress=False)
    assert rounded.read_bytes() != undisturbed, "control: rounding shows"
    house.settings = {"port": 0}  # all that the client is told
    run = begin(house, source, out, is_named=False)
    try:
        until(lambda: whole_lines(out) >= 5, "some lines are there")
        house.kill()
        _, complaint = run.communicate(timeout=120)
        assert out.read_bytes() == rounded.read_bytes(), complaint
        assert complaint.count(b"answers no more: another one is started in its place") == 1
    finally:
        run.kill()
        run.communicate()
        os.kill(json.loads((house.data_dir / "run" / "server.json").read_text())["pid"], signal.SIGTERM)
