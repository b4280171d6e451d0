"""`inhouse backup`, `restore` and `verify`: the data folder and the database of this machine, without a server.

It knows words for people; `store` knows what a backup is.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse import settings as settings_module
from inhouse.cli.terminal import Json, err, json_line, out, speaks_json, told, when
from inhouse.errors import InvalidRequest
from inhouse.settings import Settings

if TYPE_CHECKING:
    from inhouse.store.backup import Summary
    from inhouse.store.db import Database

PACKED = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z")
DataDir = Annotated[Path | None, typer.Option(help="The data folder. Default: the settings'.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… instead of SQLite.")]


@told
def backup(
    to: Annotated[Path, typer.Argument(help="A new folder; or a file, where the name ends in .tar.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Copy database and artifacts as they are at one moment; the server may run. Exit code 1 where something that
    rows name was lost before, and so is not in it."""
    if to.suffix.lower() in PACKED:
        tar = to.with_suffix("") if to.stem.endswith(".tar") else to.with_suffix(".tar")
        raise InvalidRequest(
            f"A backup is a folder or a .tar, not a {to.suffix}. Write it to {tar}, and pack that.",
            param="to",
        )
    settings = _settings(data_dir, database_url)
    if to.resolve().is_relative_to(settings.data_dir.resolve()):
        raise InvalidRequest(
            f"{to} lies in the data folder {settings.data_dir}, and would be lost with it. Name a place elsewhere.",
            param="to",
        )
    from inhouse.store import backup
    from inhouse.store.artifacts import Artifacts

    db = _database(settings)
    try:
        made = backup.make(db, Artifacts(settings.artifacts_dir), to.absolute())
    finally:
        db.dispose()
    _tell(made, f"Backup in {to}", as_json)


@told
def restore(
    file: Annotated[Path, typer.Argument(help="A backup: the folder or the .tar.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Put a backup into an empty data folder and an empty database, of either kind, after verifying all of it."""
    settings = _settings(data_dir, database_url)
    from inhouse.server.place import Place
    from inhouse.store import backup

    place = Place(settings)
    place.take()  # no server may start there meanwhile
    try:
        restored = backup.restore(file, settings)
    finally:
        place.leave()
    _tell(restored, f"Restored into {settings.data_dir}", as_json)


@told
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="A backup. Without it: the data folder and its database.")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Read a backup, or the live data, and name whatever is damaged or missing. Exit code 1 where something is."""
    settings = _settings(data_dir, database_url)
    from inhouse.store import backup, inspection
    from inhouse.store.artifacts import Artifacts

    if file is not None:
        summary, wrong = backup.verify(file)
        about = {"rows": summary.rows, "artifacts": summary.artifacts, "made_at": summary.made_at}
        wrong += [f"lost before the backup was made: {lost}" for lost in summary.lost]
        what = f"{file}, made {when(summary.made_at)}"
    else:
        db = _database(settings)
        try:
            found = inspection.inspect(db, Artifacts(settings.artifacts_dir))
        finally:
            db.dispose()
        about = {"rows": found.rows, "artifacts": found.artifacts, "acts": found.acts}
        what, wrong = str(settings.data_dir), found.wrong
    if speaks_json(as_json):
        json_line({"intact": not wrong, **about, "wrong": wrong})
    else:
        for line in wrong:
            out.print(line, style="red", markup=False, soft_wrap=True)
        unit = "artifacts" if file is None else "files of artifacts"
        counts = f"{about['rows']:,} rows, {about['artifacts']:,} {unit}"
        verdict = "whole" if not wrong else f"not whole: {len(wrong)} faults"
        out.print(f"{what}: {counts}, {verdict}.", markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def _settings(data_dir: Path | None, database_url: str | None) -> Settings:
    settings = settings_module.load({"data_dir": data_dir, "database_url": database_url})
    try:
        import sqlalchemy  # noqa: F401 - the server's packages are here, or they are not
    except ModuleNotFoundError as e:
        raise InvalidRequest(
            f"This installation has no server ({e.name} is missing). Run: pip install 'inhouse[server]'"
        ) from e
    os.umask(0o077)  # what this process makes is for its own user's eyes only
    return settings


def _database(settings: Settings) -> Database:
    from inhouse.store.db import Database

    if not settings.database_url and not (settings.data_dir / "inhouse.db").is_file():
        raise InvalidRequest(
            f"There is no database in {settings.data_dir}. Name the data folder with --data-dir."
        )
    return Database(settings.database)


def _tell(summary: Summary, what: str, as_json: bool) -> None:
    if speaks_json(as_json):
        json_line(dataclasses.asdict(summary))
    else:
        out.print(
            f"{what}: {summary.rows:,} rows, {summary.artifacts:,} files of artifacts, {summary.bytes:,} bytes.",
            markup=False,
            soft_wrap=True,
        )
        for line in summary.lost:
            err.print(f"lost before, and not in it: {line}", style="red", markup=False, soft_wrap=True)
    if summary.lost:
        raise typer.Exit(1)
