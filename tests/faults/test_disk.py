"""A disk with no room for the database: writes are refused, reads go on, and nothing is broken afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from inhouse.errors import StorageFull
from inhouse.store import db as db_module
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import projects
from tests.faults.small_disk import fill, small_disk
from tests.server.house import House, engine, house


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disk(tmp_path / "disk", 4) as folder:
        yield folder


def wish(made: House, number: int) -> httpx2.Response:
    """A request that writes a row of some size and no artifact."""
    name = f"team-{number}-" + "x" * 30
    return made.client(made.admin).post("/v1/organization/projects", json={"name": name})


@pytest.mark.parametrize("guarded", [True, False])
def test_a_full_disk_refuses_what_writes_and_answers_what_reads(
    disk: Path, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 7: 507 for writes, 200 for reads and inference; without the translation (the control) writes get 500."""
    if not guarded:
        honest = db_module._translate
        monkeypatch.setattr(
            db_module,
            "_translate",
            lambda e: None if isinstance(ours := honest(e), StorageFull) else ours,
        )
    with house(disk / "data") as made, engine(made.db, tmp_path):
        assert made.chat("hello", max_tokens=2).status_code == 200
        ballast = disk / "ballast"
        fill(ballast)
        statuses = [wish(made, number).status_code for number in range(40)]
        if not guarded:
            assert 500 in statuses and 507 not in statuses
            return
        assert set(statuses) <= {200, 507} and statuses[-1] == 507, statuses
        refused = wish(made, 99)
        assert refused.json()["error"]["code"] == "disk_full"
        assert made.client(made.admin).get("/v1/organization/projects").status_code == 200
        assert made.client().get("/v1/files").status_code == 200
        assert made.chat("still here", max_tokens=2).status_code == 200
        ballast.unlink()
        assert wish(made, 100).status_code == 200
        with made.db.write() as conn:
            assert conn.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_the_database_itself_keeps_what_it_had_and_goes_on(disk: Path) -> None:
    """Fault 7: in the store: what was written before is there, what was refused is not, the next write works."""
    db = Database(f"sqlite:///{disk / 'inhouse.db'}")
    migrate(db)
    fill(disk / "ballast")
    written = []
    with pytest.raises(StorageFull):
        for number in range(10_000):
            with db.write() as conn:
                name = f"{number} " + "x" * 2000
                projects.ensure(conn, name, 1.0)
            written.append(name)
    (disk / "ballast").unlink()
    with db.write() as conn:
        assert [p.name for p in projects.all(conn)] == written
        assert conn.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        projects.ensure(conn, "after", 1.0)
    db.dispose()
