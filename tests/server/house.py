"""A real server on a real socket over a real database, with an engine stubbed at its socket."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from inhouse.jobs import queue, serving
from inhouse.schema import Bank, Fact, FactInput, ModelCard, Replica
from inhouse.server import auth, bases
from inhouse.server.app import create_app
from inhouse.server.limits import Limits
from inhouse.server.listener import Listener
from inhouse.server.place import listen
from inhouse.settings import Settings
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, facts, keys, models, projects, replicas
from inhouse.worker.replica import engine_stats

from .judge import HEARD, Listening
from .socket_engine import BASE_DIGEST

ENGINE = Path(__file__).with_name("socket_engine.py")
ADAPTER = "a" * 64
TUNED = "ft:seedling:default:facts:abcd1234"
FINGERPRINT = "fp_bbbbbbbbbbbb_float32"


@dataclass
class House:
    """What a test needs to know of a running server."""

    settings: Settings
    db: Database
    server: Listener
    url: str
    admin: str
    member: str
    stranger: str
    """A member key of another project."""
    clients: dict[str, httpx2.Client] = field(default_factory=dict)

    def client(self, key: str | None = None) -> httpx2.Client:
        """A client with this key; "" is none at all. The server's end closes its connections."""
        key = self.member if key is None else key
        if key not in self.clients:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            self.clients[key] = httpx2.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)
        return self.clients[key]

    def chat(self, content: str, **fields: Any) -> httpx2.Response:
        body = {"model": "seedling", "messages": [{"role": "user", "content": content}], **fields}
        with httpx2.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            return client.post(
                "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {self.member}"}
            )

    def engine_numbers(self) -> dict[str, float]:
        """What the engines that run count, asked at their sockets."""
        with self.db.read() as conn:
            alive = replicas.alive(conn)
        found: dict[str, float] = {}
        for replica in alive:
            found |= engine_stats(replica.address) or {}
        return found


def remember(
    made: House,
    *inputs: FactInput,
    base: str = "seedling",
    project: str = "default",
    files: tuple[str, ...] = (),
) -> tuple[str, list[Fact]]:
    """A memory model of these facts, as a job would have published it: its name, and the facts."""
    name = ids.tuned_model(base, project, "memory")
    with made.db.write() as conn:
        now = made.db.clock(conn)
        bank = Bank(
            id=ids.new("bank"),
            project=project,
            base=base,
            base_digest=BASE_DIGEST,
            files=files,
            created_at=now,
        )
        banks.add(conn, bank)
        file = files[0] if files else None
        found = facts.add_many(conn, bank.id, inputs, author="job", now=now, file=file)
        card = ModelCard(
            name=name,
            project=project,
            kind="memory",
            base=base,
            base_digest=BASE_DIGEST,
            created_at=now,
            about={"bank": bank.id},
        )
        models.add(conn, card)
    return name, found


def until(holds: Callable[[], Any], what: str, limit_s: float = 15.0) -> Any:
    """Waits for something to become true and returns it."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s} s in vain: {what}")


def prepare(db: Database) -> tuple[str, str, str]:
    """A migrated database with bases, a tuned model, two projects and their keys."""
    migrate(db)
    secrets = [auth.new_secret() for _ in range(3)]
    with db.write() as conn:
        now = db.clock(conn)
        projects.ensure(conn, "default", now)
        other = projects.ensure(conn, "other", now)
        bases.register(conn, "seedling", now)
        card = ModelCard(
            name=TUNED,
            project="default",
            kind="adapter",
            base="seedling",
            digest=ADAPTER,
            base_digest=BASE_DIGEST,
            created_at=now,
        )
        models.add(conn, card)
        owners = [("default", "admin"), ("default", "member"), (other, "member")]
        for secret, (project, role) in zip(secrets, owners, strict=True):
            keys.add(
                conn,
                project=project,
                name=role,
                secret_hash=auth.hash_of(secret),
                role=role,
                now=now,  # type: ignore[arg-type]
            )
    return secrets[0], secrets[1], secrets[2]


@contextlib.contextmanager
def engine(db: Database, folder: Path, base: str = "seedling") -> Iterator[subprocess.Popen[str]]:
    """A running stub engine, announced as a ready replica."""
    path = folder / "engine.sock"
    path.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, str(ENGINE), str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        announce(db, f"unix:{path}", base)
        yield process
    finally:
        process.kill()
        process.communicate()


def announce(
    db: Database, address: str, base: str = "seedling", *, fingerprint: str = FINGERPRINT
) -> Replica:
    serving.ensure_replica(db, base)
    job = queue.claim(db, "stub", ["serve"], 3600.0)
    assert job is not None
    replica = Replica(
        job=job.id,
        fence=job.fence,
        base=base,
        address=address,
        fingerprint=fingerprint,
        context=4096,
        ready=True,
    )
    with db.write() as conn:
        replicas.put(conn, replica, db.clock(conn))
    return replica


@contextlib.contextmanager
def house(folder: Path, limits: Limits | None = None, **settings: Any) -> Iterator[House]:
    """A server in a thread of this process, over a fresh data folder."""
    chosen = Settings(data_dir=folder, worker=False, **settings)
    db = Database(chosen.database)
    secrets = prepare(db)
    with _serving(chosen, db, limits) as server:
        made = House(chosen, db, server, server_url(server), *secrets)
        try:
            yield made
        finally:
            for client in made.clients.values():
                client.close()


@contextlib.contextmanager
def serve_again(folder: Path) -> Iterator[House]:
    """A server over a data folder that another has left; the keys are not known."""
    chosen = Settings(data_dir=folder, worker=False)
    db = Database(chosen.database)
    with _serving(chosen, db, None) as server:
        yield House(chosen, db, server, server_url(server), "", "", "")


@contextlib.contextmanager
def _serving(settings: Settings, db: Database, limits: Limits | None) -> Iterator[Listener]:
    app = create_app(settings, db, Artifacts(settings.artifacts_dir), local_key="local", limits=limits)
    app.add_middleware(Listening, heard=HEARD)
    server = Listener(app)
    listener = listen("127.0.0.1", 0)
    server.config.port = listener.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        until(lambda: server.started, "the server starts")
        yield server
    finally:
        server.should_exit = True
        thread.join(60)  # at the end of thousands of tests the collector alone takes a process seconds
        listener.close()
        db.dispose()
        assert not thread.is_alive()


def server_url(server: Listener) -> str:
    return f"http://127.0.0.1:{server.config.port}"
