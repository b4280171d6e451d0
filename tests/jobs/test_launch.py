"""A worker process lives while its launcher does, comes back when it dies, and goes when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inhouse.jobs import launch
from inhouse.jobs.launch import LocalLauncher
from inhouse.settings import Settings

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
WITH_CHILD = (
    "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']);"
    "print(c.pid, flush=True); time.sleep(99)"
)
DIES = "print('died', flush=True)"
Start = Callable[..., LocalLauncher]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    launchers: list[LocalLauncher] = []

    def start(code: str, **options: int) -> LocalLauncher:
        settings = Settings(data_dir=tmp_path)
        launcher = LocalLauncher(settings, [sys.executable, "-c", code], **options)
        launchers.append(launcher)
        launcher.start()
        return launcher

    yield start
    for launcher in launchers:
        launcher.stop(0)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said(launcher: LocalLauncher) -> str:
    return launcher.log_file.read_text() if launcher.log_file.exists() else ""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_worker_gets_the_settings_and_its_words_reach_the_log(start: Start, tmp_path: Path) -> None:
    launcher = start(
        "import os; print(os.environ['INHOUSE_DATA_DIR'], os.environ['INHOUSE_WORKER'], flush=True)"
    )
    until(lambda: said(launcher).endswith("\n"))
    assert said(launcher).split() == [str(tmp_path), "1"]


def test_starting_twice_starts_one(start: Start) -> None:
    launcher = start(WAITS)
    pid = launcher.pid
    assert pid is not None
    launcher.start()
    assert launcher.pid == pid and launcher.check()


def test_a_worker_that_was_killed_comes_back(start: Start) -> None:
    launcher = start(WAITS)
    first = launcher.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: not launcher.is_running)
    until(launcher.check)
    assert launcher.pid not in (None, first)


def test_a_worker_that_dies_at_once_is_started_ever_more_slowly(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "FIRST_BACKOFF_S", 0.05)
    launcher = start(DIES)
    begun = time.monotonic()
    until(lambda: launcher.check() and said(launcher).count("died") == 4)
    assert time.monotonic() - begun >= 0.05 + 0.1 + 0.2


def test_stop_ends_a_worker_that_listens_and_one_that_does_not(start: Start) -> None:
    for code, grace_s in ((WAITS, 5.0), (STUBBORN, 0.1)):
        launcher = start(code)
        until(lambda launcher=launcher: "up" in said(launcher))
        pid = launcher.pid
        launcher.stop(grace_s)
        assert pid is not None and not is_alive(pid)
        assert not launcher.is_running and not launcher.check()
        launcher.stop(grace_s)
        launcher.log_file.unlink()


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_the_worker_started_goes_with_it(start: Start, how: str) -> None:
    launcher = start(WITH_CHILD)
    until(lambda: said(launcher).endswith("\n"))
    grandchild = int(said(launcher))
    assert is_alive(grandchild)
    if how == "stopped":
        launcher.stop(0.1)
    else:
        assert launcher.pid is not None
        os.kill(launcher.pid, signal.SIGKILL)
        until(lambda: not launcher.is_running)
        launcher.check()
    until(lambda: not is_alive(grandchild))


def test_the_worker_ends_when_its_launcher_is_killed(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from inhouse.jobs.launch import LocalLauncher
from inhouse.settings import Settings
launcher = LocalLauncher(Settings(data_dir=Path({str(tmp_path)!r})), [{sys.executable!r}, "-c", {WAITS!r}])
launcher.start()
print(launcher.pid, flush=True)
time.sleep(99)
"""
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    worker = int(server.stdout.readline())
    assert is_alive(worker)
    server.kill()
    server.wait()
    server.stdout.close()
    until(lambda: not is_alive(worker))


FLOOD = "for i in range(20000): print('x' * 99)\nprint('last', flush=True)"


@pytest.mark.parametrize("whose", ["its own", "a job's process's"])
@pytest.mark.parametrize("limit", [300_000, 2**40], ids=["turned over", "control: never"])
def test_a_flood_of_words_fills_two_logs_and_no_more(start: Start, limit: int, whose: str) -> None:
    """Fault 42: whoever says them, for a job's process speaks through its worker's pipe."""
    through = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FLOOD!r}])"
    launcher = start(FLOOD if whose == "its own" else through, log_bytes=limit)
    until(lambda: not launcher.is_running)
    launcher.stop(0)
    older = launcher.log_file.with_name("worker.log.1")
    sizes = [file.stat().st_size for file in (launcher.log_file, older) if file.exists()]
    assert said(launcher).endswith("last\n")
    assert (len(sizes) == 2 and max(sizes) <= 300_000) is (limit == 300_000)


def test_the_command_is_the_worker_unless_another_is_named(tmp_path: Path) -> None:
    assert LocalLauncher(Settings(data_dir=tmp_path))._command == [sys.executable, "-m", "inhouse.worker"]
