"""The server on this machine: find the one that runs for a data folder, or start it.

It knows processes, ports and the run folder; it never imports the server. A server that takes the place of one that
was used before serves as that one did, whatever this process's settings say.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from inhouse.client.http import Address
from inhouse.errors import InvalidRequest, ServerUnreachable
from inhouse.settings import Settings

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers for this data folder."""

    address: Address
    pid: int
    serving: Mapping[str, str] | None = None
    """How it serves bases, by its settings' names; None: it does not say."""


class Here:
    """The server of a data folder, from one look to the next: who asked one goes on with its like."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gone: Running | None = None
        """The one whose end has been told."""
        self._known: Running | None = None

    def find_or_start(self) -> Running:
        """The server that runs, or a new one, which then serves bases as the one before did.

        A new one is told of, as a warning: what was under way waits for it.
        """
        before = self._known
        if before is not None and before is not self._gone and find(self._settings) is None:
            self._gone = before
            log.warning(
                "The server at %s answers no more: another one is started in its place.", before.address.url
            )
        found = find_or_start(self._settings)
        if found.serving is not None:
            known = self._settings.serving()
            kept = {name: value for name, value in found.serving.items() if name in known}
            self._settings = replace(self._settings, **kept)  # type: ignore[arg-type]
        self._known = found
        return found


def find(settings: Settings) -> Running | None:
    """The server that runs for this data folder, if its process lives and its address answers."""
    running = recorded(settings)
    if running is None:
        return None
    # The key tells this server from its successor, which may listen on the same port before it says so.
    return running if _status(running.address, "/v1/models") not in (None, 401, 403) else None


def recorded(settings: Settings) -> Running | None:
    """The server that wrote its address down for this data folder, if its process lives; it may not answer."""
    running = _recorded(settings.run_dir / "server.json")
    return running if running is not None and is_alive(running.pid) else None


def find_or_start(settings: Settings, *, timeout_s: float = START_TIMEOUT_S) -> Running:
    """The server for this data folder, started if there is none. Clients that ask at once share one.

    Raises ServerUnreachable with the log's last lines when it does not come up.
    """
    deadline = time.monotonic() + timeout_s
    if (running := find(settings)) and is_ready(running):
        return running
    make_folders(settings)
    with _lock(settings.run_dir / "start.lock", deadline):
        while (running := find(settings)) and time.monotonic() < deadline:
            if is_ready(running):
                return running
            time.sleep(POLL_S)  # it starts up, or it drains and will be gone
        return _until_ready(settings, _start(settings), deadline)


def is_ready(running: Running) -> bool:
    """Whether it takes requests: it may still wait for its worker, or load its base; requests wait for that, too."""
    try:
        told = _get(running.address, "/ready").json()
        well = {check["name"] for check in told["checks"] if check["ok"]}
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError):
        return False
    return {"accepting", "database", "schema"} <= well


def make_folders(settings: Settings) -> None:
    """The data, run and log folders, for this user's eyes only. Raises InvalidRequest when that fails."""
    for folder in (settings.data_dir, settings.run_dir, settings.log_dir):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)  # apart: the mode is not for parents
        except OSError as e:
            raise InvalidRequest(
                f"The data folder {settings.data_dir} cannot be written ({e.strerror}). "
                "Free or mend it, or choose another: INHOUSE_DATA_DIR=/path",
                param="data_dir",
            ) from e


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    if sys.platform == "win32":  # signal 0 is Ctrl-C there; whether the address answers has to do
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def log_tail(settings: Settings, lines: int = 12) -> str:
    """The last lines of the server's log."""
    try:
        with (settings.log_dir / "server.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            tail = log.read().decode("utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in tail)


def _recorded(file: Path) -> Running | None:
    try:
        noted = json.loads(file.read_bytes())
        address = Address(str(noted["url"]), noted.get("key"), is_local=True)
        return Running(address, int(noted["pid"]), noted.get("serving"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _status(address: Address, path: str) -> int | None:
    """The status of the reply at an address; None when there is none."""
    try:
        return int(_get(address, path).status_code)
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return None


def _get(address: Address, path: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {address.key}"}
    return httpx2.get(address.url + path, headers=headers, timeout=2.0, trust_env=False)


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    missing = [
        name for name in ("fastapi", "uvicorn", "sqlalchemy") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ServerUnreachable(
            "This installation is the light client only and cannot start a server. "
            "Run: pip install 'inhouse[all]', or name a server: Client('http://host:8420', api_key=...)"
        )
    environment = {**os.environ, **settings.environment(), "INHOUSE_PORT": str(_free_port(settings))}
    with open(settings.log_dir / "server.log", "ab", opener=_privately) as log:
        return subprocess.Popen(
            [sys.executable, "-m", "inhouse.server", "--linger-owner", str(os.getpid())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C here must not reach a server that others may use
        )


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _until_ready(settings: Settings, child: subprocess.Popen[bytes], deadline: float) -> Running:
    ended: int | None = None
    while time.monotonic() < deadline:
        if (running := find(settings)) and is_ready(running):
            _leave_running(child)
            return running
        if ended is None and (ended := child.poll()) is not None:
            # Perhaps it ended because another one, started by hand, has the folder: that one will do.
            deadline = min(deadline, time.monotonic() + 1.0)
        time.sleep(POLL_S)
    if ended is not None:
        raise _did_not_start(settings, f"ended with status {ended}")
    child.terminate()
    child.wait(timeout=10)
    raise _did_not_start(settings, "was not ready in time")


def _leave_running(child: subprocess.Popen[bytes]) -> None:
    """The server outlives this process on purpose; Popen need not warn that nobody waited for it."""
    child.returncode = 0


def _did_not_start(settings: Settings, how: str) -> ServerUnreachable:
    log = settings.log_dir / "server.log"
    return ServerUnreachable(
        f"The server for {settings.data_dir} {how}. Its log, {log}, ends with:\n{log_tail(settings)}"
    )


def _free_port(settings: Settings) -> int:
    """The port of the settings, or 0 (any free one) when something else listens there."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as e:
            return 0 if e.errno == errno.EADDRINUSE else settings.port  # the server says what else is wrong
    return settings.port


@contextmanager
def _lock(file: Path, deadline: float) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system lets go of it even when the holder is killed."""
    with open(file, "a+b", opener=_privately) as stream:
        while not _try_lock(stream.fileno()):
            if time.monotonic() > deadline:
                raise ServerUnreachable(
                    f"Another process has been starting this server for too long ({file})."
                )
            time.sleep(POLL_S)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fileno: int) -> bool:
        try:
            msvcrt.locking(fileno, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fileno: int) -> bool:
        try:
            fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
