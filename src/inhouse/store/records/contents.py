"""Which artifacts rows name: what has to be there, and what each is."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.schema import TERMINAL_STATES
from inhouse.store.records.batches import UNFINISHED
from inhouse.store.tables import batches, files, jobs, models


@dataclass(frozen=True, slots=True)
class Content:
    """An artifact that a row needs."""

    digest: str
    owner: str
    """What needs it, for people: a kind and an id or a name."""
    is_folder: bool = False
    """Whether it is the manifest of a kept folder, whose files are needed too."""


def needed(conn: sa.Connection) -> list[Content]:
    """What every upload, tuned model, unfinished job and unfinished batch needs. A job or batch that has ended
    remembers what it read, and nobody reads it again."""
    found = [
        Content(row.digest, f"file {row.id}") for row in conn.execute(sa.select(files.c.id, files.c.digest))
    ]
    tuned = sa.select(models.c.name, models.c.digest).where(models.c.digest.is_not(None))
    found += [Content(row.digest, f"model {row.name}", is_folder=True) for row in conn.execute(tuned)]
    running = sa.select(jobs.c.id, jobs.c.spec).where(
        jobs.c.kind == "tune", jobs.c.state.not_in(sorted(TERMINAL_STATES))
    )
    for row in conn.execute(running):
        read = (row.spec.get("training"), row.spec.get("validation"))
        found += [Content(digest, f"job {row.id}") for digest in read if digest]
    waiting = sa.select(batches.c.id, batches.c.digest).where(batches.c.status.in_(UNFINISHED))
    found += [Content(row.digest, f"batch {row.id}") for row in conn.execute(waiting)]
    return found
