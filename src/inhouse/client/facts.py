"""A memory's facts: list, search, add, change, forget, and ask why one was or was not found.

It knows the wire of facts. How a question finds its fact is the server's business.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from inhouse import rows as rows_module
from inhouse.client import report as reports
from inhouse.client.http import Http
from inhouse.errors import BadRows, InvalidRequest, NotFound
from inhouse.rows.facts import from_rows
from inhouse.schema import OnConflict

FACTS_A_PAGE = 500
FACTS_A_REQUEST = 1000
"""As many as one request may add: each such piece is one change of the memory, all or nothing."""

Time = float | datetime
"""Unix seconds, or a datetime; one without a zone is UTC."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact, at its present version."""

    id: str
    question: str
    answer: str
    wordings: tuple[str, ...] = ()
    """Other ways of asking the same."""
    subject: str | None = None
    aliases: tuple[str, ...] = ()
    """Other names of the subject."""
    kind: str | None = None
    """text, number, date or code: how an answer is compared."""
    source: str | None = None
    span: str | None = None
    access: tuple[str, ...] = ()
    """Groups that may see it; empty: everybody of the project."""
    valid_from: float | None = None
    valid_until: float | None = None
    """Unix seconds; outside of them it is not given as an answer."""
    version: int = 1
    revision: int = 0
    """The memory's revision that this version came with."""
    status: str = "live"
    """live, or retrieval_only: never answered word for word, because `reason`."""
    reason: str | None = None
    file: str | None = None
    """The uploaded file it came from."""
    author: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    outcome: str | None = None
    """What an add did: added, unchanged, replaced or coexists."""

    @classmethod
    def from_wire(cls, item: Mapping[str, Any]) -> Fact:
        return cls(
            id=str(item["id"]),
            question=str(item["question"]),
            answer=str(item["answer"]),
            wordings=tuple(item.get("wordings") or ()),
            subject=item.get("subject"),
            aliases=tuple(item.get("aliases") or ()),
            kind=item.get("kind"),
            source=item.get("source"),
            span=item.get("span"),
            access=tuple(item.get("access") or ()),
            valid_from=item.get("valid_from"),
            valid_until=item.get("valid_until"),
            version=int(item["version"]),
            revision=int(item["revision"]),
            status=str(item["status"]),
            reason=item.get("reason"),
            file=item.get("file"),
            author=str(item.get("author") or ""),
            created_at=float(item["created_at"]),
            updated_at=float(item["updated_at"]),
            outcome=item.get("x_outcome"),
        )


@dataclass(frozen=True, slots=True)
class FactChange:
    """One line of a memory's history."""

    id: str
    fact: str
    version: int
    revision: int
    action: str
    """add, edit, forget or rollback."""
    author: str
    at: float
    """Unix seconds."""
    fact_then: Mapping[str, Any] | None = field(default=None, repr=False)
    """The fact as of this version; None once it was forgotten."""

    @classmethod
    def from_wire(cls, item: Mapping[str, Any]) -> FactChange:
        return cls(
            id=str(item["id"]),
            fact=str(item["fact"]),
            version=int(item["version"]),
            revision=int(item["revision"]),
            action=str(item["action"]),
            author=str(item["author"]),
            at=float(item["at"]),
            fact_then=item.get("fact_then"),
        )


Found: TypeAlias = list[Fact]
Changes: TypeAlias = list[FactChange]


class Facts:
    """A handle on the facts of one memory model. Iterate over it for all of them.

    Each change is a version with an author; it holds from the next question on, and `rollback` undoes it.
    """

    def __init__(self, http: Http, model: str) -> None:
        self._http = http
        self.model = model

    def __repr__(self) -> str:
        return f"Facts(model={self.model!r})"

    def __iter__(self) -> Iterator[Fact]:
        return map(Fact.from_wire, self._pages("/v1/facts", {"model": self.model}))

    def list(self, limit: int | None = None) -> Found:
        """Its facts, or the first `limit` of them. `for fact in facts` reads them page by page."""
        return [*islice(self, limit)]

    def search(self, text: str, limit: int | None = None) -> Found:
        """Facts that have this text somewhere: question, wordings, subject, aliases or answer."""
        found = self._pages("/v1/facts", {"model": self.model, "query": text})
        return [Fact.from_wire(item) for item in islice(found, limit)]

    def get(self, id: str) -> Fact:
        """One fact. Raises NotFound."""
        return Fact.from_wire(self._http.call("GET", _path(id)))

    def add(
        self,
        question: str,
        answer: str,
        *,
        wordings: Sequence[str] = (),
        subject: str | None = None,
        aliases: Sequence[str] = (),
        kind: Literal["text", "number", "date", "code"] | None = None,
        source: str | None = None,
        span: str | None = None,
        access: Sequence[str] = (),
        valid_from: Time | None = None,
        valid_until: Time | None = None,
        on_conflict: OnConflict | None = None,
    ) -> Fact:
        """Teach it one more fact; `outcome` says what became of it.

        Raises FactConflict when another fact answers this question differently, unless `on_conflict` says
        which is meant: the new one in place of the old ("replace"), or both ("coexist").
        """
        given = {
            "question": question,
            "answer": answer,
            "wordings": wordings,
            "subject": subject,
            "aliases": aliases,
            "kind": kind,
            "source": source,
            "span": span,
            "access": access,
            "valid_from": valid_from,
            "valid_until": valid_until,
        }
        row = _row({name: value for name, value in given.items() if value not in (None, (), [])})
        body = {"model": self.model, **row} | ({"on_conflict": on_conflict} if on_conflict else {})
        return Fact.from_wire(self._post("/v1/facts", body))

    def add_many(
        self,
        rows: str | Path | Iterable[Mapping[str, Any] | tuple[str, str]],
        *,
        on_conflict: OnConflict | None = None,
    ) -> Found:
        """Teach it many: dicts with the fields that `add` takes, (question, answer) pairs, or a file of facts.

        A thousand at a time are one change: all of them, or, when one raises, none. Raises FactConflict,
        and BadRows, with lines and cures, for a file.
        """
        pending = map(_row, _of_file(Path(rows), on_conflict) if isinstance(rows, (str, Path)) else rows)
        made: Found = []
        while piece := [*islice(pending, FACTS_A_REQUEST)]:
            body = {"model": self.model, "facts": piece}
            body |= {"on_conflict": on_conflict} if on_conflict else {}
            made += map(Fact.from_wire, self._post("/v1/facts", body)["data"])
        return made

    def edit(self, id: str, **changes: Any) -> Fact:
        """Change some fields of a fact, for instance edit(id, answer="…"): a new version of it.

        Raises FactConflict when another fact is asked by the same words, unless on_conflict="coexist".
        """
        if not changes:
            raise InvalidRequest("edit was given nothing to change. Name a field: edit(id, answer=…)")
        return Fact.from_wire(self._post(_path(id), _row(changes)))

    def forget(self, id: str) -> tuple[str, ...]:
        """Remove a fact and all that was derived from it, its old versions' texts too.

        Gives the ids of uploaded files that held it and are deleted with it: keep a copy of yours.
        """
        return tuple(self._http.call("DELETE", _path(id)).get("x_files_deleted") or ())

    def explain(self, question: str) -> dict[str, Any]:
        """What the router sees in a question, which facts come near, and why it decides as it does."""
        return self._http.call("POST", "/v1/facts/explain", body={"model": self.model, "question": question})

    def history(self, id: str | None = None, limit: int | None = None) -> Changes:
        """Who changed what and when, newest first: of one fact, or of the whole memory."""
        path, params = (
            ("/v1/facts/history", {"model": self.model}) if id is None else (_path(id, "history"), {})
        )
        return [FactChange.from_wire(item) for item in islice(self._pages(path, params), limit)]

    def rollback(self, id: str, version: int, *, on_conflict: Literal["coexist"] | None = None) -> Fact:
        """Give a fact the content of an earlier version, as a new version. Raises FactConflict as `edit`."""
        body = {"version": version} | ({"on_conflict": on_conflict} if on_conflict else {})
        return Fact.from_wire(self._post(_path(id, "rollback"), body))

    def export(self, path: str | Path) -> int:
        """Write every fact to a JSONL file that `client.tune` reads; returns how many."""
        target, count = Path(path), 0
        partial = target.with_name(target.name + ".part")
        with partial.open("wb") as file:
            for chunk in self._http.content("/v1/facts/export", {"model": self.model}):
                file.write(chunk)
                count += chunk.count(b"\n")
        partial.replace(target)
        return count

    def report(self) -> dict[str, Any]:
        """What was measured when the memory was made: recall, unknowns, costs, and what is not exact."""
        return self._http.call("GET", "/v1/facts/report", params={"model": self.model})

    def save_report(self, folder: str | Path) -> Sequence[Path]:
        """Write report.md, report.json and report.svg into a folder; returns their paths."""
        report, target = self.report(), Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        content = {
            "report.md": reports.report_markdown(
                report, model=self.model, questions=self.questions(report), picture="report.svg"
            ),
            "report.json": json.dumps(report, ensure_ascii=False, indent=2) + "\n",
            "report.svg": reports.report_picture_svg(report),
        }
        for name, text in content.items():
            (target / name).write_text(text, encoding="utf-8")
        return [target / name for name in content]

    def questions(self, report: Mapping[str, Any]) -> dict[str, str]:
        """The questions of the facts that a report names by id; those forgotten since are left out."""
        found = {}
        for item in report.get("retrieval_only") or ():
            try:
                found[str(item["id"])] = self.get(str(item["id"])).question
            except NotFound:
                continue
        return found

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._http.call("POST", path, body=body, idempotency_key=uuid.uuid4().hex)

    def _pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        asked = {**params, "limit": FACTS_A_PAGE}
        while True:
            page = self._http.call("GET", path, params=asked)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            asked["after"] = page["data"][-1]["id"]


def _path(id: str, *more: str) -> str:
    return "/".join(("/v1/facts", quote(id, safe=""), *more))


def _of_file(path: Path, on_conflict: OnConflict | None) -> list[dict[str, Any]]:
    """A file's facts, each with its line as its source where it names none. Raises BadRows."""
    found = from_rows(rows_module.read(path), name=path.name, on_conflict=on_conflict)
    if found.problems:
        raise BadRows(path.name, found.problems, param="facts")
    return [fact.model_dump(mode="json", exclude_defaults=True) for fact in found.facts]


def _row(given: Mapping[str, Any] | tuple[str, str]) -> dict[str, Any]:
    """A fact's fields as JSON has them. What is no field is the server's to refuse, by its name."""
    if isinstance(given, tuple):
        if len(given) != 2:
            raise InvalidRequest(
                f"A pair is (question, answer); this one has {len(given)} parts. Give two, or a dict.",
                param="facts",
            )
        given = {"question": given[0], "answer": given[1]}
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return [*value] if isinstance(value, (tuple, set, frozenset)) else value
