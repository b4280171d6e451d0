"""A backup that was cut, changed or had no room is never taken for whole; damage of what is live is named."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from inhouse.errors import BadCheckpoint, InhouseError, InvalidRequest, StorageFull
from inhouse.settings import Settings
from inhouse.store import archive, backup, inspection
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.tables import files as files_table
from tests.store.conftest import FORMS
from tests.store.furnished import every_row, file_row, furnish, opened


def wrong_with(path: Path) -> list[str]:
    """What verify finds; a backup that is none is one thing."""
    try:
        return backup.verify(path)[1]
    except InhouseError as e:
        return [e.message]


def test_a_hundred_flipped_bits_of_a_hundred_are_found(
    db: Database, artifacts: Artifacts, digests: dict[str, str], target: Path, tmp_path: Path
) -> None:
    backup.make(db, artifacts, target)
    pieces = [target] if target.is_file() else [p for p in sorted(target.rglob("*")) if p.is_file()]
    chance = random.Random(11)
    found = 0
    for _ in range(100):
        piece = chance.choice(pieces)
        whole = piece.read_bytes()
        at = chance.randrange(len(whole))
        piece.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        found += bool(wrong_with(target))
        with pytest.raises((BadCheckpoint, InvalidRequest)):
            backup.restore(target, Settings(data_dir=tmp_path / "elsewhere"))
        piece.write_bytes(whole)
    assert found == 100
    assert wrong_with(target) == []
    assert not (tmp_path / "elsewhere").exists()


def test_every_flip_in_the_manifest_itself_is_found(
    db: Database, artifacts: Artifacts, digests: dict[str, str], tmp_path: Path
) -> None:
    """Most of them change nothing that another digest would tell: when it was made, how keys count, what was lost."""
    backup.make(db, artifacts, tmp_path / "house")
    manifest = tmp_path / "house" / archive.MANIFEST
    whole = manifest.read_bytes()
    chance = random.Random(12)
    for _ in range(200):
        at = chance.randrange(len(whole))
        manifest.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        with pytest.raises(BadCheckpoint, match="damaged"):
            backup.verify(tmp_path / "house")


def test_without_digests_a_flipped_bit_is_restored_control(
    db: Database,
    artifacts: Artifacts,
    digests: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup.make(db, artifacts, tmp_path / "house")
    rows = tmp_path / "house" / "tables" / "keys.jsonl"
    flipped = rows.read_bytes().replace(b"1792168984.1", b"1792168985.1")
    assert flipped != rows.read_bytes()
    rows.write_bytes(flipped)
    settings = Settings(data_dir=tmp_path / "elsewhere")
    with pytest.raises(BadCheckpoint, match=r"keys\.jsonl is damaged"):
        backup.restore(tmp_path / "house", settings)
    monkeypatch.setattr(archive, "faults", lambda *_: iter(()))
    backup.restore(tmp_path / "house", settings)
    there, _ = opened(settings)
    assert every_row(there)["keys"] != every_row(db)["keys"], "the harm: another key than was kept"
    there.dispose()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("harm", ["cut", "more", "less"])
def test_a_backup_that_lacks_or_gained_something_is_found(
    db: Database, artifacts: Artifacts, digests: dict[str, str], tmp_path: Path, form: str, harm: str
) -> None:
    target = tmp_path / form
    backup.make(db, artifacts, target)
    if target.is_file():
        whole = target.read_bytes()
        changed = {"cut": whole[: len(whole) // 2], "more": whole + b"x", "less": whole[:-1]}[harm]
        target.write_bytes(changed)
    else:
        piece = target / "artifacts" / digests["upload"]
        if harm == "cut":
            os.truncate(piece, 3)
        elif harm == "less":
            piece.unlink()
        else:
            (target / "artifacts" / ("0" * 64)).write_bytes(b"a stranger")
    assert len(wrong_with(target)) == 1


CHILD = """
import sys
from pathlib import Path
from inhouse.store import backup
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
print("ready", flush=True)
backup.make(Database(sys.argv[1]), Artifacts(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def killed_at(moment_s: float, arguments: list[str]) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(moment_s)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()


def test_a_backup_cut_by_kill_9_is_never_taken_for_whole(
    db: Database, database_url: str, artifacts: Artifacts, digests: dict[str, str], target: Path
) -> None:
    with db.write() as conn:
        for number in range(40):
            digest, size = artifacts.put_stream([random.Random(number).randbytes(200_000)])
            conn.execute(files_table.insert().values(file_row(f"file-{number}", digest, size)))
    chance = random.Random(5)
    for _ in range(4):
        killed_at(chance.uniform(0.0, 0.4), [database_url, str(artifacts.root), str(target)])
        if target.exists():
            assert wrong_with(target) == [], "it was whole before the kill, or is no backup"
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    backup.make(db, artifacts, target)
    whole, wrong = backup.verify(target)
    assert wrong == []
    for leftover in target.parent.glob("*.partial-*"):
        if wrong_with(leftover) == []:  # killed when all was written, and before it had its name
            assert backup.verify(leftover)[0].rows == whole.rows, "half a backup is none, whatever its name"


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_leaves_no_backup_and_no_scraps(
    db: Database, artifacts: Artifacts, digests: dict[str, str], small_disk: Path, form: str
) -> None:
    with db.write() as conn:
        for number in range(8):
            digest, size = artifacts.put_stream([random.Random(number).randbytes(200_000)])
            conn.execute(files_table.insert().values(file_row(f"file-{number}", digest, size)))
    with pytest.raises(StorageFull) as caught:
        backup.make(db, artifacts, small_disk / form)
    assert caught.value.status == 507
    assert list(small_disk.iterdir()) == []


def test_a_changed_act_and_a_lost_row_are_named(
    db: Database, artifacts: Artifacts, digests: dict[str, str]
) -> None:
    assert inspection.inspect(db, artifacts).wrong == []
    with db.write() as conn:
        trigger = "audit_no_change ON audit" if db.is_postgres else "audit_no_update"
        conn.exec_driver_sql(f"DROP TRIGGER {trigger}")
        conn.exec_driver_sql("UPDATE audit SET target = 'key_9' WHERE seq = 2")
    wrong = inspection.inspect(db, artifacts).wrong
    assert len(wrong) == 1 and wrong[0].startswith("audit log, act 2:")


def test_a_damaged_sqlite_file_is_told(sqlite_url: str, artifacts: Artifacts, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    migrate(db)
    furnish(db, artifacts, tmp_path)
    db.dispose()
    assert db.file is not None
    with db.file.open("r+b") as file:
        for page in range(2, file.seek(0, 2) // 4096, 3):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    found = inspection.inspect(Database(sqlite_url), artifacts)
    assert found.wrong and all("database" in line.lower() for line in found.wrong)


def test_a_name_in_an_archive_never_becomes_a_path(tmp_path: Path) -> None:
    made = tmp_path / "rows.jsonl"
    made.write_text("[]")
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as tar:
        tar.add(made, "../../escaped")
        tar.add(made, "manifest")
    assert wrong_with(hostile)
    with pytest.raises(BadCheckpoint):
        backup.restore(hostile, Settings(data_dir=tmp_path / "elsewhere"))
    with archive.reading(hostile) as found, pytest.raises(KeyError), found.open("../../escaped"):
        pass
