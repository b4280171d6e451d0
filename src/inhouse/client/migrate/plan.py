"""What each of OpenAI's jobs becomes here, setting by setting, and what stands in its way. Nothing is sent.

It knows OpenAI's description of a job and this house's limits; it asks no server.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from inhouse.client.migrate.folder import OURS, Description, Folder
from inhouse.client.migrate.training import Judged, judge, sha256_of, write_trainable
from inhouse.errors import InvalidRequest

Verdict = Literal["kept", "changed", "dropped"]
Role = Literal["training_file", "validation_file"]

MARK = "migrated_from"
"""The key in a job's metadata by which a later run finds it again."""
MOST_METADATA = 16
DEFAULT_BASE = "the server's default base"
_KNOBS: Mapping[str, tuple[float, float]] = {
    "n_epochs": (1, 1000),
    "batch_size": (1, 4096),
    "learning_rate_multiplier": (0, float("inf")),
}
"""Hyperparameters that both have, and this house's limits."""
_MOST_SEED = 2**31 - 1
_ENDED_BADLY = ("failed", "cancelled")
_NOT_ENDED = ("validating_files", "queued", "running", "paused")
_SENT = f"{OURS}sent"


@dataclass(frozen=True, slots=True)
class Choices:
    """What is decided by those who move. Defaults start nothing that OpenAI's job would not have."""

    base: str | None = None
    """What is tuned here; None is the server's default base."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Other bases for some of OpenAI's models: {"gpt-4o-2024-08-06": "Qwen3-32B"}."""
    rows: Literal["stop", "drop"] = "stop"
    """What rows that cannot be trained mean: the job is not started, or they are left out."""
    hyperparameters: Literal["keep", "auto"] = "keep"
    """Whether the job's own numbers are used, or this house's for the base."""
    jobs: frozenset[str] = frozenset()
    """OpenAI's ids of the jobs to move; empty: all that have ended. One that is named is moved while it runs, too."""

    def base_for(self, model: str) -> str | None:
        return self.bases.get(model, self.base)


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that the old job was told, and what became of it."""

    name: str
    was: Any
    becomes: Any
    why: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.becomes is None and self.was is not None:
            return "dropped"
        return "kept" if self.was == self.becomes else "changed"


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file of a job, found and judged."""

    role: Role
    old_id: str
    judged: Judged
    send: Path
    """What is uploaded: the file as it is, or its trainable rows."""
    digest: str
    """SHA-256 of what is uploaded."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What becomes of one job."""

    old: Description
    base: str | None
    settings: tuple[Setting, ...] = ()
    files: tuple[FilePlan, ...] = ()
    numbers: Literal["keep", "auto"] = "keep"
    """Whose hyperparameters were chosen."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The request that starts it here, but for the base and the ids of files."""
    left_out: str = ""
    """Why it is not to be moved at all; empty: it is."""
    obstacles: tuple[str, ...] = ()
    """Why it cannot be started, each with its cure."""
    notes: tuple[str, ...] = ()
    """What to know beside it."""

    @property
    def id(self) -> str:
        return str(self.old["id"])

    @property
    def is_ready(self) -> bool:
        return not self.left_out and not self.obstacles

    @property
    def mark(self) -> str:
        """OpenAI's id of the job, and a hash of what those who move it decided: the base, whose numbers, the rows.

        Nothing that OpenAI tells of a job is in it: while it runs there, "auto" becomes numbers and its model gets a
        name, and it is the same job still.
        """
        asked = [self.base, self.numbers, [(file.role, file.digest) for file in self.files]]
        told = json.dumps(asked, sort_keys=True)
        return f"{self.id[:128]} {hashlib.sha256(told.encode()).hexdigest()[:24]}"


def plan(
    folder: Folder, choices: Choices, *, on_file: Callable[[str], object] = lambda name: None
) -> list[JobPlan]:
    """What becomes of each job of a folder, oldest first.

    Files are read through, each once; where rows are left out or changed, what is sent is written below the folder.
    Raises InvalidRequest for a folder that describes no job, or not one that is chosen.
    """
    if not folder.jobs:
        raise InvalidRequest(
            f"{folder.path} describes no tuning job. Put them there as JSON, as job.model_dump_json() prints them; "
            "for a file of rows alone there is: inhouse tune FILE"
            + "".join(f"\n{p}" for p in folder.problems),
            param="folder",
        )
    models = sorted({str(job.get("model") or "") for job in folder.jobs})
    for old in choices.bases:
        if old not in models:
            raise InvalidRequest(
                f"No job of {folder.path} is of the model {old}, which --base names. They are of {', '.join(models)}.",
                param="base",
            )
    known = {str(job["id"]) for job in folder.jobs}
    for id in sorted(choices.jobs - known):
        raise InvalidRequest(f"{folder.path} describes no job {id}.", param="job")
    judged: dict[Path, Judged] = {}
    made = []
    for job in folder.jobs:
        if choices.jobs and str(job["id"]) not in choices.jobs:
            continue
        made.append(_JobReader(folder, choices, judged, on_file).plan(job))
    return made


class _JobReader:
    """Reads jobs of one folder; `judged` is what is known of its files."""

    def __init__(
        self,
        folder: Folder,
        choices: Choices,
        judged: dict[Path, Judged],
        on_file: Callable[[str], object],
    ) -> None:
        self._folder = folder
        self._choices = choices
        self._judged = judged
        self._on_file = on_file

    def plan(self, job: Description) -> JobPlan:
        model = str(job.get("model") or "")
        base = self._choices.base_for(model)
        if why := _left_out(job, model) or self._not_ended(job):
            return JobPlan(job, base, left_out=why)
        settings = [Setting("model", model, base or DEFAULT_BASE, "OpenAI's weights stay at OpenAI")]
        knobs, numbers = self._hyperparameters(job)
        method = {"type": "supervised", "supervised": {"hyperparameters": knobs}}
        body: dict[str, Any] = {"method": method}
        more = [Setting("method", _method(job), "supervised"), *numbers, *_rest(job, body)]
        files, obstacles, notes = self._files(job)
        return JobPlan(
            old=job,
            base=base,
            settings=(*settings, *more),
            files=tuple(files),
            numbers=self._choices.hyperparameters,
            body=body,
            obstacles=tuple(obstacles),
            notes=tuple(notes),
        )

    def _not_ended(self, job: Description) -> str:
        """Why a job that still runs at OpenAI waits; empty for one that has ended or is asked for by name."""
        id, status = str(job["id"]), job.get("status")
        if status not in _NOT_ENDED or id in self._choices.jobs:
            return ""
        return (
            f"It had not ended at OpenAI when it was described ({status}): its numbers may not stand yet, and it may "
            f"fail there. Describe it anew once it has ended (--from-api), or ask for it now: --job {id}"
        )

    def _hyperparameters(self, job: Description) -> tuple[dict[str, Any], list[Setting]]:
        """Those to ask for, and what became of each."""
        knobs: dict[str, Any] = {}
        settings = []
        for name, was in _given(job).items():
            becomes, why = was, ""
            if name not in _KNOBS:
                becomes, why = None, "this house has no such knob"
            elif was == "auto" or self._choices.hyperparameters == "auto":
                becomes, why = "auto", "" if was == "auto" else "asked for: chosen here, for this base"
            else:
                least, most = _KNOBS[name]
                if isinstance(was, bool) or not isinstance(was, int | float) or was < least or was > most:
                    becomes, why = "auto", f"it is not between {least:g} and {most:g}"
                else:
                    knobs[name] = was
                    if name == "learning_rate_multiplier":
                        why = "times the rate that is chosen here, which is another than OpenAI's"
            settings.append(Setting(name, was, becomes, why))
        return knobs, settings

    def _files(self, job: Description) -> tuple[list[FilePlan], list[str], list[str]]:
        files, obstacles, notes = [], [], []
        for role in ("training_file", "validation_file"):
            id = job.get(role)
            if not id:
                if role == "training_file":
                    obstacles.append("The job names no training file, so there is nothing to train on.")
                continue
            try:
                path = self._folder.find(str(id))
            except InvalidRequest as e:
                obstacles.append(e.message)
                continue
            judged = self._judge(path)
            name = self._folder.name_of(path)
            if why := _wrong_kind(judged):
                obstacles.append(f"{name} {why}")
                continue
            if judged.problem_count and (self._choices.rows == "stop" or not judged.rows):
                obstacles.append(_told(name, judged))
            if judged.formats and judged.formats != ("messages",):
                notes.append(
                    f"{name} holds rows of {' and '.join(judged.formats)}, which are trained as a question with its "
                    "reply: ask the new model by chat.completions, and not by completions with a separator of your own."
                )
            files.append(self._sent(role, str(id), judged))
        return files, obstacles, notes

    def _judge(self, path: Path) -> Judged:
        if path not in self._judged:
            self._on_file(self._folder.name_of(path))
            self._judged[path] = judge(path)
        return self._judged[path]

    def _sent(self, role: Role, id: str, judged: Judged) -> FilePlan:
        send = judged.path
        if not judged.is_sent_as_it_is and judged.rows:
            apart = hashlib.sha256(self._folder.name_of(judged.path).encode()).hexdigest()[:8]
            send = self._folder.path / _SENT / f"{judged.path.stem}-{apart}.jsonl"
            write_trainable(judged.path, send)
        return FilePlan(role, id, judged, send, sha256_of(send))


def _left_out(job: Description, model: str) -> str:
    """Why a job is not moved; empty when it is."""
    status = job.get("status")
    if status in _ENDED_BADLY:
        return f"It {'was cancelled' if status == 'cancelled' else 'failed'} at OpenAI, so no model of it is in use."
    method = _method(job)
    if method == "dpo":
        return "It trains on preferences (dpo), which this house cannot do yet. Nothing here equals it."
    if method == "reinforcement":
        return (
            "It trains with a grader (reinforcement), which this house cannot do yet. Nothing here equals it."
        )
    if method != "supervised":
        return f"Its method is {method!r}, which is not known here."
    if model.startswith("ft:"):
        return (
            f"It goes on from {model}, a tuned model that stays at OpenAI. Join its rows with those of the job that "
            "made that model, in one file, and tune on that: inhouse tune joined.jsonl"
        )
    return ""


def _method(job: Description) -> str:
    method = job.get("method")
    kind = method.get("type") if isinstance(method, Mapping) else None
    return str(kind or "supervised")


def _given(job: Description) -> dict[str, Any]:
    """A job's hyperparameters, from the newer place and the older; the newer goes first."""
    found: dict[str, Any] = {}
    method = job.get("method")
    block = method.get(_method(job)) if isinstance(method, Mapping) else None
    for place in (job, block):
        knobs = place.get("hyperparameters") if isinstance(place, Mapping) else None
        if isinstance(knobs, Mapping):
            found |= {str(name): value for name, value in knobs.items() if value is not None}
    return found


def _rest(job: Description, body: dict[str, Any]) -> list[Setting]:
    """Seed, suffix, metadata and integrations: what became of each; `body` gets what is asked for."""
    settings = []
    seed = job.get("seed")
    if seed is not None:
        fits = isinstance(seed, int) and 0 <= seed <= _MOST_SEED
        body["seed"] = seed if fits else 0
        why = "" if fits else f"seeds here are 0 to {_MOST_SEED}"
        settings.append(Setting("seed", seed, body["seed"], why))
    if suffix := _suffix(job):
        body["suffix"] = re.sub(r"[^A-Za-z0-9_.\-]+", "-", suffix)[:64]
        why = "" if body["suffix"] == suffix else "a suffix here holds letters, digits, '_', '.' and '-'"
        settings.append(Setting("suffix", suffix, body["suffix"], why))
    metadata = job.get("metadata")
    kept = dict(list(metadata.items())[: MOST_METADATA - 1]) if isinstance(metadata, Mapping) else {}
    if metadata:
        why = "" if kept == metadata else f"one place of {MOST_METADATA} is taken by {MARK}"
        settings.append(Setting("metadata", metadata, kept, why))
    body["metadata"] = kept
    integrations = job.get("integrations") or []
    for item in integrations if isinstance(integrations, list) else [integrations]:
        kind = item.get("type") if isinstance(item, Mapping) else item
        why = "nothing is sent elsewhere: a job's events and its result file hold the same numbers"
        settings.append(Setting("integration", kind, None, why))
    return settings


def _suffix(job: Description) -> str:
    """As it was given, or as it stands in the model's name: ft:base:organisation:suffix:id."""
    if given := job.get("user_provided_suffix"):
        return str(given)
    parts = str(job.get("fine_tuned_model") or "").split(":")
    return parts[3] if len(parts) == 5 and parts[0] == "ft" else ""


def _wrong_kind(judged: Judged) -> str:
    return {
        "supervised": "",
        "preference": "holds preferences (dpo), which this house cannot train on yet.",
        "reinforcement": "holds rows for a grader (reinforcement), which this house cannot train on yet.",
        "batch": "is the input of a batch, not of a training job. Check which file the job used.",
    }[judged.kind]


def _told(name: str, judged: Judged) -> str:
    if not judged.rows:
        return f"{name} has no row that can be trained: {judged.problems[0]}"
    of = judged.rows + judged.problem_count
    return (
        f"{name}: {judged.problem_count:,} of {of:,} rows cannot be trained; the first: "
        f'{judged.problems[0]} Or leave them out: rows="drop" (--rows drop).'
    )
