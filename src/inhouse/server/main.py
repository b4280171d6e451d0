"""A server from start to end: its data folder, its first key, its bases, its worker, its last breath.

It knows the order of things; each thing itself is another file's. `run` is what `inhouse up` calls.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

from sqlalchemy import Connection

from inhouse import logs
from inhouse import settings as settings_module
from inhouse.errors import InhouseError
from inhouse.jobs import serving
from inhouse.jobs.launch import LocalLauncher
from inhouse.server import audit, auth, bases, descriptors
from inhouse.server.app import create_app
from inhouse.server.listener import Listener
from inhouse.server.place import Place, listen, url_of
from inhouse.server.version import VERSION
from inhouse.settings import Settings
from inhouse.store import backup
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import audit as acts
from inhouse.store.records import batches, jobs, keys, projects

log = logging.getLogger(__name__)

UNFINISHED = ("validating_files", "queued", "running")
LOOK_EVERY_S = 1.0
WORKER_GRACE_S = 15.0
"""Longer than the 10 s in which a worker stops its own children: it must not be killed before them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m inhouse.server`: every setting is a flag. Returns the exit code."""
    asked = vars(_parser().parse_args(arguments))
    named = asked.pop("bases") or []
    owner = asked.pop("linger_owner")
    try:
        settings = settings_module.load(asked | {"base": named[0] if named else None})
        logs.configure(
            settings.log_level, settings.log_format, "server", file=settings.log_dir / "server.log"
        )
        run(settings, more_bases=named[1:], linger_owner=owner)
    except InhouseError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def run(
    settings: Settings,
    *,
    more_bases: Sequence[str] = (),
    linger_owner: int | None = None,
    say: Callable[[str], object] | None = None,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serves until it is told to stop. Raises InhouseError for what keeps it from starting.

    `say` gets the one text that is for the operator's eyes only: the first admin key (standard output if not
    given). `on_ready` gets the address once requests are answered. With `linger_owner` the server was started
    for that process; it then prints no key, and goes when the process has gone and nothing is left to do.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(os.umask, os.umask(0o077))  # what this process makes is for its own user's eyes only
        descriptors.raise_limit()
        place = Place(settings)
        place.take()
        undo.callback(place.leave)
        backup.refuse_unfinished(settings.data_dir)
        listener = listen(settings.host, settings.port)
        undo.callback(listener.close)
        db = Database(settings.database)
        undo.callback(db.dispose)
        migrate(db, settings.data_dir / "backups")
        artifacts = Artifacts(settings.artifacts_dir)
        artifacts.sweep_partial()
        default_base = _prepare(db, settings, more_bases)
        audit.note_start(db, settings, VERSION)
        local_key = auth.new_secret()
        app = create_app(settings, db, artifacts, local_key=local_key, declared=(default_base,))
        server = Listener(app)
        if linger_owner is None:
            _first_key(db, say or _to_stdout)
        with contextlib.suppress(
            InhouseError
        ):  # a base that just failed to load is tried when it is asked for
            serving.ensure_replica(db, default_base)

        async def serve() -> None:
            serving_task = asyncio.create_task(server.serve(sockets=[listener]))
            while not (server.started or serving_task.done()):
                await asyncio.sleep(0.01)
            if server.started:
                url = url_of(listener)
                place.announce(url, local_key)
                log.info("serving at %s", url)
                if on_ready is not None:
                    on_ready(url)
            beside = [asyncio.create_task(_keep_worker(server, settings))] if settings.worker else []
            if linger_owner is not None:
                beside.append(asyncio.create_task(_leave_when_unneeded(server, db, settings, linger_owner)))
            try:
                await serving_task
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

        gc.collect()
        gc.freeze()  # what is here stays: a look through all of it while 1,000 streams run would hold each of them up
        undo.callback(gc.unfreeze)
        with _without_interrupt():
            asyncio.run(serve())


def _prepare(db: Database, settings: Settings, more_bases: Sequence[str]) -> str:
    """Makes the default project and registers the bases; returns the default base's name."""

    def change(conn: Connection) -> str:
        now = db.clock(conn)
        projects.ensure(conn, projects.DEFAULT, now)
        bases.register(conn, bases.EMBEDDED, now)
        for what in more_bases:
            bases.register(conn, what, now)
        return bases.register(conn, settings.base, now).name

    with db.write() as conn:
        return change(conn)


def _first_key(db: Database, say: Callable[[str], object]) -> None:
    """The first start makes an admin key and says it once; only its hash is kept."""
    secret = auth.new_secret()
    with db.write() as conn:
        if keys.any(conn, role="admin"):  # keys that programs made for themselves are no reason to say none
            return
        now = db.clock(conn)
        id = keys.add(
            conn,
            project=projects.DEFAULT,
            name="first",
            secret_hash=auth.hash_of(secret),
            role="admin",
            now=now,
            shown=auth.shown_of(secret),
        )
        acts.add(
            conn, actor=acts.SERVER, project=projects.DEFAULT, type="api_key.created", target=id, now=now
        )
    say(f"Admin key, shown this once and kept nowhere: {secret}\n")


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _keep_worker(server: Listener, settings: Settings) -> None:
    """Keeps a worker running on this machine; stops it in the end."""
    launcher = LocalLauncher(settings)
    has_begun = False
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="launcher") as thread:
        try:
            while True:
                try:
                    await loop.run_in_executor(thread, launcher.check if has_begun else launcher.start)
                    has_begun = True
                    server.gateway.work.worker_restarts = launcher.restarts
                except OSError as error:  # no memory, no process, no room for the log: it may pass
                    log.error("the worker could not be started, tried again: %s", error.strerror)
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            thread.submit(launcher.stop, 0.0 if server.force_exit else WORKER_GRACE_S)


async def _leave_when_unneeded(server: Listener, db: Database, settings: Settings, owner: int) -> None:
    """Ends the server once its owner is gone, no tuning job is left and nobody has asked for linger_s."""
    work, store = server.gateway.work, server.gateway.store
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        quiet_s = time.monotonic() - work.last_request
        if work.active or quiet_s < settings.linger_s or _is_alive(owner):
            continue
        with contextlib.suppress(InhouseError):
            if not await store.read(_has_work):
                server.handle_exit()
                return


def _has_work(conn: Connection) -> bool:
    """Whether somebody's job or batch is yet to end. A paused job waits for its owner, whose client starts a server."""
    left = jobs.with_state(conn, "tune", UNFINISHED)
    is_running = any(job.paused_at is None or job.state == "running" for job in left)
    return is_running or batches.any_unfinished(conn)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """A Ctrl-C that arrives before the server has its own handler ends quietly."""
    with contextlib.suppress(KeyboardInterrupt):
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inhouse.server", description="Serve models in-house.")
    for field in fields(Settings):
        if field.name != "base":
            parser.add_argument("--" + field.name.replace("_", "-"), default=None)
    parser.add_argument(
        "--base", dest="bases", action="append", help="name, folder or hub id; the first is the default base"
    )
    parser.add_argument("--linger-owner", type=int, default=None, help="process this server was started for")
    return parser
