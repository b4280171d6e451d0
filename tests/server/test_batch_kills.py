"""kill -9 and frozen servers while a batch runs: each line has one result, counted and billed once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.settings import Settings
from inhouse.store import tables
from inhouse.store.db import Database

from .house import engine, prepare, until

ROOT = Path(__file__).parents[2]
LINES = 100


class Server:
    """A server's process, from when it says its address."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "tests.server.batch_server", str(folder), *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def freeze(self, database: Path) -> None:
        """Stops it for now, where it holds no lock of the database's file: nobody else could write then."""
        while True:
            os.kill(self.process.pid, signal.SIGSTOP)
            with contextlib.closing(sqlite3.connect(database, timeout=0.2, isolation_level=None)) as conn:
                try:
                    conn.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    self.thaw()
                    time.sleep(0.01)
                    continue
                conn.execute("ROLLBACK")
                return

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@dataclass
class Yard:
    """A folder with a database and an engine, and the servers that came and went over it."""

    folder: Path
    db: Database
    key: str
    servers: list[Server]

    def serve(self, *options: str) -> Server:
        self.servers.append(Server(self.folder, *options))
        return self.servers[-1]

    def ask(self, server: Server, method: str, path: str, **rest: Any) -> Any:
        with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            reply = client.request(method, path, headers={"authorization": f"Bearer {self.key}"}, **rest)
        assert reply.status_code == 200, reply.text
        return reply

    def create(self, server: Server, delay_s: float) -> str:
        """A batch of LINES lines, each with a reply of two words, told with a pause."""
        rows = [
            {
                "custom_id": f"line {i}",
                "method": "POST",
                "url": "/v1/completions",
                "body": {"model": "seedling", "prompt": f"count 2 {delay_s}", "user": str(i)},
            }
            for i in range(LINES)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = self.ask(
            server, "POST", "/v1/files", files={"file": ("in", text)}, data={"purpose": "batch"}
        ).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        return str(self.ask(server, "POST", "/v1/batches", json=body).json()["id"])

    def row(self, id: str) -> Any:
        with self.db.read() as conn:
            return conn.execute(tables.batches.select().where(tables.batches.c.id == id)).one()

    def ended(self, id: str) -> Any:
        return until(lambda: (row := self.row(id)).status == "completed" and row, "the batch completes", 60)

    def is_exact(self, server: Server, id: str) -> bool:
        """Whether each line has one result, in one file, counted and billed once."""
        row = self.row(id)
        with self.db.read() as conn:
            billed = len(conn.execute(tables.usage.select()).all())
            made = conn.execute(tables.files.select().where(tables.files.c.purpose == "batch_output")).all()
        if [file.id for file in made] != [row.output_file] or row.error_file is not None:
            return False
        text = self.ask(server, "GET", f"/v1/files/{row.output_file}/content").text
        said = [json.loads(line)["custom_id"] for line in text.splitlines()]
        return (
            said == [f"line {i}" for i in range(LINES)]
            and (row.total, row.completed, row.failed) == (LINES, LINES, 0)
            and billed == LINES
        )


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    db = Database(Settings(data_dir=tmp_path).database)
    _, key, _ = prepare(db)
    made = Yard(tmp_path, db, key, [])
    with engine(db, tmp_path):
        try:
            yield made
        finally:
            for server in made.servers:
                server.kill()
    db.dispose()


def test_a_batch_survives_servers_that_are_killed_at_random(yard: Yard) -> None:
    rng = random.Random(5)
    server = yard.serve()
    id = yard.create(server, 0.1)
    for _ in range(4):
        before = yard.row(id).completed
        until(lambda before=before: yard.row(id).completed > before, "it goes on")
        time.sleep(rng.random() * 0.4)
        assert yard.row(id).status == "in_progress", "the batch was over before all kills"
        server.kill()
        server = yard.serve()
    yard.ended(id)
    assert yard.row(id).fence >= 5
    assert yard.is_exact(server, id)


def test_a_server_that_is_told_to_stop_gives_its_batch_back_at_once(yard: Yard) -> None:
    first = yard.serve()
    id = yard.create(first, 0.1)
    until(lambda: yard.row(id).completed >= 8, "it is under way")
    first.process.terminate()
    assert first.process.wait(20) == 0
    given_back = yard.row(id)
    assert (given_back.status, given_back.lease_until) == ("in_progress", None)
    second = yard.serve()
    yard.ended(id)
    assert yard.is_exact(second, id)


@pytest.mark.parametrize("place", ["NOTE", "END"])
@pytest.mark.parametrize("options", [(), ("--no-transaction",)], ids=["whole", "control: no transaction"])
def test_a_server_that_dies_in_the_midst_of_a_write_leaves_nothing_half(
    yard: Yard, place: str, options: tuple[str, ...]
) -> None:
    first = yard.serve("--die-in", place, *options)
    id = yard.create(first, 0.0)
    until(lambda: first.process.poll() is not None, "it dies")
    assert first.process.returncode == -signal.SIGKILL
    second = yard.serve()
    if options and place == "END":
        time.sleep(2)  # it counts as ended, so nobody goes on
    else:
        until(lambda: yard.row(id).status in ("completed", "expired"), "it ends")
    assert yard.is_exact(second, id) == (not options)


@pytest.mark.parametrize("options", [(), ("--no-fence",)], ids=["fenced", "control: no fence"])
def test_a_server_that_was_frozen_past_its_lease_adds_nothing(yard: Yard, options: tuple[str, ...]) -> None:
    frozen = yard.serve(*options)
    id = yard.create(frozen, 0.1)
    until(lambda: yard.row(id).completed >= 8, "it is under way")
    assert yard.db.file is not None
    frozen.freeze(yard.db.file)
    other = yard.serve(*options)
    yard.ended(id)
    frozen.thaw()
    if options:
        with contextlib.suppress(AssertionError):
            until(lambda: not yard.is_exact(other, id), "it does harm", 20)
    else:
        time.sleep(3)
    assert yard.is_exact(other, id) == (not options)
