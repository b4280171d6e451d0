"""A server that may hold few files and sockets: callers are turned away in words, and it never spins."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.house import until
from tests.server.test_main import told

LIMIT = 256
CROWD = 400
NO_GUARD = (
    "from inhouse.server import descriptors, listener\n"
    "descriptors.most_connections = lambda: 10**9\n"
    "listener.ACCEPTED_AT_ONCE = listener.WAITING_FOR_US\n"
)
START = (
    "import resource, sys\n"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))\n"
    "{changes}"
    "from inhouse.server.main import main\n"
    "sys.exit(main(sys.argv[1:]))"
)


@contextlib.contextmanager
def poor_server(folder: Path, changes: str = "") -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A server that may hold LIMIT descriptors."""
    flags = ["--worker", "false", "--port", "0", "--data-dir", str(folder), "--load-wait-s", "0.1"]
    command = [sys.executable, "-c", START.format(changes=changes), *flags]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INHOUSE_")}
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        yield process, told(folder, process)  # type: ignore[arg-type]
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def crowd(at: dict[str, Any]) -> Iterator[None]:
    """CROWD clients who connect and say nothing; whoever is cut off comes again at once."""
    address = ("127.0.0.1", int(at["url"].rpartition(":")[2]))
    with contextlib.ExitStack() as held:
        for _ in range(CROWD):
            held.enter_context(socket.create_connection(address))
        yield


def cpu_s(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def ask(at: dict[str, Any], path: str, limit_s: float) -> httpx2.Response | None:
    """A reply on a connection of its own; None: nobody answers."""
    with contextlib.suppress(httpx2.HTTPError):
        headers = {"authorization": f"Bearer {at['key']}"}
        return httpx2.get(at["url"] + path, headers=headers, timeout=limit_s, trust_env=False)
    return None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only here does the system say what a process used")
def test_out_of_descriptors_callers_get_503_nothing_spins_and_it_passes(tmp_path: Path) -> None:
    """Fault 44: 400 silent connections to a server that may hold 256 descriptors."""
    with poor_server(tmp_path) as (process, at):
        with crowd(at):
            before, began = cpu_s(process.pid), time.monotonic()

            def refused() -> httpx2.Response | None:
                reply = ask(at, "/v1/models", 2)
                return reply if reply is not None and reply.status_code == 503 else None

            reply = until(refused, "a caller is told", 10)
            assert reply.json()["error"]["code"] == "too_many_connections"
            assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
            healthy = until(lambda: ask(at, "/health", 2), "its health is told all the same", 10)
            assert healthy.status_code == 200
            time.sleep(max(0.0, began + 2 - time.monotonic()))
            assert cpu_s(process.pid) - before < 1.0, "it waits, it does not spin"
            assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < LIMIT - 32
        until(lambda: (r := ask(at, "/v1/models", 2)) is not None and r.status_code == 200, "it is over")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    said = (tmp_path / "out").read_text()
    assert "Traceback" not in said and len(said) < 10_000


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only here does the system say what a process used")
def test_control_without_a_limit_of_connections_nobody_is_answered_and_the_log_fills(tmp_path: Path) -> None:
    """Fault 44, the control: accepted until nothing is left."""
    with poor_server(tmp_path, NO_GUARD) as (_, at), crowd(at):
        time.sleep(1)
        assert ask(at, "/v1/models", 2) is None
    assert (tmp_path / "out").read_text().count("out of system resource") > 1000
