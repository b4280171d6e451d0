"""A PostgreSQL cluster of the tests' own, started once a session, and databases on it and on SQLite.

It lives in a temporary folder behind a unix socket, touches no server that may already run, and is gone
afterwards.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from tests.house.house import descendants

CURE = "Install PostgreSQL (Debian: apt-get install postgresql), or put its bin folder on PATH."
START_S = 30.0


class Cluster:
    """A running cluster. `new_database` returns the URL of an empty database on it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._account = _account()
        self._numbers = itertools.count(1)
        if self._account is not None:
            shutil.chown(folder, self._account)
        if not (folder / "data").exists():
            self._run(
                "initdb", "-D", "data", "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"
            )
        self.start()

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / ".s.PGSQL.5432"

    def start(self) -> None:
        """Start the server and wait until it answers. After a kill, what it left behind may take a moment to end."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                return self._start()
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _start(self) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": "100",
        }
        command = [str(self._programs / "postgres"), "-D", "data"]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._as_user()
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start: " + (self._folder / "log").read_text())
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; SIGKILL is the way to see what a crash does."""
        self._process.send_signal(how)
        self._process.wait(timeout=START_S)

    def pids(self) -> list[int]:
        """The server's processes, the first one first."""
        mine = self._process.pid
        return [mine, *descendants(mine)]

    def new_database(self) -> str:
        name = f"test_{next(self._numbers)}"
        self._run("createdb", "-h", str(self._folder), "-U", "tests", name)
        return f"postgresql://tests@/{name}?host={self._folder}"

    def _answers(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-q", "-h", str(self._folder)]
        return subprocess.run(command, cwd=self._folder).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, **self._as_user())
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def _as_user(self) -> dict[str, object]:
        return {} if self._account is None else {"user": self._account, "extra_groups": []}


def _account() -> str | None:
    """Whom to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def programs() -> Path | None:
    """The folder of the newest PostgreSQL on this machine."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    folders = [
        *reversed(debian),
        *(Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part),
    ]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """The tests' own cluster. Without PostgreSQL the test is skipped, except in CI, where it fails."""
    found = programs()
    if found is None:
        reason = f"no PostgreSQL on this machine. {CURE}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a short path: sockets' names are limited
    try:
        cluster = Cluster(folder, found)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Cluster) -> str:
    """A fresh, empty PostgreSQL database."""
    return postgres.new_database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'inhouse.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty database, once of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A fresh database with today's schema, once of each kind."""
    database = Database(database_url)
    migrate(database)
    yield database
    database.dispose()
