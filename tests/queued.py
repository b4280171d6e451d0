"""A job that waits, for tests of those who claim it: what it would do is not the point."""

from __future__ import annotations

import time

from inhouse.jobs import queue
from inhouse.schema import Job
from inhouse.store import ids
from inhouse.store.db import Database
from inhouse.store.records import projects


def submitted(db: Database) -> Job:
    """A queued job of the default project, which is made where it is missing."""
    job = Job(
        id=ids.new("ftjob"),
        project="default",
        kind="tune",
        state="queued",
        spec={"base": "none", "training": "0" * 64},
        created_at=time.time(),
    )
    with db.write() as conn:
        projects.ensure(conn, "default", db.clock(conn))
    queue.submit(db, job)
    return job
