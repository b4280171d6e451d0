"""What clients were promised, line by line, and whether the store kept it.

A client writes a line when a reply has come, so each line is a promise; what it never heard of is none, but must not
have happened twice either. The checker reads the lines, the store and the artifacts. It harms nothing and waits for
nothing: it is run when all is quiet.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inhouse.errors import InhouseError
from inhouse.jobs.queue import MAX_ATTEMPTS
from inhouse.schema import TERMINAL_STATES
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.tables import checkpoints, facts, files, jobs, keys, models, usage

USAGE_GRACE_S = 3.0
"""Tokens used are written up to half a second later. A reply this close before a kill may be counted nowhere."""
FATAL = ("server killed", "worker killed", "job killed", "worker frozen")
"""Harms that cost a job's process its life. A store that is away must not."""
NOTED_S = 1.0
"""A kill is noted a moment after it was done."""
AFTER = {
    "validating_files": {"queued", "running", *TERMINAL_STATES},
    "queued": {"running", *TERMINAL_STATES},
    "running": {"queued", *TERMINAL_STATES},
}
"""Which states may be seen after which; an ended job stays as it is."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: a promise (file, job, key, fact, chat), a job's state that was seen, or a harm."""

    op: str
    at: float
    """Unix seconds."""
    key: str = ""
    """The Idempotency-Key that it was asked under."""
    id: str = ""
    about: dict[str, Any] = field(default_factory=dict)


class History:
    """A file of lines that grows. Safe to use from several threads; a line torn by a kill of this process is cut."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        if file.exists():
            whole = file.read_bytes()
            file.write_bytes(whole[: whole.rfind(b"\n") + 1])
        self._out = file.open("a", encoding="utf-8")

    def note(self, op: str, *, key: str = "", id: str = "", **about: Any) -> None:
        line = {"op": op, "at": time.time(), "key": key, "id": id, "about": about}
        with self._lock:
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()

    def lines(self) -> list[Line]:
        with self._lock:
            return [Line(**json.loads(text)) for text in self.file.read_text(encoding="utf-8").splitlines()]

    def close(self) -> None:
        self._out.close()


@dataclass(slots=True)
class Verdict:
    """What was counted, and every broken promise in a sentence."""

    counts: Counter[str]
    broken: list[str]


def check(lines: Iterable[Line], db: Database, artifacts: Artifacts) -> Verdict:
    """Holds every promise against the store."""
    lines = list(lines)
    by_op: dict[str, list[Line]] = {}
    for line in lines:
        by_op.setdefault(line.op, []).append(line)
    with db.read() as conn:
        store = _Store.read(conn)
    broken = [
        *_one_answer_a_key(lines),
        *_files(by_op.get("file", []), store, artifacts),
        *_jobs(by_op.get("job", []), by_op.get("harm", []), store),
        *_states(by_op.get("state", [])),
        *_models(store, artifacts),
        *_keys(by_op.get("key", []), store),
        *_facts(by_op.get("fact", []), store),
        *_usage(by_op.get("chat", []), by_op.get("harm", []), store),
        *_errors(by_op.get("error", [])),
    ]
    counts = Counter(
        {f"promised: {op}": len(found) for op, found in sorted(by_op.items()) if op in _PROMISES}
    )
    counts |= Counter(f"jobs {job.state}" for job in store.jobs.values())
    counts["jobs claimed again"] = sum(job.fence > 1 for job in store.jobs.values())
    counts["models published"] = len(store.published)
    counts["usage rows"] = sum(store.usage.values())
    return Verdict(counts, broken)


_PROMISES = ("file", "job", "key", "fact", "chat")


@dataclass(frozen=True, slots=True)
class _Store:
    """What the tables hold, as far as promises go."""

    jobs: dict[str, sa.Row[Any]]
    suffixes: Counter[str]
    """Jobs by the suffix that their client chose: one each, however often it asked."""
    files: dict[str, str]
    """Digest by id."""
    keys: set[str]
    facts: Counter[str]
    """Live facts by question."""
    published: list[tuple[str, str]]
    """(job, digest) of every model that a job has made."""
    usage: Counter[str]
    """Rows by request id."""

    @classmethod
    def read(cls, conn: sa.Connection) -> _Store:
        tuned = conn.execute(
            sa.select(
                jobs.c.id,
                jobs.c.state,
                jobs.c.fence,
                jobs.c.error,
                jobs.c.spec,
                jobs.c.created_at,
                jobs.c.finished_at,
            ).where(jobs.c.kind == "tune")
        ).all()
        made = sa.select(models.c.job, models.c.digest).where(
            models.c.kind == "adapter", models.c.name.not_in(sa.select(checkpoints.c.model))
        )
        return cls(
            jobs={row.id: row for row in tuned},
            suffixes=Counter(row.spec.get("suffix", "") for row in tuned),
            files={row.id: row.digest for row in conn.execute(sa.select(files.c.id, files.c.digest))},
            keys=set(conn.execute(sa.select(keys.c.id).where(keys.c.revoked_at.is_(None))).scalars()),
            facts=Counter(conn.execute(sa.select(facts.c.question)).scalars()),
            published=[(row.job, row.digest) for row in conn.execute(made)],
            usage=Counter(conn.execute(sa.select(usage.c.request_id)).scalars()),
        )


def _one_answer_a_key(lines: Iterable[Line]) -> Iterator[str]:
    answers: dict[str, set[str]] = {}
    for line in lines:
        if line.key and line.op in _PROMISES:
            answers.setdefault(line.key, set()).add(line.id)
    for key, ids in answers.items():
        if len(ids) > 1:
            yield f"key {key} was answered with {len(ids)} different objects: {sorted(ids)}"


def _files(promised: Iterable[Line], store: _Store, artifacts: Artifacts) -> Iterator[str]:
    for line in promised:
        digest = store.files.get(line.id)
        if digest is None:
            yield f"file {line.id} is lost"
        elif digest != line.about["sha256"]:
            yield f"file {line.id} is not what was sent"
        else:
            yield from _whole(artifacts, digest, f"file {line.id}", is_folder=False)


def _jobs(promised: Iterable[Line], harms: list[Line], store: _Store) -> Iterator[str]:
    made = Counter(job for job, _ in store.published)
    for line in promised:
        if line.id not in store.jobs:
            yield f"job {line.id} is lost"
    for suffix, times in store.suffixes.items():
        if suffix and times > 1:
            yield f"the job asked for as {suffix} is there {times} times"
    for id, job in store.jobs.items():
        if job.state not in TERMINAL_STATES:
            yield f"job {id} never ended: it is {job.state}"
        if job.state == "succeeded" and made[id] != 1:
            yield f"job {id} has succeeded and published {made[id]} models"
        if job.state != "succeeded" and made[id]:
            yield f"job {id} has published a model, and is {job.state}"
        if job.state == "failed" and (job.error or {}).get("code") != "crashed":
            yield f"job {id} has failed: {job.error}"
        elif job.state == "failed" and (kills := _kills(job, harms)) < MAX_ATTEMPTS:
            yield f"job {id} has crashed, and only {kills} kills explain it"


def _kills(job: sa.Row[Any], harms: Iterable[Line]) -> int:
    """How often a process of the job may have been killed, or frozen beyond its lease, while it was there."""
    until = math.inf if job.finished_at is None else job.finished_at
    ours = [h for h in harms if h.about["what"] in FATAL and h.at >= job.created_at]
    return sum((h.about.get("began") or h.at) <= until + NOTED_S for h in ours)


def _states(seen: Iterable[Line]) -> Iterator[str]:
    last: dict[str, str] = {}
    for line in seen:
        before, now = last.get(line.id), line.about["state"]
        if before is not None and now != before and now not in AFTER.get(before, set()):
            yield f"job {line.id} went from {before} to {now}"
        last[line.id] = now


def _models(store: _Store, artifacts: Artifacts) -> Iterator[str]:
    for job, digest in store.published:
        if job not in store.jobs:
            yield f"a model of {job} is there, and no such job"
        yield from _whole(artifacts, digest, f"the adapter of {job}", is_folder=True)


def _whole(artifacts: Artifacts, digest: str, what: str, *, is_folder: bool) -> Iterator[str]:
    try:
        (artifacts.verify_folder if is_folder else artifacts.verify)(digest)
    except InhouseError as e:
        yield f"{what} does not verify: {e.message}"


def _keys(promised: Iterable[Line], store: _Store) -> Iterator[str]:
    for line in promised:
        if line.id not in store.keys:
            yield f"key {line.id} is lost"


def _facts(promised: Iterable[Line], store: _Store) -> Iterator[str]:
    for line in promised:
        if store.facts[line.about["question"]] == 0:
            yield f"fact {line.id} is lost"
    for question, times in store.facts.items():
        if times > 1:
            yield f"the fact asked as {question!r} is there {times} times"


def _usage(chats: Iterable[Line], harms: Iterable[Line], store: _Store) -> Iterator[str]:
    excused = _uncounted(list(harms))
    for id, times in store.usage.items():
        if times > 1:
            yield f"request {id} is counted {times} times"
    for line in chats:
        if not store.usage[line.id] and not any(start <= line.at <= end for start, end in excused):
            yield f"request {line.id} was answered and is not counted"


def _uncounted(harms: list[Line]) -> list[tuple[float, float]]:
    """When replies were given whose use died with the server: just before it was killed, or longer before where the
    store took none meanwhile."""
    outages = [(h.about["began"], h.about["until"]) for h in harms if h.about.get("until")]
    found = []
    for kill in (h.at for h in harms if h.about["what"] == "server killed"):
        since = [down for down, up in outages if down <= kill <= up + USAGE_GRACE_S]
        found.append((min([kill, *since]) - USAGE_GRACE_S, kill + USAGE_GRACE_S))
    return found


def _errors(seen: Iterable[Line]) -> Iterator[str]:
    for line in seen:
        yield f"{line.id} was answered with an internal error: {line.about['text']}"
