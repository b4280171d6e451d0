"""A backup is whole or no backup; what comes back is what was there, from either database into either."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from inhouse.errors import Conflict, InvalidRequest
from inhouse.settings import Settings
from inhouse.store import archive, backup, inspection, portable
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import NEWEST, migrate
from inhouse.store.records import contents, projects
from inhouse.store.tables import files as files_table
from inhouse.store.tables import jobs, metadata
from tests.postgres import Cluster
from tests.store.furnished import every_row, file_row, opened


@pytest.fixture(params=["into sqlite", "into postgres"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An empty place of each kind."""
    url = ""
    if request.param == "into postgres":
        cluster: Cluster = request.getfixturevalue("postgres")
        url = cluster.new_database()
    return Settings(data_dir=tmp_path / "elsewhere", database_url=url)


# ── whole ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_row_and_content_comes_back_on_either_database(
    db: Database, artifacts: Artifacts, digests: dict[str, str], target: Path, elsewhere: Settings
) -> None:
    made = backup.make(db, artifacts, target)
    assert made.lost == () and made.rows >= len(metadata.tables)
    assert backup.verify(target) == (made, [])
    assert backup.restore(target, elsewhere) == made
    there, contents_there = opened(elsewhere)
    assert every_row(there) == every_row(db)
    for table, rows in every_row(there).items():
        assert rows.count(b"\n") >= 2, f"{table} had no row to lose"
    contents_there.verify(digests["upload"])
    contents_there.verify_folder(digests["model"])
    found = inspection.inspect(there, contents_there)
    assert (found.wrong, found.rows, found.acts) == ([], made.rows, 3)
    assert migrate(there) == NEWEST
    there.dispose()


def test_a_restored_database_counts_on_where_the_old_one_stopped(
    db: Database, artifacts: Artifacts, digests: dict[str, str], target: Path, elsewhere: Settings
) -> None:
    with db.write() as conn:  # the newest project is deleted: its number must not be given out again
        projects.ensure(conn, "gone", 1.0)
        newest = conn.scalar(sa.text("SELECT max(seq) FROM projects"))
        conn.exec_driver_sql("DELETE FROM projects WHERE name = 'gone'")
    backup.make(db, artifacts, target)
    backup.restore(target, elsewhere)
    there, _ = opened(elsewhere)
    with there.write() as conn:
        projects.ensure(conn, "next", 1.0)
        assert conn.scalar(sa.text("SELECT seq FROM projects WHERE name = 'next'")) == newest + 1
    there.dispose()


def test_what_was_running_waits_and_whoever_ran_it_has_lost_it(
    db: Database, artifacts: Artifacts, digests: dict[str, str], target: Path, tmp_path: Path
) -> None:
    with db.write() as conn:
        conn.execute(sa.update(jobs).values(state="running", lease_until=9e9, kind="serve", fence=7))
    backup.make(db, artifacts, target)
    settings = Settings(data_dir=tmp_path / "elsewhere")
    backup.restore(target, settings)
    there, _ = opened(settings)
    with there.read() as conn:
        found = conn.execute(sa.select(jobs.c.state, jobs.c.fence, jobs.c.lease_until)).one()
    assert tuple(found) == ("queued", 8, None)
    there.dispose()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    db: Database, artifacts: Artifacts, tmp_path: Path, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Database(f"sqlite:///{tmp_path / 'old.db'}")
    migrate(old, to="0004")
    with old.write() as conn:
        conn.exec_driver_sql("INSERT INTO projects (id, name, created_at) VALUES ('p', 'kept', 1.0)")
        conn.exec_driver_sql(
            "INSERT INTO keys (id, project, name, secret_hash, role, created_at) "
            "VALUES ('key_1', 'p', 'n', 'h', 'admin', 1.0)"
        )
    with monkeypatch.context() as earlier:  # as that release would have made it
        earlier.setattr(backup, "NEWEST", "0004")
        earlier.setattr(backup, "require_current", lambda conn: None)
        earlier.setattr(contents, "needed", lambda conn: [])
        backup.make(old, artifacts, tmp_path / "old.tar")
    backup.restore(tmp_path / "old.tar", elsewhere)
    there, _ = opened(elsewhere)
    with there.read() as conn:
        assert [p.name for p in projects.all(conn)] == ["kept"]
        assert conn.scalar(sa.text("SELECT account FROM keys")) == "svc_acct_1"
    old.dispose()
    there.dispose()


def test_a_backup_of_a_newer_release_is_refused(
    db: Database, artifacts: Artifacts, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr(backup, "NEWEST", "9999")
        backup.make(db, artifacts, target)
    with pytest.raises(InvalidRequest, match="a newer one made it"):
        backup.restore(target, Settings(data_dir=tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere").exists()


def test_every_column_that_names_an_artifact_is_known() -> None:
    """A new table with a digest must say in records/contents whether its artifact has to be kept."""
    found = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if "digest" in column.name and column.name != "base_digest"
    }
    assert found == {"files.digest", "models.digest", "batches.digest"}


# ── while others work ─────────────────────────────────────────────────────────────────────────────────────


class Busy:
    """A house that uploads all the time, each upload a content and then a row, as the server does it."""

    def __init__(self, url: str, artifacts: Artifacts) -> None:
        self._db = Database(url)
        self._artifacts = artifacts
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            digest, size = self._artifacts.put_stream([f"upload {number} ".encode() * 999])
            with self._db.write() as conn:
                conn.execute(files_table.insert().values(file_row(f"file-{number}", digest, size)))
            if number % 3 == 0:  # as a forgetting does it: the row goes, then the content
                with self._db.write() as conn:
                    conn.execute(files_table.delete().where(files_table.c.id == f"file-{number}"))
                self._artifacts.delete(digest)

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._db.dispose()


def test_what_arrives_and_goes_meanwhile_leaves_every_backup_whole(
    db: Database, database_url: str, artifacts: Artifacts, digests: dict[str, str], tmp_path: Path
) -> None:
    rows = []
    with Busy(database_url, artifacts):
        for number in range(4):
            path = tmp_path / f"{number}.tar"
            assert backup.make(db, artifacts, path).lost == ()
            time.sleep(0.05)
            rows.append(backup.verify(path)[0].rows)
    assert rows == sorted(rows) and rows[-1] > rows[0], "somebody worked meanwhile"
    for number in range(4):
        settings = Settings(data_dir=tmp_path / f"again-{number}")
        backup.restore(tmp_path / f"{number}.tar", settings)
        there, contents_there = opened(settings)
        assert inspection.inspect(there, contents_there).wrong == []
        there.dispose()


def test_without_one_moment_a_backup_holds_rows_that_never_were_together_control(
    postgres_url: str, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows that are written in one transaction are torn apart where each table is read by itself. (On SQLite a
    transaction is of one moment anyway.)"""
    db = Database(postgres_url)
    migrate(db)

    def torn(is_guarded: bool) -> bool:
        other = Database(postgres_url)
        honest, seen = portable.write, []

        def between_two_tables(conn: sa.Connection, table: sa.Table, out: object) -> int:
            if table.name in ("files", "projects") and not seen:
                seen.append(table.name)
                count = honest(conn, table, out)  # type: ignore[arg-type]
                with other.write() as writer:
                    id = f"{is_guarded}"
                    projects.ensure(writer, id, 1.0)
                    writer.execute(files_table.insert().values(file_row(f"file-{id}", digest)))
                return count
            return honest(conn, table, out)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(portable, "write", between_two_tables)
            if not is_guarded:
                patched.setattr(backup, "snapshot", lambda conn: None)
            backup.make(db, artifacts, tmp_path / f"{is_guarded}")
        other.dispose()
        tables = tmp_path / f"{is_guarded}" / "tables"
        found = [f"{is_guarded}" in (tables / f"{name}.jsonl").read_text() for name in ("files", "projects")]
        return found[0] != found[1]

    digest, _ = artifacts.put_stream([b"both or neither"])
    assert not torn(is_guarded=True)
    assert torn(is_guarded=False)
    db.dispose()


@pytest.mark.parametrize("tries", [5, 1])
def test_rows_are_read_anew_where_their_content_went_meanwhile(
    db: Database,
    artifacts: Artifacts,
    digests: dict[str, str],
    target: Path,
    tries: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard is the second look; with one look alone (the control) the backup names what it has not."""
    monkeypatch.setattr(backup, "_TRIES", tries)
    honest = backup._copy
    with db.write() as conn:
        gone, _ = artifacts.put_stream([b"forget me"])
        conn.execute(files_table.insert().values(file_row("file-gone", gone)))

    def forget_then_copy(*arguments: object) -> list[str]:
        with db.write() as conn:
            conn.execute(files_table.delete().where(files_table.c.id == "file-gone"))
        artifacts.delete(gone)
        return honest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_copy", forget_then_copy)
    made = backup.make(db, artifacts, target)
    if tries == 1:
        assert len(made.lost) == 1 and "file-gone" in made.lost[0]
        return
    assert made.lost == ()
    assert backup.verify(target) == (made, [])


def test_what_was_lost_before_is_named_and_the_rest_is_kept(
    db: Database, artifacts: Artifacts, digests: dict[str, str], target: Path, tmp_path: Path
) -> None:
    damaged = artifacts.path(digests["upload"])
    damaged.chmod(0o600)
    damaged.write_bytes(b"something else")
    part = next(iter(artifacts.manifest(digests["model"]).values()))["sha256"]
    artifacts.path(part).unlink()
    made = backup.make(db, artifacts, target)
    assert [line.split(" ")[0] for line in made.lost] == ["file", "model"]
    assert "is damaged" in made.lost[0] and part in made.lost[1]
    assert backup.verify(target) == (made, []), "what is in it is as it was written"
    found = inspection.inspect(db, artifacts)
    assert len(found.wrong) == 2 and digests["upload"] in found.wrong[0] and part in found.wrong[1]
    backup.restore(target, Settings(data_dir=tmp_path / "elsewhere"))


# ── the place ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def made(db: Database, artifacts: Artifacts, digests: dict[str, str], tmp_path: Path) -> Path:
    backup.make(db, artifacts, tmp_path / "house.tar")
    return tmp_path / "house.tar"


def test_nothing_is_written_over(
    made: Path, db: Database, database_url: str, artifacts: Artifacts, tmp_path: Path
) -> None:
    before = every_row(db)
    with pytest.raises(Conflict, match="there already"):
        backup.make(db, artifacts, made)
    settings = Settings(data_dir=tmp_path / "elsewhere", database_url=database_url)
    with pytest.raises(Conflict, match="The database is not empty"):
        backup.restore(made, settings)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"it holds thesis\.txt"):
        backup.restore(made, Settings(data_dir=tmp_path / "full"))
    assert every_row(db) == before
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_restore_that_was_cut_is_told_and_goes_through_when_it_is_run_again(
    made: Path, db: Database, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutError(Exception):
        pass

    def cut(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as broken:
        broken.setattr(portable, "set_counters", cut)
        with pytest.raises(CutError):
            backup.restore(made, elsewhere)
    with pytest.raises(Conflict, match="was cut before its end"):
        backup.refuse_unfinished(elsewhere.data_dir)
    server = subprocess.run(
        [sys.executable, "-m", "inhouse.server", "--port", "0"],
        env={**os.environ, **elsewhere.environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert server.returncode == 1 and "was cut before its end" in server.stderr
    backup.restore(made, elsewhere)
    backup.refuse_unfinished(elsewhere.data_dir)
    there, _ = opened(elsewhere)
    assert every_row(there) == every_row(db)
    there.dispose()


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_only_its_owner_can_read_a_backup_whatever_the_umask(
    db: Database, artifacts: Artifacts, digests: dict[str, str], target: Path, open_umask: None
) -> None:
    backup.make(db, artifacts, target)
    for path in [target, *target.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_tar_takes_members_of_any_size(tmp_path: Path) -> None:
    """The content is cut short: how its size is written does not depend on it."""
    path = tmp_path / "x.tar"
    with pytest.raises(OSError, match="unexpected end"), archive._TarPlace.making(path) as place:
        place.add("artifacts/x", io.BytesIO(), 9 << 30)  # type: ignore[arg-type]
    with tarfile.open(path) as tar:
        about = tar.next()
    assert about is not None and (about.name, about.size) == ("artifacts/x", 9 << 30)
