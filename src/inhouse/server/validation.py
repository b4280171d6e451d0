"""Checks a tuning job's files in a thread of its own, before any compute: then the job is queued, or failed.

It knows jobs and their events; `rows` knows what a good file is. A job is claimed for its check: what a server that
stops half-way leaves is checked by the next that looks.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from inhouse import rows
from inhouse.errors import BadRows, InhouseError, LeaseLost, RowProblem, StorageFull
from inhouse.jobs import unchecked
from inhouse.rows.facts import from_rows, looks_like_facts
from inhouse.schema import Job, JobFault, OnConflict, TuneSpec
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import jobs

log = logging.getLogger(__name__)

MAX_PROBLEMS = 100
LOOK_EVERY_S = 1.0
"""How often a job is looked for that another server left."""
RETRY_S = 2.0
"""How long a check waits after the store was busy or full."""


class _Interrupted(Exception):
    """The server is closing; the next one will check."""


class Validator:
    """One thread that checks files in the order in which jobs came."""

    def __init__(
        self, db: Database, artifacts: Artifacts, max_line_bytes: int, lease_s: float = 15.0
    ) -> None:
        self.max_line_bytes = max_line_bytes
        self.db = db
        self.artifacts = artifacts
        self.lease_s = lease_s
        self._is_closing = False
        self._work = threading.Event()
        """Set when there is something to look at before the next look is due."""
        self._checks = ThreadPoolExecutor(1, thread_name_prefix="validation")
        self._thread = threading.Thread(target=self._run, name="checks", daemon=True)
        self._renew_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """There is a new job: it is checked at once, and not at the next look."""
        self._work.set()

    def close(self) -> None:
        """Stops the check that runs; it and the others wait for another server, or the next start."""
        self._is_closing = True
        self._work.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._checks.shutdown()

    def _run(self) -> None:
        while not self._is_closing:
            wait_s = LOOK_EVERY_S
            try:
                while not self._is_closing and (job := unchecked.claim(self.db, self.lease_s)) is not None:
                    self._check_job(job)
            except (InhouseError, SQLAlchemyError) as error:
                log.warning("no job could be taken up to be checked: %s", type(error).__name__)
                wait_s = RETRY_S
            self._work.wait(wait_s)
            self._work.clear()

    def _check_job(self, job: Job) -> None:
        """Settles the job. A check that broke fails it; where the store is what broke, it is tried again later."""
        self._renew_at = time.monotonic() + self.lease_s / 3
        broken = self._checks.submit(self._validate, job).exception()
        if broken is None:
            return
        if isinstance(broken, LeaseLost):
            log.info("%s", broken.message)
            return
        if isinstance(broken, _Interrupted):
            self._put_off(job, 0.0)
            return
        log.error("the files of %s could not be checked: %s", job.id, type(broken).__name__)
        if isinstance(broken, InhouseError):
            if _passes(broken):
                self._put_off(job, RETRY_S)
                return
            fault = JobFault(code=broken.code, message=broken.message, param=broken.param)
        else:
            fault = JobFault(code="internal_error", message="The training file could not be checked.")
        self._fail(job, fault, [])

    def _put_off(self, job: Job, wait_s: float) -> None:
        """Leaves the job to whoever looks for one then. A store that does not take that leaves it to its lease."""
        with contextlib.suppress(InhouseError):
            unchecked.renew(self.db, job, wait_s)

    def _validate(self, job: Job) -> None:
        spec, chosen = self._settled(job, TuneSpec.model_validate(job.spec))
        checked, found = 0, ""
        for digest, name, param in _files_of(spec):
            if spec.method == "memory":
                count, found, problems = self._check_facts(job, digest, name, spec.on_conflict)
            else:
                count, problems = self._check(job, digest, name, teaches=param == "training_file")
            if problems:
                fault = BadRows(name, problems, param=param)
                fault_of_job = JobFault(code=fault.code, message=fault.message, param=param)
                self._fail(job, fault_of_job, problems, spec, chosen)
                return
            checked += count
        with self.db.write() as conn:
            unchecked.require(conn, job)
            now = self.db.clock(conn)
            said = f"Files validated: {checked} rows{found}. The job is queued."
            self._say_method(conn, job.id, spec, chosen, now)
            jobs.add_event(conn, job.id, said, now, fence=None)
            jobs.set_validated(conn, job.id, True, None, now)

    def _settled(self, job: Job, spec: TuneSpec) -> tuple[TuneSpec, str | None]:
        """What the job is to do, its method settled; and why, where it was ours to choose."""
        if not spec.picks_method:
            return spec, None
        if spec.validation is not None:
            is_facts, reason = False, "a validation file was given, which only training measures on"
        else:
            is_facts, reason = looks_like_facts(self._rows(job, spec.training, spec.training_name))
        method = "memory" if is_facts else "supervised"
        changes = {"picks_method": False, "method": "memory" if is_facts else spec.method}
        return spec.model_copy(update=changes), f"Chose method = {method}: {reason}."

    def _say_method(
        self, conn: Connection, job_id: str, spec: TuneSpec, chosen: str | None, now: float
    ) -> None:
        if chosen is not None:
            jobs.set_spec(conn, job_id, spec.model_dump())
            jobs.add_event(
                conn,
                job_id,
                chosen,
                now,
                data={"method": "memory" if spec.method == "memory" else "supervised"},
                fence=None,
            )

    def _rows(self, job: Job, digest: str, name: str) -> Iterator[rows.Row | RowProblem]:
        """A file's rows, for as long as the job is ours and the server is not closing."""
        with self.artifacts.path(digest).open("rb") as file:
            for item in rows.read(file, name=name, max_line_bytes=self.max_line_bytes):
                if self._is_closing:
                    raise _Interrupted
                if time.monotonic() >= self._renew_at:
                    unchecked.renew(self.db, job, self.lease_s)
                    self._renew_at = time.monotonic() + self.lease_s / 3
                yield item

    def _check(self, job: Job, digest: str, name: str, *, teaches: bool) -> tuple[int, list[RowProblem]]:
        """How many rows are good, and the first problems. Rows that `teach` must not all be one and the same."""
        good, problems, first, is_varied = 0, list[RowProblem](), None, False
        for item in self._rows(job, digest, name):
            if isinstance(item, RowProblem):
                problems.append(item)
                if len(problems) >= MAX_PROBLEMS:
                    break
            else:
                good += 1
                said = (item.messages, item.tools)
                first = first or said
                is_varied = is_varied or said != first
        if teaches and good > 1 and not is_varied and not problems:
            problems.append(
                RowProblem(
                    1,
                    None,
                    f"all {good} rows are the same.",
                    "Add others. If one is all there is, keep it once and raise n_epochs.",
                )
            )
        return good, problems

    def _check_facts(
        self, job: Job, digest: str, name: str, on_conflict: OnConflict | None
    ) -> tuple[int, str, list[RowProblem]]:
        """How many rows are good, how many facts they are, and the first problems."""
        found = from_rows(self._rows(job, digest, name), name=name, on_conflict=on_conflict)
        count = len(found.facts) + found.duplicates
        return count, f", {len(found.facts)} facts", list(found.problems)

    def _fail(
        self,
        job: Job,
        fault: JobFault,
        problems: list[RowProblem],
        spec: TuneSpec | None = None,
        chosen: str | None = None,
    ) -> None:
        with self.db.write() as conn:
            unchecked.require(conn, job)
            now = self.db.clock(conn)
            if spec is not None:
                self._say_method(conn, job.id, spec, chosen, now)
            for problem in problems[:MAX_PROBLEMS]:
                data = {
                    "line": problem.line,
                    "field": problem.field,
                    "reason": problem.reason,
                    "cure": problem.cure,
                }
                jobs.add_event(conn, job.id, str(problem), now, level="error", data=data, fence=None)
            jobs.add_event(conn, job.id, f"The job failed: {fault.message}", now, level="error", fence=None)
            jobs.set_validated(conn, job.id, False, fault, now)


def _passes(error: InhouseError) -> bool:
    """Whether the store may take later what it did not take now."""
    return error.retryable or isinstance(error, StorageFull)


def _files_of(spec: TuneSpec) -> list[tuple[str, str, str]]:
    """Digest, name and parameter of each file that a job reads."""
    found = [(spec.training, spec.training_name, "training_file")]
    if spec.validation is not None:
        found.append((spec.validation, spec.validation_name, "validation_file"))
    return found
