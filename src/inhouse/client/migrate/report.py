"""What a migration did, for people (Markdown) and for programs (JSON): every change, and why.

It knows plans and outcomes; it asks no server and starts nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from inhouse.client.migrate.folder import OURS, Folder
from inhouse.client.migrate.plan import FilePlan, JobPlan
from inhouse.errors import InvalidRequest

State = Literal["left out", "not started", "ready", "started", "succeeded", "failed", "cancelled"]

REPORT = f"{OURS}migration.md"
RECORD = f"{OURS}migration.json"
MODELS = f"{OURS}models.json"
_SHOWN = 20
"""Rows of a file that the Markdown lists; the JSON has more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job stands here."""

    job: str
    """Its id here."""
    state: str
    """As the server says it: queued, running, succeeded …"""
    base: str = ""
    model: str | None = None
    error: str | None = None
    was_there: bool = False
    """Whether an earlier run had started it."""
    notes: tuple[str, ...] = ()
    """Warnings of the job itself."""


@dataclass(slots=True)
class Migration:
    """The plans of a folder, and how far they are carried out."""

    folder: Folder
    plans: list[JobPlan]
    server: str = ""
    """Its address; empty: nothing was sent (a dry run)."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By OpenAI's ids."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Why the server did not take a job, by OpenAI's ids."""

    @property
    def models(self) -> dict[str, str]:
        """OpenAI's names of tuned models, and the names here."""
        return {
            str(plan.old["fine_tuned_model"]): made.model
            for plan in self.plans
            if (made := self.outcomes.get(plan.id)) and made.model and plan.old.get("fine_tuned_model")
        }

    @property
    def is_whole(self) -> bool:
        """Whether everything that was to be moved is moved, on its way, or (in a dry run) could be."""
        bad = ("not started", "failed", "cancelled")
        return not self.folder.problems and all(self.state(plan) not in bad for plan in self.plans)

    def state(self, plan: JobPlan) -> State:
        if plan.left_out:
            return "left out"
        if made := self.outcomes.get(plan.id):
            return made.state if made.state in ("succeeded", "failed", "cancelled") else "started"  # type: ignore[return-value]
        return "not started" if plan.obstacles or plan.id in self.refusals or self.server else "ready"

    def why(self, plan: JobPlan) -> list[str]:
        """What there is to say about that state."""
        made = self.outcomes.get(plan.id)
        told = [
            plan.left_out,
            *plan.obstacles,
            self.refusals.get(plan.id, ""),
            (made.error if made else "") or "",
        ]
        return [text for text in told if text]

    def write(self, folder: Path | None = None) -> Path:
        """The report, its record and the table of names, each whole or not at all. Returns the report's path.

        Names that an earlier run wrote stay: code looks models up in that table. A dry run leaves it alone.
        """
        where = folder or self.folder.path
        where.mkdir(parents=True, exist_ok=True)
        _put(where / REPORT, self.to_markdown())
        _put(where / RECORD, json.dumps(self.to_object(), ensure_ascii=False, indent=2) + "\n")
        if self.server:
            names = {**_names(where / MODELS), **self.models}
            _put(where / MODELS, json.dumps(names, ensure_ascii=False, indent=2) + "\n")
        return where / REPORT

    def to_object(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        return {
            "folder": str(self.folder.path),
            "server": self.server or None,
            "is_dry_run": not self.server,
            "is_whole": self.is_whole,
            "jobs": [self._job(plan) for plan in self.plans],
            "models": self.models,
            "files_not_used": [self.folder.name_of(path) for path in self._unused()],
            "problems": list(self.folder.problems),
        }

    def to_markdown(self) -> str:
        """The report as a page."""
        parts = ["# Moved from OpenAI" if self.server else "# What moving from OpenAI would do", self._lead()]
        if self.folder.problems:
            parts += ["## What could not be read", _list(self.folder.problems)]
        if self.plans:
            head = ("job at OpenAI", "its model", "state here", "job here", "model here")
            parts.append(_table(head, (self._line(plan) for plan in self.plans)))
        parts += [part for plan in self.plans for part in self._section(plan)]
        if unused := self._unused():
            names = [f"`{self.folder.name_of(path)}`" for path in unused]
            parts += ["## Files that no job was made from", _list(names)]
        parts += ["## How your code changes", self._code()]
        return "\n\n".join(parts) + "\n"

    def _lead(self) -> str:
        counts: dict[str, int] = {}
        for plan in self.plans:
            counts[self.state(plan)] = counts.get(self.state(plan), 0) + 1
        told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no jobs"
        where = f"on {self.server}" if self.server else "nothing was sent"
        return f"From `{self.folder.path}`: {told}; {where}."

    def _line(self, plan: JobPlan) -> list[str]:
        made = self.outcomes.get(plan.id)
        old = plan.old.get("fine_tuned_model") or plan.old.get("model")
        return [
            plan.id,
            str(old),
            self.state(plan),
            made.job if made else "",
            (made.model if made else "") or "",
        ]

    def _section(self, plan: JobPlan) -> list[str]:
        parts = [f"## {plan.id}"]
        made = self.outcomes.get(plan.id)
        if told := self.why(plan):
            parts.append(_list(told))
        if made and made.was_there:
            parts.append("An earlier run had started this job; nothing was started again.")
        if plan.settings:
            rows = ([s.name, _cell(s.was), _cell(s.becomes), s.verdict, s.why] for s in plan.settings)
            parts.append(_table(("setting", "at OpenAI", "here", "", "why"), rows))
            if any(s.name == "n_epochs" and isinstance(s.becomes, int) for s in plan.settings):
                parts.append(
                    "OpenAI's description does not tell whether a number was asked for or chosen by OpenAI for its own "
                    "base. Numbers chosen here for this base: `--hyperparameters auto`."
                )
        parts += [self._file(file) for file in plan.files]
        if notes := (*plan.notes, *(made.notes if made else ())):
            parts.append(_list(notes))
        return parts

    def _file(self, file: FilePlan) -> str:
        judged, name = file.judged, self.folder.name_of(file.judged.path)
        words = [f"**{file.role}** {file.old_id}, `{name}`: {judged.rows:,} rows can be trained."]
        if judged.changed_count:
            words.append(f"\nChanged, {judged.changed_count:,}:\n")
            words += [f"- line {change.line}: {change.what}" for change in judged.changed[:_SHOWN]]
            words += _more(judged.changed_count)
        if judged.problem_count:
            words.append(f"\nCannot be trained, {judged.problem_count:,}:\n")
            words += [f"- {problem}" for problem in judged.problems[:_SHOWN]]
            words += _more(judged.problem_count)
        return "\n".join(words)

    def _job(self, plan: JobPlan) -> dict[str, Any]:
        made = self.outcomes.get(plan.id)
        old = {
            name: plan.old.get(name) for name in ("id", "model", "fine_tuned_model", "status", "created_at")
        }
        return {
            "old": old,
            "state": self.state(plan),
            "why": self.why(plan),
            "new": {
                "job": made.job,
                "state": made.state,
                "base": made.base,
                "model": made.model,
                "was_there": made.was_there,
            }
            if made
            else None,
            "settings": [
                {"name": s.name, "was": s.was, "becomes": s.becomes, "verdict": s.verdict, "why": s.why}
                for s in plan.settings
            ],
            "files": [self._file_object(file) for file in plan.files],
            "notes": [*plan.notes, *(made.notes if made else ())],
        }

    def _file_object(self, file: FilePlan) -> dict[str, Any]:
        judged = file.judged
        return {
            "role": file.role,
            "old_id": file.old_id,
            "file": self.folder.name_of(judged.path),
            "sent": self.folder.name_of(file.send),
            "sha256": file.digest,
            "rows": judged.rows,
            "changed_rows": judged.changed_count,
            "changed": [{"line": c.line, "what": c.what} for c in judged.changed],
            "rows_that_cannot_be_trained": judged.problem_count,
            "problems": [
                {"line": p.line, "field": p.field, "reason": p.reason, "cure": p.cure}
                for p in judged.problems
            ],
        }

    def _unused(self) -> list[Path]:
        used = {file.judged.path for plan in self.plans for file in plan.files}
        return [path for path in self.folder.data if path not in used]

    def _code(self) -> str:
        models = self.models
        old, new = next(
            iter(models.items()), ("ft:gpt-4o-mini-2024-07-18:you:name:id", "the name of the new model")
        )
        url = self.server or "http://127.0.0.1:8420"
        return (
            "```diff\n"
            "-client = OpenAI()\n"
            f'+client = OpenAI(base_url="{url}/v1", api_key="sk-inhouse-...")\n'
            " reply = client.chat.completions.create(\n"
            f'-    model="{old}",\n'
            f'+    model="{new}",\n'
            "```\n\n"
            f"This house has no aliases: a model answers to its own name only. `{MODELS}` maps OpenAI's names to the "
            "names here, for code that looks names up:\n\n"
            "```python\n"
            f'MODELS = json.load(open("{MODELS}"))\n'
            "model = MODELS.get(model, model)\n"
            "```"
        )


def _names(path: Path) -> dict[str, str]:
    """The table as it lies there. Raises InvalidRequest for one that somebody else has written over."""
    if not path.exists():
        return {}
    try:
        return {str(old): str(new) for old, new in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError):
        raise InvalidRequest(
            f"{path} is not a JSON object of names. Mend it, or move it away and run this again.",
            param="folder",
        ) from None


def _put(path: Path, text: str) -> None:
    unfinished = path.with_suffix(path.suffix + ".part")
    with unfinished.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def _more(count: int) -> list[str]:
    return [f"- … {count - _SHOWN:,} more; `{RECORD}` lists the first hundred"] if count > _SHOWN else []


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(header: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = list(header)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "nothing"
    return str(value)
