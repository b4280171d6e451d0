"""Checks a tuning job's files in a thread of its own, before any compute: then the job is queued, or failed.

It knows jobs and their events; `rows` knows what a good file is. A server that stops half-way finds its
unchecked jobs again when it starts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from sqlalchemy import Connection

from inhouse import rows
from inhouse.errors import BadRows, InhouseError, RowProblem, StorageFull
from inhouse.rows.facts import from_rows, looks_like_facts
from inhouse.schema import Job, JobFault, OnConflict, TuneSpec
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import jobs

log = logging.getLogger(__name__)

MAX_PROBLEMS = 100
RETRY_S = 2.0
"""How long a check waits after the store was busy or full."""


class _Interrupted(Exception):
    """The server is closing; the next one will check."""


class Validator:
    """One thread that checks files in the order in which jobs came."""

    def __init__(self, db: Database, artifacts: Artifacts, max_line_bytes: int) -> None:
        self.max_line_bytes = max_line_bytes
        self.db = db
        self.artifacts = artifacts
        self._is_closing = False
        self._later: set[threading.Timer] = set()
        self._lock = threading.RLock()
        """Over what closing and coming back later both touch."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="validation")

    def submit(self, job_id: str) -> None:
        self._thread.submit(self._validate, job_id).add_done_callback(partial(self._settle, job_id))

    def resume(self) -> None:
        """Takes up every job that an earlier server left unchecked."""
        with self.db.read() as conn:
            waiting = jobs.with_state(conn, "tune", ["validating_files"])
        for job in waiting:
            self.submit(job.id)

    def close(self) -> None:
        """Stops the check that runs; it and the others wait for the next start."""
        with self._lock:
            self._is_closing = True
            for timer in self._later:
                timer.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _submit_later(self, job_id: str) -> None:
        def again() -> None:
            with self._lock:
                self._later.discard(timer)
                if self._is_closing:
                    return
                self.submit(job_id)

        timer = threading.Timer(RETRY_S, again)
        timer.daemon = True
        with self._lock:
            if not self._is_closing:
                self._later.add(timer)
                timer.start()

    def _validate(self, job_id: str) -> None:
        with self.db.read() as conn:
            job = jobs.get(conn, None, job_id)
        if job.state != "validating_files":
            return
        spec, chosen = self._settled(TuneSpec.model_validate(job.spec))
        checked, found = 0, ""
        for digest, name, param in _files_of(spec):
            if spec.method == "memory":
                count, found, problems = self._check_facts(digest, name, spec.on_conflict)
            else:
                count, problems = self._check(digest, name, teaches=param == "training_file")
            if problems:
                fault = BadRows(name, problems, param=param)
                fault_of_job = JobFault(code=fault.code, message=fault.message, param=param)
                self._fail(job, fault_of_job, problems, spec, chosen)
                return
            checked += count
        with self.db.write() as conn:
            now = self.db.clock(conn)
            if self._is_waiting(conn, job_id):
                said = f"Files validated: {checked} rows{found}. The job is queued."
                self._say_method(conn, job_id, spec, chosen, now)
                jobs.add_event(conn, job_id, said, now, fence=None)
                jobs.set_validated(conn, job_id, True, None, now)

    def _settled(self, spec: TuneSpec) -> tuple[TuneSpec, str | None]:
        """What the job is to do, its method settled; and why, where it was ours to choose."""
        if not spec.picks_method:
            return spec, None
        if spec.validation is not None:
            is_facts, reason = False, "a validation file was given, which only training measures on"
        else:
            is_facts, reason = looks_like_facts(self._rows(spec.training, spec.training_name))
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

    def _rows(self, digest: str, name: str) -> Iterator[rows.Row | RowProblem]:
        """A file's rows, for as long as the server is not closing."""
        with self.artifacts.path(digest).open("rb") as file:
            for item in rows.read(file, name=name, max_line_bytes=self.max_line_bytes):
                if self._is_closing:
                    raise _Interrupted
                yield item

    def _check(self, digest: str, name: str, *, teaches: bool) -> tuple[int, list[RowProblem]]:
        """How many rows are good, and the first problems. Rows that `teach` must not all be one and the same."""
        good, problems, first, is_varied = 0, list[RowProblem](), None, False
        for item in self._rows(digest, name):
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
        self, digest: str, name: str, on_conflict: OnConflict | None
    ) -> tuple[int, str, list[RowProblem]]:
        """How many rows are good, how many facts they are, and the first problems."""
        found = from_rows(self._rows(digest, name), name=name, on_conflict=on_conflict)
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
            now = self.db.clock(conn)
            if not self._is_waiting(conn, job.id):
                return
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

    def _is_waiting(self, conn: Connection, job_id: str) -> bool:
        return jobs.get(conn, None, job_id).state == "validating_files"

    def _settle(self, job_id: str, check: Future[None]) -> None:
        """A check that broke fails its job; where the store is what broke, it is tried again a moment later."""
        if check.cancelled() or (broken := check.exception()) is None:
            return
        if isinstance(broken, _Interrupted):
            return
        log.error("the files of %s could not be checked: %s", job_id, type(broken).__name__)
        if isinstance(broken, InhouseError):
            if _passes(broken):
                self._submit_later(job_id)
                return
            fault = JobFault(code=broken.code, message=broken.message, param=broken.param)
        else:
            fault = JobFault(code="internal_error", message="The training file could not be checked.")
        try:
            with self.db.read() as conn:
                job = jobs.get(conn, None, job_id)
            self._fail(job, fault, [])
        except InhouseError as error:
            if _passes(error):
                self._submit_later(job_id)
            log.error("%s could not be failed: %s", job_id, error.message)


def _passes(error: InhouseError) -> bool:
    """Whether the store may take later what it did not take now."""
    return error.retryable or isinstance(error, StorageFull)


def _files_of(spec: TuneSpec) -> list[tuple[str, str, str]]:
    """Digest, name and parameter of each file that a job reads."""
    found = [(spec.training, spec.training_name, "training_file")]
    if spec.validation is not None:
        found.append((spec.validation, spec.validation_name, "validation_file"))
    return found
