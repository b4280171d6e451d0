"""Whether new work is taken, and if not, why and what to do: seven checks, each with a name, a reason and a cure.

It knows where to look, not who asks: `health` decides who is told the reasons. Looks are shared and kept for a
moment, since anybody may ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.jobs import queue, serving
from inhouse.jobs.queue import Line
from inhouse.schema import JobKind
from inhouse.server import bases
from inhouse.server.edge import Work
from inhouse.server.threads import StoreThreads
from inhouse.settings import Settings
from inhouse.store import migrations
from inhouse.store.records import pins, replicas, workers

KEPT_S = 0.5
"""How long a look is good for whoever asks next."""
STORE_S = 3.0
"""The database must answer within this."""
STALLED_S = 60.0
"""Jobs of a kind that wait this long while none of the kind runs are stalled."""
TRY_AGAIN_S = 15.0
"""How often a declared base that failed to load is asked for again, so that it needs no traffic to come back."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well before new work is taken."""

    name: str
    ok: bool = True
    why: str = ""
    cure: str = ""


NAMES = ("accepting", "database", "schema", "disk", "workers", "queue", "bases")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look into the store finds."""

    schema: str | None
    ready: int
    """Replicas that answer."""
    starting: int
    last_seen_s: float | None
    """How long ago a worker was seen; 0 where one holds a job; None: never."""
    lines: Mapping[JobKind, Line]
    troubles: dict[str, str]
    """Bases that should be served and are not → why."""
    fenced: Mapping[str, str] = field(default_factory=dict)
    """Workers that are there and take no more jobs → why, and what to do."""
    takers: int = 0
    """Workers that are there and take some."""
    gone: tuple[str, ...] = ()
    """Bases whose folder has gone: they are answered as long as they are in memory."""


class Readiness:
    """Looks, at most every KEPT_S and one at a time."""

    def __init__(
        self, settings: Settings, store: StoreThreads, work: Work, declared: Sequence[str] = ()
    ) -> None:
        """declared  names of bases that must have been loaded once before this server is ready"""
        self.settings = settings
        self.store = store
        self.work = work
        self.declared = tuple(declared)
        self.replicas: dict[str, int] | None = None
        """How many are ready and how many start; None: the store did not say."""
        self.gone: tuple[str, ...] = ()
        """Bases whose folder has gone."""
        self._began = time.monotonic()
        self._served: set[str] = set()
        """Bases that have answered since this server began: they may be put out to make room, and come back."""
        self._kept: tuple[float, list[Check]] = (0.0, [])
        self._looking: asyncio.Task[list[Check]] | None = None

    async def look(self) -> list[Check]:
        """Every check of NAMES, in that order."""
        until, found = self._kept
        if until < time.monotonic():
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            found = await asyncio.shield(self._looking)
        return [self._accepting(), *found]

    async def run(self) -> None:
        """Asks again for declared bases that failed to load."""
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            for base in self.declared:
                with contextlib.suppress(InhouseError, SQLAlchemyError):
                    await self.store.run(lambda base=base: self._retry(base))  # type: ignore[misc]

    def _retry(self, base: str) -> None:
        with self.store.db.read() as conn:
            has_failed = base not in self._served and serving.last_fault(conn, base) is not None
        if has_failed:
            serving.ensure_replica(self.store.db, base)

    async def _look(self) -> list[Check]:
        seen: Seen | Check
        try:
            async with asyncio.timeout(STORE_S):
                missing = self._file_is_there()
                seen = missing if missing is not None else await self.store.read(self._see)
        except TimeoutError:
            seen = _no_database(f"It did not answer within {STORE_S:.0f} s.")
        except InhouseError as error:
            seen = _no_database(error.message)
        except SQLAlchemyError as error:
            seen = _no_database(f"It cannot be read ({type(error).__name__}).")
        if isinstance(seen, Check):
            self.replicas, self.gone = None, ()
            unknown = Check("", False, "The database says nothing.", "Mend the check of the database first.")
            found = [seen, *(_named(unknown, n) if n != "disk" else self._disk() for n in NAMES[2:])]
        else:
            self.replicas, self.gone = {"ready": seen.ready, "starting": seen.starting}, seen.gone
            found = [
                Check("database"),
                _schema(seen.schema),
                self._disk(),
                self._workers(seen),
                self._queue(seen.lines),
                _bases(seen.troubles, seen.gone),
            ]
        self._kept = (time.monotonic() + KEPT_S, found)
        return found

    def _see(self, conn: Connection) -> Seen:
        """The schema first: where it is another release's, nothing else may be asked."""
        schema = migrations.revision_of(conn)
        if schema != migrations.NEWEST:
            return Seen(schema, 0, 0, None, {}, {})
        alive, lines, now = replicas.alive(conn), queue.lines(conn), self.store.db.clock(conn)
        self._served |= {replica.base for replica in alive if replica.ready}
        noted = [row for row in workers.all(conn) if row.id != workers.GONE]
        seen_at = max((row.seen_at for row in noted), default=None)
        there = [row for row in noted if now - row.seen_at <= self.settings.lease_s]
        fenced = {row.id: row.fenced for row in there if row.fenced}
        holds = any(line.running for line in lines.values())
        last_seen_s = 0.0 if holds else None if seen_at is None else max(0.0, now - seen_at)
        wanted = dict.fromkeys([*self.declared, *(pin.card.base for pin in pins.all(conn))])
        troubles = {base: why for base in wanted if (why := self._trouble(conn, base))}
        ready = sum(replica.ready for replica in alive)
        return Seen(
            schema,
            ready,
            len(alive) - ready,
            last_seen_s,
            lines,
            troubles,
            fenced,
            len(there) - len(fenced),
            tuple(bases.missing(conn)),
        )

    def _trouble(self, conn: Connection, base: str) -> str | None:
        standing = serving.standing(conn, base)
        if standing == "ready":
            return None
        if fault := serving.last_fault(conn, base):
            return f"{base} could not be loaded: {fault.message}"
        if base in self._served or base not in self.declared:
            return None
        return f"{base} is being loaded." if standing == "loading" else f"{base} is not loaded."

    def _file_is_there(self) -> Check | None:
        """SQLite goes on with a file that somebody has removed, and all that is written there is lost."""
        file = self.store.db.file
        return None if file is None or file.exists() else _no_database(f"{file} is gone.")

    def _accepting(self) -> Check:
        if not self.work.draining:
            return Check("accepting")
        return Check(
            "accepting", False, "The server drains: it was told to stop.", "Ask another, or its successor."
        )

    def _disk(self) -> Check:
        try:
            free = shutil.disk_usage(self.settings.data_dir).free
        except OSError as error:
            return Check(
                "disk", False, f"The data folder cannot be seen: {error.strerror}.", "Mount it again."
            )
        least = self.settings.min_free_bytes
        if free >= least:
            return Check("disk")
        return Check(
            "disk",
            False,
            f"The disk of {self.settings.data_dir} has {free / 2**20:.0f} MiB left, under min_free_bytes "
            f"({least / 2**20:.0f} MiB).",
            "Free some space: uploads, jobs and the database need it.",
        )

    def _workers(self, seen: Seen) -> Check:
        last_seen_s = seen.last_seen_s
        if seen.fenced:
            said = "; ".join(f"{worker} takes no more jobs: {why}" for worker, why in seen.fenced.items())
            return Check(
                "workers",
                seen.takers > 0,
                f"{said}.",
                "Do that on the worker's machine. Its jobs wait meanwhile, or go to other workers; nothing is lost.",
            )
        if last_seen_s is not None and last_seen_s <= self.settings.lease_s:
            return Check("workers")
        return Check(
            "workers",
            False,
            "No worker was ever seen."
            if last_seen_s is None
            else f"No worker was seen for {last_seen_s:.0f} s.",
            f"{self.settings.log_dir / 'worker.log'} may say why. `python -m inhouse.worker` starts one by hand; "
            "with the setting worker = true the server does.",
        )

    def _queue(self, lines: Mapping[JobKind, Line]) -> Check:
        is_young = time.monotonic() - self._began < STALLED_S
        stalled = [
            f"{line.waiting} of kind {kind} wait, one for {line.oldest_s:.0f} s, and none runs."
            for kind, line in lines.items()
            if line.waiting and not line.running and line.oldest_s > STALLED_S and not is_young
        ]
        if not stalled:
            return Check("queue")
        return Check(
            "queue",
            False,
            "Jobs are stalled: " + " ".join(stalled),
            "A worker that is seen and takes none has no slot for them (serve_slots, tune_slots), or its log says why.",
        )


def _no_database(why: str) -> Check:
    return Check(
        "database", False, why, "Start it, or mend what keeps it; nothing that was acknowledged is lost."
    )


def _named(check: Check, name: str) -> Check:
    return Check(name, check.ok, check.why, check.cure)


def _schema(found: str | None) -> Check:
    known = migrations.NEWEST
    if found == known:
        return Check("schema")
    return Check(
        "schema",
        False,
        f"The database has schema {found or 'none'}, this release works with {known}.",
        "Run the release that the schema belongs to; the other one's servers must go.",
    )


def _bases(troubles: dict[str, str], gone: Sequence[str]) -> Check:
    if not troubles and gone:
        why = f"The folder of {', '.join(gone)} has gone. What is in memory is answered; it cannot be loaded again."
        return Check("bases", True, why, "Put the folder back.")
    if not troubles:
        return Check("bases")
    return Check(
        "bases",
        False,
        " ".join(troubles.values()),
        "Loading takes up to a minute. What failed is tried again by itself once its cause is mended.",
    )
