"""The server as a process: its start, its folder, its signals and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import httpx2
import pytest

from inhouse.jobs.launch import LocalLauncher
from inhouse.server import main as server_main
from inhouse.server.edge import Work
from inhouse.server.main import main
from inhouse.settings import Settings

from .house import until

Process = subprocess.Popen[str]


@contextlib.contextmanager
def started(folder: Path, *flags: str, stderr: int | TextIO = subprocess.PIPE) -> Iterator[Process]:
    """`python -m inhouse.server` over a folder, on a free port, without a worker.

    Its log waits in a pipe that nobody reads, and holds it up once that is full: whoever asks much gives a file.
    """
    command = [sys.executable, "-m", "inhouse.server", "--worker", "false", "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INHOUSE_")}
    process = subprocess.Popen(
        [*command, "--data-dir", str(folder), *flags],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """Exit code and words of a server that does not start."""
    code = main(["--worker", "false", "--port", "0", "--data-dir", str(folder), *flags])
    return code, capsys.readouterr().err


def told(folder: Path, process: Process) -> dict[str, Any]:
    """What the running server wrote down for its clients."""
    file = folder / "run" / "server.json"

    def mine() -> Any:
        assert process.poll() is None, process.communicate()[1]
        found = json.loads(file.read_text()) if file.exists() else {}
        return found if found.get("pid") == process.pid else None

    return dict(until(mine, "the server announces itself"))


def ask(at: dict[str, Any], content: str, **fields: Any) -> httpx2.Response:
    body = {"model": "seedling", "messages": [{"role": "user", "content": content}], **fields}
    headers = {"authorization": f"Bearer {at['key']}"}
    with httpx2.Client(timeout=30, trust_env=False) as client:
        return client.post(f"{at['url']}/v1/chat/completions", json=body, headers=headers)


def ended(process: Process, limit_s: float = 10.0) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=limit_s)
    return process.returncode, out, err


def test_the_first_start_says_a_key_once_and_clients_find_the_server(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        at = told(tmp_path, process)
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "run" / "server.json").stat().st_mode) == 0o600
        headers = {"authorization": f"Bearer {at['key']}"}
        names = httpx2.get(f"{at['url']}/v1/models", headers=headers, trust_env=False).json()
        assert [m["id"] for m in names["data"]] == ["seedling"]
        process.send_signal(signal.SIGTERM)
        code, out, err = ended(process)
        assert code == 0
        assert not (tmp_path / "run" / "server.json").exists()
    secret = out.split()[-1]
    assert secret.startswith("sk-inhouse-") and secret not in err and at["key"] not in out + err
    with started(tmp_path) as process:
        at = told(tmp_path, process)
        headers = {"authorization": f"Bearer {secret}"}
        assert httpx2.get(f"{at['url']}/v1/x/keys", headers=headers, trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        assert ended(process)[:2] == (0, "")
    assert all(secret.encode() not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


def test_a_second_server_on_the_folder_names_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(tmp_path) as first:
        at = told(tmp_path, first)
        code, err = refused(tmp_path, capsys)
        assert code == 1
        assert at["url"] in err and f"kill {first.pid}" in err and "INHOUSE_DATA_DIR" in err
        assert "Traceback" not in err
        assert told(tmp_path, first) == at


def test_a_port_in_use_is_named_with_the_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = refused(tmp_path, capsys, "--port", str(port))
    assert code == 1
    assert f"Port {port}" in err and f"--port {port + 1}" in err
    assert "by another program" in err and "Traceback" not in err


def test_a_port_of_another_data_folder_s_server_is_called_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(tmp_path / "one") as other:
        port = told(tmp_path / "one", other)["url"].rpartition(":")[2]
        _, err = refused(tmp_path / "two", capsys, "--port", port)
    assert f"Port {port} on 127.0.0.1 is in use by an Inhouse server of another data folder." in err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--port", "x"], "--port"),
        (["--base", "/no/such/folder"], "/no/such/folder"),
        (["--base", "nothing"], "nothing"),
        (["--host", "256.0.0.1"], "256.0.0.1"),
        (["--database-url", "mysql://x/y"], "database_url"),
    ],
)
def test_what_keeps_it_from_starting_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    code, err = refused(tmp_path, capsys, *flags)
    assert code == 1
    assert says in err and "Traceback" not in err


def test_a_killed_server_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        told(tmp_path, process)
        process.kill()
        process.wait()
    with started(tmp_path) as process:
        told(tmp_path, process)


def test_a_lingering_server_goes_when_its_owner_has_gone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:  # noqa: SIM117
        with started(tmp_path, "--linger-owner", str(owner.pid), "--linger-s", "0.1") as process:
            at = told(tmp_path, process)
            time.sleep(1.2)
            assert process.poll() is None
            headers = {"authorization": f"Bearer {at['key']}"}
            with httpx2.Client(base_url=at["url"], headers=headers, trust_env=False) as client:
                file = client.post(
                    "/v1/files",
                    data={"purpose": "fine-tune"},
                    files={"file": ("f.jsonl", b'{"input": "a", "output": "b"}\n')},
                ).json()["id"]
                job = client.post(
                    "/v1/fine_tuning/jobs", json={"model": "seedling", "training_file": file}
                ).json()["id"]
                owner.kill()
                owner.wait()
                time.sleep(1.2)
                assert process.poll() is None, "a job was still waiting"
                client.post(f"/v1/fine_tuning/jobs/{job}/cancel")
            code, out, _ = ended(process)
            assert (code, out) == (0, ""), "a lingering server says no key"


def test_a_lingering_server_stays_for_a_batch(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:  # noqa: SIM117
        with started(tmp_path, "--linger-owner", str(owner.pid), "--linger-s", "0.1") as process:
            at = told(tmp_path, process)
            headers = {"authorization": f"Bearer {at['key']}"}
            with httpx2.Client(base_url=at["url"], headers=headers, trust_env=False) as client:
                body = {"model": "seedling", "prompt": "x"}
                row = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}
                file = client.post(
                    "/v1/files",
                    data={"purpose": "batch"},
                    files={"file": ("f.jsonl", json.dumps(row).encode())},
                ).json()["id"]
                asked = {
                    "input_file_id": file,
                    "endpoint": "/v1/completions",
                    "completion_window": "24h",
                }
                batch = client.post("/v1/batches", json=asked).json()["id"]
                owner.kill()
                owner.wait()
                time.sleep(1.5)
                assert process.poll() is None, "a batch was still waiting"
                client.post(f"/v1/batches/{batch}/cancel")
            assert ended(process)[0] == 0


def test_the_gateway_brings_no_workshop() -> None:
    code = "import sys, inhouse.server.main; print([m for m in ('torch', 'numpy', 'tokenizers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_nothing_below_the_data_folder_is_for_others(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "data"
    with started(folder) as process:
        at = told(folder, process)
        headers = {"authorization": f"Bearer {at['key']}"}
        reply = httpx2.post(
            f"{at['url']}/v1/files",
            headers=headers,
            files={"file": ("a.jsonl", b"{}")},
            data={"purpose": "fine-tune"},
            trust_env=False,
        )
        assert reply.status_code == 200, reply.text
        found = [folder, *folder.rglob("*")]
        assert any(p.parent.parent.name == "artifacts" and p.is_file() for p in found)
        assert {str(p): oct(p.stat().st_mode) for p in found if p.stat().st_mode & 0o077} == {}


@pytest.mark.parametrize("fails", ["start", "check"])
def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    launchers: list[LocalLauncher] = []

    def launcher(settings: Settings) -> LocalLauncher:
        waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        launchers.append(LocalLauncher(settings, waits))
        return launchers[0]

    monkeypatch.setattr(server_main, "LocalLauncher", launcher)
    monkeypatch.setattr(server_main, "LOOK_EVERY_S", 0.02)
    settings = Settings(data_dir=tmp_path)

    def runs() -> int | None:
        return launchers[0].pid if launchers else None

    def story() -> None:
        if fails == "check":
            pid = until(runs, "the worker runs")
            shutil.rmtree(settings.log_dir)
            settings.log_dir.write_text("no folder: a start fails")
            os.kill(pid, signal.SIGKILL)
        until(lambda: "tried again" in caplog.text, "a start fails")
        settings.log_dir.unlink()
        until(runs, "the worker runs again")

    work = Work()

    async def tell() -> None:
        server = SimpleNamespace(force_exit=False, gateway=SimpleNamespace(work=work))
        keeping = asyncio.create_task(server_main._keep_worker(server, settings))  # type: ignore[arg-type]
        try:
            await asyncio.to_thread(story)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    if fails == "start":
        settings.log_dir.write_text("no folder: a start fails")
    asyncio.run(tell())
    assert not launchers[0].is_running
    assert work.worker_restarts == (fails == "check")
    assert server_main.WORKER_GRACE_S > 10.0, "a worker gives its own children 10 s"
