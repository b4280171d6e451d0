"""Starts planned jobs on a server, each once, however often and wherever a run is cut.

A job carries a mark in its metadata; a run looks for the marks first, and starts what it does not find under a key
that makes a repeated request the same request. It knows plans and the wire.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from inhouse.client.http import Http
from inhouse.client.job import Job
from inhouse.client.migrate.plan import MARK, FilePlan, JobPlan
from inhouse.client.migrate.report import Migration, Outcome
from inhouse.errors import Conflict, InvalidRequest, JobFailed, NotFound, PermissionDenied, TooLarge

_OF_THE_JOB = (InvalidRequest, NotFound, PermissionDenied, Conflict, TooLarge)
"""Errors that say something of one job; any other is the server's, and ends the run."""
_ENDED_BADLY = ("failed", "cancelled")
_MOST_NOTES = 20


def carry_out(
    http: Http,
    jobs: Iterator[Job],
    migration: Migration,
    *,
    retry: bool = False,
    wait: bool = False,
    on_news: Callable[[str], object] = lambda text: None,
) -> Migration:
    """Starts each plan that is ready and not started yet; with `wait`, until they are over.

    `jobs` are those that the server has. `retry` starts again what failed or was cancelled here. The report is written
    after every change. What a job's own data or settings make impossible is told of that job, and the others go on.
    """
    by_mark = _by_mark(jobs)
    running: list[tuple[JobPlan, Job, bool]] = []
    for plan in migration.plans:
        if not plan.is_ready:
            continue
        before = by_mark.get(plan.mark, [])
        job = _standing(before, retry)
        try:
            job, was_there = (job, True) if job else (_start(http, plan, len(before)), False)
        except _OF_THE_JOB as e:
            migration.refusals[plan.id] = e.message
            on_news(f"{plan.id} is not started: {e.message}")
        else:
            running.append((plan, job, was_there))
            migration.outcomes[plan.id] = _outcome(job, was_there)
            on_news(f"{plan.id} is {job.id} here, {job.state}{' since an earlier run' if was_there else ''}")
        migration.write()
    for plan, job, was_there in running if wait else ():
        _see_through(job)
        migration.outcomes[plan.id] = _outcome(job, was_there)
        on_news(f"{plan.id} is {job.id} here, {job.state}{f': {job.error}' if job.error else ''}")
        migration.write()
    migration.write()
    return migration


def _by_mark(jobs: Iterator[Job]) -> dict[str, list[Job]]:
    """The server's jobs that carry a mark, newest first."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        metadata = job.details.get("metadata")
        if isinstance(metadata, Mapping) and (mark := metadata.get(MARK)):
            found.setdefault(str(mark), []).append(job)
    return found


def _standing(before: list[Job], retry: bool) -> Job | None:
    """The one of earlier jobs that counts: none where the newest ended badly and is to be tried again."""
    good = next((job for job in before if job.state not in _ENDED_BADLY), None)
    return good or (before[0] if before and not retry else None)


def _start(http: Http, plan: JobPlan, attempt: int) -> Job:
    """Uploads a plan's files and makes its job. The same plan and attempt give the same job, also when cut between.

    Raises ModelNotFound before anything is sent.
    """
    base = plan.base or ""
    if "/" not in base:  # a folder or a hub id may be new to the server, which then registers it
        with suppress(PermissionDenied):  # a key that may not look is told by the job itself
            http.call("GET", f"/v1/models/{quote(base, safe='')}")
    files: dict[str, str] = {file.role: _upload(http, file) for file in plan.files}
    metadata = {**plan.body["metadata"], MARK: plan.mark}
    body = {**plan.body, "model": plan.base, "metadata": metadata, **files}
    wire = http.call("POST", "/v1/fine_tuning/jobs", body=body, idempotency_key=_key(plan.mark, attempt))
    return Job(http, wire)


def _upload(http: Http, file: FilePlan) -> str:
    """The id here of a file, which is sent once for all jobs that use it."""
    name = f"{file.judged.path.stem}.jsonl"
    with file.send.open("rb") as stream:
        reply: dict[str, Any] = http.call(
            "POST",
            "/v1/files",
            upload=(name, stream, {"purpose": "fine-tune"}),
            idempotency_key=_key(file.digest, file.old_id, name),
        )
    return str(reply["id"])


def _key(*parts: object) -> str:
    """An idempotency key: the same for the same parts, whatever they hold."""
    return f"migrate-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def _see_through(job: Job) -> None:
    with suppress(JobFailed):  # the job itself says so, and why
        job.wait(progress=True)


def _outcome(job: Job, was_there: bool) -> Outcome:
    notes: tuple[str, ...] = ()
    if job.is_over:
        notes = tuple(event.message for event in job.events() if event.level != "info")[:_MOST_NOTES]
    return Outcome(
        job=job.id,
        state=job.state,
        base=job.base,
        model=job.model_name,
        error=job.error,
        was_there=was_there,
        notes=notes,
    )
