"""Harms a whole house for as long as it is told, lets it rest, and holds it to all it promised.

    python -m benchmarks.chaos --folder /tmp/chaos --seconds 270
    python -m benchmarks.chaos --folder /tmp/chaos-postgres --seconds 270 --postgres

A real server with its worker, jobs and engines, on SQLite or on a PostgreSQL of the run's own. Clients upload files,
create jobs, keys and facts and read streams, each request under an Idempotency-Key and tried again until it is
answered; every answer is a line of history.jsonl. Meanwhile processes are killed and frozen, the database is ended and
the disk is filled, at random. Then all is quiet, every job may end, and benchmarks/chaos/history.py checks each line.

It prints a table, and one line of JSON last. Stopped, it goes on when it is called again with the same folder; the exit
status is 1 if a promise was broken. Needs what the tests need; a disk is filled only where root may mount one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.chaos.clients import Client
from benchmarks.chaos.harm import Disk, Harm
from benchmarks.chaos.history import History, check
from inhouse.schema import Bank, ModelCard
from inhouse.store import ids
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import banks, jobs, models, projects
from tests.house.house import House
from tests.postgres import Cluster, programs
from tests.tiny import base_folder

LEASE_S = 3.0
REST_S = 240.0
"""How long jobs may take to end once nothing is harmed any more."""


@dataclass(slots=True)
class Tally:
    """What was done so far; kept in the folder, so that a stopped run goes on."""

    seed: int
    seconds: float = 0.0
    url: str = ""
    memory: str = ""
    harms: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0


def run(options: argparse.Namespace) -> dict[str, object]:
    folder = Path(options.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "report.json").exists():
        raise SystemExit(f"{folder} holds a run that is over. Take another folder.")
    notes = folder / "tally.json"
    tally = Tally(**json.loads(notes.read_text())) if notes.exists() else Tally(options.seed)
    cluster = _cluster(folder) if options.postgres else None
    disk = Disk(folder / "disk")
    house = _house(folder, disk, cluster, tally)
    history = History(folder / "history.jsonl")
    random_ = random.Random(f"{tally.seed}-{sum(tally.harms.values())}")
    try:
        house.start()
        _harm(house, history, disk, cluster, random_, tally, options, notes)
        _rest(house)
        code = house.stop()
    finally:
        if house.process is not None and house.process.poll() is None:
            house.kill()
        history.close()
    db = Database(tally.url)
    verdict = check(History(history.file).lines(), db, Artifacts(disk.folder / "data" / "artifacts"))
    db.dispose()
    if cluster is not None:
        cluster.stop()
    disk.unmount()
    if code != 0:
        verdict.broken.append(f"the server ended with exit code {code}")
    report = {
        "database": "postgres" if options.postgres else "sqlite",
        "seconds": round(tally.seconds, 1),
        "seed": tally.seed,
        "harms": sum(tally.harms.values()),
        **{f"harm: {what}": times for what, times in sorted(tally.harms.items())},
        **verdict.counts,
        "unanswered": tally.unanswered,
        "broken": len(verdict.broken),
        "broken_promises": verdict.broken,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
    }
    (folder / "report.json").write_text(json.dumps(report))
    return report


def _harm(
    house: House,
    history: History,
    disk: Disk,
    cluster: Cluster | None,
    random_: random.Random,
    tally: Tally,
    options: argparse.Namespace,
    notes: Path,
) -> None:
    harm = Harm(house, history, disk, cluster, random_)
    seeds = [random_.getrandbits(32) for _ in range(options.clients)]
    clients = [Client(seed, lambda: (house.url, house.key), history, tally.memory) for seed in seeds]
    for client in clients:
        client.start()
    before_s, began = tally.seconds, time.monotonic()
    try:
        while tally.seconds < options.seconds:
            time.sleep(random_.uniform(0, 2 * options.pause_s))
            what = harm.one()
            tally.harms[what] = tally.harms.get(what, 0) + 1
            tally.seconds = before_s + time.monotonic() - began
            notes.write_text(json.dumps(asdict(tally)))
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(90)
        tally.unanswered += sum(client.unanswered for client in clients)
        notes.write_text(json.dumps(asdict(tally)))


def _rest(house: House) -> None:
    """Returns when every job has ended, or when the time for it is over: the checker tells which have not."""
    db = Database(house.environment()["INHOUSE_DATABASE_URL"])
    deadline = time.monotonic() + REST_S
    while time.monotonic() < deadline:
        with db.read() as conn:
            if not jobs.with_state(conn, "tune", ("validating_files", "queued", "running")):
                break
        time.sleep(0.5)
    time.sleep(1.0)  # the last usage is on its way
    db.dispose()


def _house(folder: Path, disk: Disk, cluster: Cluster | None, tally: Tally) -> House:
    base = base_folder(folder / "tiny")
    if not tally.url:
        tally.url = cluster.new_database() if cluster else f"sqlite:///{disk.folder}/data/inhouse.db"
        tally.memory = _prepare(tally.url)
    return House(
        disk.folder / "data",
        [base],
        database_url=tally.url,
        lease_s=LEASE_S,
        threads=1,
        tune_slots=2,
    )


def _prepare(url: str) -> str:
    """An empty memory to add facts to: making a real one would be a run of its own."""
    db = Database(url)
    migrate(db)
    with db.write() as conn:
        now = db.clock(conn)
        projects.ensure(conn, "default", now)
        bank = Bank(id=ids.new("bank"), project="default", base="tiny", base_digest="0" * 64, created_at=now)
        banks.add(conn, bank)
        name = ids.tuned_model("tiny", "default", "memory")
        card = ModelCard(
            name=name,
            project="default",
            kind="memory",
            base="tiny",
            base_digest="0" * 64,
            created_at=now,
            about={"bank": bank.id},
        )
        models.add(conn, card)
    db.dispose()
    return name


def _cluster(folder: Path) -> Cluster:
    found = programs()
    if found is None:
        raise SystemExit("PostgreSQL is missing. Install it (Debian: apt-get install postgresql).")
    home = folder / "postgres"
    home.mkdir(exist_ok=True)
    return Cluster(home, found)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--folder", required=True, help="where the run is kept: history, tally, data")
    parser.add_argument(
        "--seconds", type=float, default=270.0, help="of harm, those of earlier calls counted"
    )
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of the run's own")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--pause-s", type=float, default=3.0, help="mean time between harms")
    parser.add_argument("--seed", type=int, default=0)
    report = run(parser.parse_args())
    broken = report["broken_promises"]
    assert isinstance(broken, list)
    for name, value in report.items():
        if name != "broken_promises":
            print(f"{name:28} {value}")
    for promise in broken[:50]:
        print(f"BROKEN {promise}")
    print(json.dumps(report))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
