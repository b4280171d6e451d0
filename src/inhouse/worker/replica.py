"""What a worker knows of a replica it holds: whether it is busy, and for how long it has not been."""

from __future__ import annotations

import json
import socket

from inhouse.jobs.placement import Held
from inhouse.schema import EngineCall, Job
from inhouse.store.db import Database
from inhouse.store.records import replicas

TIMEOUT_S = 1.0


def held_replica(db: Database, job: Job) -> Held:
    """Asks the replica's engine. One that does not answer counts as busy: it may be loading."""
    with db.read() as conn:
        address = next(
            (r.address for r in replicas.all(conn) if r.job == job.id and r.fence == job.fence), None
        )
    stats = engine_stats(address) if address else None
    if stats is None:
        return Held(job.id, job.kind)
    is_busy = stats.get("running", 1) + stats.get("waiting", 0) > 0
    return Held(job.id, job.kind, is_busy=is_busy, idle_s=stats.get("idle_s", 0.0))


def engine_stats(address: str) -> dict[str, float] | None:
    """The numbers an engine tells of itself, or None when it does not answer in time."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(address.removeprefix("unix:"))
            connection.sendall(EngineCall(op="stats").model_dump_json().encode() + b"\n")
            with connection.makefile("rb") as stream:
                stats = json.loads(stream.readline() or b"{}").get("stats")
        return stats if isinstance(stats, dict) else None
    except (OSError, ValueError):
        return None
