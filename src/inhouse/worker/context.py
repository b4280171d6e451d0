"""What a task is given: its job, its claim on it, and where things are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inhouse.schema import Job
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database


@dataclass(frozen=True, slots=True)
class Context:
    """Frozen for the life of the task; every write it makes carries `fence`."""

    settings: Settings
    db: Database
    artifacts: Artifacts
    job: Job
    fence: int
    scratch: Path
    """The job's own folder, kept across attempts."""
