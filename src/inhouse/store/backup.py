"""Backups: every row of one moment and every artifact that those rows need, while the server runs.

A backup of either database restores into either. It holds training data, the hashes of keys, and webhooks' signing
secrets as they are, so it is readable by its owner only; the keys themselves are nowhere. Checkpoints of unfinished
jobs, logs and bases are not in it.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from inhouse.errors import BadCheckpoint, Conflict, InvalidRequest, NotFound
from inhouse.settings import Settings
from inhouse.store import archive, portable
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database, lock, snapshot
from inhouse.store.migrations import (
    NEWEST,
    require_current,
    take_running_work_back,
    upgrade,
)
from inhouse.store.private import make_private
from inhouse.store.records import contents

FORMAT = 1
MARKER = "restoring"
"""In a data folder: a restore was begun here and has not ended."""
MAY_BE_THERE = {MARKER, "run", "inhouse.toml", "lost+found"}
"""What an empty data folder may hold all the same."""
_TRIES = 5
"""How often the rows are read anew because something they named was deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup holds."""

    revision: str
    made_at: float
    """Unix seconds, by the database's clock."""
    rows: int
    artifacts: int
    bytes: int
    lost: tuple[str, ...] = ()
    """What rows name and the house had lost, or only damaged, before: it is not in the backup."""


@dataclass(slots=True)
class _Moment:
    """The rows of one moment, spooled, and what they need."""

    tables: dict[str, BinaryIO]
    about: dict[str, Any]
    needed: list[contents.Content]


def make(db: Database, artifacts: Artifacts, path: Path) -> Summary:
    """Write a backup to `path`: a tar where the name ends in .tar, else a folder.

    The rows are of one moment; contents that arrive later are not in it. Where something that the rows name is
    deleted before it was copied, the rows are read anew. Raises Conflict, StorageFull, InvalidRequest.
    """
    about: dict[str, Any] = {}
    with archive.writing(path, about) as out, ExitStack() as spools:
        copied: dict[str, list[str]] = {}
        before: list[str] | None = None
        for _ in range(_TRIES):
            spools.close()
            moment = _read_rows(db, path.parent, spools)
            lost = _copy(artifacts, moment.needed, out, copied)
            if not lost or lost == before:
                break
            before = lost
        for name, spool in moment.tables.items():
            size = spool.tell()
            spool.seek(0)
            out.add(f"tables/{name}.jsonl", spool, size)
        kept = {digest for content in moment.needed for digest in copied.get(content.digest, ())}
        about.update(moment.about, artifacts=sorted(kept), lost=lost)
    return _summary(about | {"files": out.files})


def verify(path: Path) -> tuple[Summary, list[str]]:
    """What the backup holds, and everything that is wrong with it. Raises BadCheckpoint where it is none."""
    with archive.reading(path) as found:
        manifest = archive.manifest_of(found)
        return _summary(manifest), list(archive.faults(found, manifest))


def restore(path: Path, settings: Settings) -> Summary:
    """Put a backup into an empty place; it is verified as a whole before anything is written.

    The rows come in one transaction, after the contents: a restore that is cut leaves no database, and a marker that
    keeps a server from starting; run it again. Rows of an older release are brought to this one's schema. Raises
    BadCheckpoint for a backup that is damaged, and Conflict for a place that is not empty.
    """
    with archive.reading(path) as found:
        manifest = archive.manifest_of(found)
        if manifest["revision"] > NEWEST:
            raise InvalidRequest(
                f"The backup has schema {manifest['revision']}, this release knows up to {NEWEST}: a newer one made "
                "it. Restore it with that release.",
                code="newer_schema",
            )
        if wrong := list(archive.faults(found, manifest)):
            raise BadCheckpoint(
                f"The backup is damaged, so nothing was restored: {'; '.join(wrong[:5])}. Take another one.",
                code="corrupt_backup",
            )
        _require_empty(settings.data_dir)
        marker = settings.data_dir / MARKER
        marker.touch(mode=0o600)
        db = Database(settings.database)
        try:
            with db.read() as conn:
                _require_no_tables(conn)
            artifacts = Artifacts(settings.artifacts_dir)
            for digest in manifest["artifacts"]:
                with found.open(f"artifacts/{digest}") as file:
                    artifacts.put_stream(iter(partial(file.read, archive.CHUNK_BYTES), b""))
            with db.write() as conn:
                lock(conn, "migrate")
                _require_no_tables(conn)
                _insert(conn, found, manifest)
        finally:
            db.dispose()
        marker.unlink()
    return _summary(manifest)


def refuse_unfinished(data_dir: Path) -> None:
    """Raises Conflict where a restore into this data folder was begun and has not ended."""
    if (data_dir / MARKER).exists():
        raise Conflict(
            f"A restore into {data_dir} was cut before its end. Run it again, or empty the folder and start anew."
        )


# ── making ────────────────────────────────────────────────────────────────────────────────────────────────


def _read_rows(db: Database, folder: Path, spools: ExitStack) -> _Moment:
    """Every row of one moment, in files without a name that are gone with this process."""
    spooled: dict[str, BinaryIO] = {}
    rows: dict[str, int] = {}
    with db.read() as conn:
        snapshot(conn)
        require_current(conn)
        for table in portable.tables(conn):
            spool = spools.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - the stack closes it
            rows[table.name] = portable.write(conn, table, spool)
            spooled[table.name] = spool
        about = {
            "format": FORMAT,
            "revision": NEWEST,
            "made_at": db.clock(conn),
            "rows": rows,
            "counters": portable.counters(conn),
        }
        return _Moment(spooled, about, contents.needed(conn))


def _copy(
    artifacts: Artifacts, needed: list[contents.Content], out: archive.Writer, copied: dict[str, list[str]]
) -> list[str]:
    """Copy what is needed and not in `copied`, and note it there; returns what could not be, with its owner and why."""
    lost = []
    for content in needed:
        if content.digest in copied:
            continue
        try:
            parts = [content.digest]
            if content.is_folder:
                parts += [entry["sha256"] for entry in artifacts.manifest(content.digest).values()]
            for digest in dict.fromkeys(parts):
                if f"artifacts/{digest}" not in out.files:
                    _copy_one(artifacts, digest, out)
            copied[content.digest] = parts
        except (NotFound, BadCheckpoint) as e:
            lost.append(f"{content.owner}: {e.message}")
    return lost


def _copy_one(artifacts: Artifacts, digest: str, out: archive.Writer) -> None:
    artifacts.verify(digest)  # before: what is in a tar stays in it
    with artifacts.open(digest) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        assert out.add(f"artifacts/{digest}", file, size) == digest, "an artifact never changes in place"


# ── restoring ─────────────────────────────────────────────────────────────────────────────────────────────


def _require_empty(data_dir: Path) -> None:
    make_private(data_dir)
    is_cut = (data_dir / MARKER).exists()
    there = {p.name for p in data_dir.iterdir()} - MAY_BE_THERE
    if is_cut:
        there = {name for name in there if name != "artifacts" and not name.startswith("inhouse.db")}
    if there:
        raise Conflict(
            f"{data_dir} is not empty: it holds {', '.join(sorted(there)[:5])}. Restore into an empty folder "
            "(INHOUSE_DATA_DIR), so that nothing is written over."
        )


def _require_no_tables(conn: sa.Connection) -> None:
    if sa.inspect(conn).get_table_names():
        raise Conflict(
            "The database is not empty. Restore into an empty one, so that nothing is written over."
        )


def _insert(conn: sa.Connection, found: archive.Reader, manifest: dict[str, Any]) -> None:
    upgrade(conn, manifest["revision"])
    for table in portable.tables(conn):
        with found.open(f"tables/{table.name}.jsonl") as lines:
            count = portable.read(conn, table, iter(lines))
        assert count == manifest["rows"][table.name], f"{table.name}: the backup says another number of rows"
    portable.set_counters(conn, manifest["counters"])
    take_running_work_back(conn)
    upgrade(conn, NEWEST)


def _summary(manifest: dict[str, Any]) -> Summary:
    return Summary(
        revision=manifest["revision"],
        made_at=manifest["made_at"],
        rows=sum(manifest["rows"].values()),
        artifacts=len(manifest["artifacts"]),
        bytes=sum(size for size, _ in manifest["files"].values()),
        lost=tuple(manifest["lost"]),
    )
