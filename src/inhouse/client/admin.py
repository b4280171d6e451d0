"""What an operator asks: keys, projects, usage and the audit log. Everything here needs an admin key.

It knows the server's admin paths; how requests travel is http.py's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from inhouse.client.http import Http
from inhouse.errors import NotFound

PROJECTS = "/v1/organization/projects"
By = Literal["day", "project", "key", "model"]
Kind = Literal["completions", "embeddings"]
KINDS: tuple[Kind, ...] = ("completions", "embeddings")
GROUPS: dict[By, str] = {"project": "project_id", "key": "api_key_id", "model": "model"}
"""What usage may be grouped by beside the day, and OpenAI's word for it."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without its secret."""

    id: str
    name: str
    project: str
    account: str
    role: str
    scopes: tuple[str, ...]
    groups: tuple[str, ...]
    shown: str
    """The secret's beginning."""
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    limits: Mapping[str, int]

    @classmethod
    def from_wire(cls, told: Mapping[str, Any]) -> Key:
        values = {name: told[name] for name in cls.__slots__}
        return cls(**{**values, "scopes": tuple(told["scopes"]), "groups": tuple(told["groups"])})


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, and its secret, which is shown here and never again."""

    key: Key
    secret: str


@dataclass(frozen=True, slots=True)
class Project:
    """A wall: what is in it is seen by its own keys only."""

    id: str
    name: str
    created_at: float
    archived_at: float | None
    limits: Mapping[str, int]

    @classmethod
    def from_wire(cls, told: Mapping[str, Any]) -> Project:
        return cls(told["id"], told["name"], told["created_at"], told["archived_at"], told["x_limits"])


@dataclass(frozen=True, slots=True)
class Used:
    """What was used; None where it was not asked to be told apart."""

    day: float | None
    """When the day (UTC) begins, in Unix seconds."""
    project: str | None
    key: str | None
    model: str | None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the audit log is what was written."""

    intact: bool
    acts: int
    head: str
    """The newest act's number and hash. Noted elsewhere, it tells of a log that was forged as a whole."""
    breaks: tuple[Mapping[str, Any], ...]
    """Where it is not: the act's `seq`, its `id` where it is there, and the `reason`."""


class Admin:
    """`client.admin`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────

    def api_keys(self) -> list[Key]:
        """Every project's keys, revoked ones too."""
        return [Key.from_wire(told) for told in self._http.call("GET", "/v1/x/keys")["data"]]

    def create_key(
        self,
        name: str,
        *,
        project: str | None = None,
        role: Literal["member", "admin"] = "member",
        scopes: Sequence[str] | None = None,
        expires_at: float | None = None,
        groups: Sequence[str] = (),
        **limits: int,
    ) -> NewKey:
        """A new key, of a service account by its name. Raises NotFound for a project that nobody has made.

        Without `scopes` it may do what its role may; `expires_at` is in Unix seconds; `limits` are of this key
        alone: requests_per_minute, tokens_per_minute, concurrent_requests, tokens_per_month.
        """
        asked = {
            "project": project,
            "scopes": None if scopes is None else [*scopes],
            "expires_at": expires_at,
            "groups": [*groups] or None,
            "limits": limits or None,
        }
        body = {"name": name, "role": role} | {
            key: value for key, value in asked.items() if value is not None
        }
        told = self._http.call("POST", "/v1/x/keys", body=body)
        return NewKey(Key.from_wire(told), str(told["key"]))

    def revoke_key(self, id: str) -> None:
        """Make a key useless, within a second. Raises NotFound."""
        self._http.call("DELETE", f"/v1/x/keys/{quote(id, safe='')}")

    # ── projects ──────────────────────────────────────────────────────────────────────────────────────────

    def projects(self, *, archived: bool = False) -> list[Project]:
        """Every project; with `archived` those that have ended as well."""
        params = {"include_archived": "true"} if archived else {}
        return [Project.from_wire(told) for told in self._pages(PROJECTS, params)]

    def project(self, name: str) -> Project:
        """The project by this name or id. Raises NotFound."""
        for project in self.projects(archived=True):
            if name in (project.id, project.name):
                return project
        raise NotFound(f"There is no project {name!r}. `inhouse projects list` lists them.", param="project")

    def create_project(self, name: str) -> Project:
        """A new project. Raises Conflict when one has this name."""
        return Project.from_wire(self._http.call("POST", PROJECTS, body={"name": name}))

    def archive_project(self, name: str) -> Project:
        """End a project for good: its keys are of no use, what it holds stays."""
        path = f"{PROJECTS}/{self.project(name).id}/archive"
        return Project.from_wire(self._http.call("POST", path))

    def limits(self, name: str) -> dict[str, int | None]:
        """What holds for a project, its own limits and the server's where it has none."""
        id = self.project(name).id
        return _limits(self._http.call("GET", f"{PROJECTS}/{id}/rate_limits")["data"][0])

    def set_limits(self, name: str, **limits: int) -> dict[str, int | None]:
        """Choose some of a project's limits; 0 takes one back. Returns what holds now."""
        id = self.project(name).id
        body = {_ON_THE_WIRE[limit]: number for limit, number in limits.items()}
        return _limits(self._http.call("POST", f"{PROJECTS}/{id}/rate_limits/rl_{id}", body=body))

    # ── usage ─────────────────────────────────────────────────────────────────────────────────────────────

    def usage(
        self,
        *,
        since: float,
        until: float | None = None,
        by: Sequence[By] = (),
        kinds: Sequence[Kind] = KINDS,
    ) -> list[Used]:
        """Tokens used from one time to another (Unix seconds), to the token, told apart `by` day and others.

        Those of answers and of texts that were embedded together, or of one of these `kinds` alone.
        """
        params: dict[str, Any] = {
            "start_time": int(since),
            "bucket_width": "1d",
            "limit": 31,
            "group_by": [GROUPS[name] for name in by if name != "day"],
        }
        if until is not None:
            params["end_time"] = int(until)
        sums: dict[tuple[Any, ...], list[int]] = {}
        for bucket in (b for kind in kinds for b in self._buckets(f"/v1/organization/usage/{kind}", params)):
            for told in bucket["results"]:
                day = float(bucket["start_time"]) if "day" in by else None
                found = sums.setdefault((day, *(told[name] for name in GROUPS.values())), [0, 0, 0, 0])
                for place, name in enumerate(_COUNTED):
                    found[place] += told.get(name, 0)
        return [Used(*who, *counts) for who, counts in sums.items()]

    # ── the audit log ─────────────────────────────────────────────────────────────────────────────────────

    def audit(self, *, limit: int | None = None, **wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Administrative acts, newest first; `wanted`: project_ids, event_types, actor_ids, resource_ids."""
        params = {f"{name}[]": [*values] for name, values in wanted.items() if values}
        for count, told in enumerate(self._pages("/v1/organization/audit_logs", params)):
            if limit is not None and count == limit:
                return
            yield told

    def verify_audit(self, noted: str | None = None) -> Verification:
        """Whether the log is what was written; `noted` is a head from an earlier look."""
        told = self._http.call("GET", "/v1/x/audit/verify", params={"noted": noted} if noted else None)
        return Verification(told["intact"], told["acts"], told["head"], tuple(told["breaks"]))

    def export_audit(self, to: str | Path) -> str:
        """Write the whole log as JSONL, its last line the head; returns the head."""
        last = b""
        with Path(to).open("wb") as file:
            for piece in self._http.content("/v1/x/audit/export", {}):
                file.write(piece)
                last = (last + piece).rstrip(b"\n").rpartition(b"\n")[2] + b"\n" * piece.endswith(b"\n")
        head = json.loads(last)
        return f"{head['seq']}:{head['hash']}"

    def _pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, Any] = {"limit": 100, **params}
        while True:
            page = self._http.call("GET", path, params=asked)
            yield from page["data"]
            if not page["has_more"]:
                return
            asked["after"] = page["last_id"]

    def _buckets(self, path: str, params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        asked = dict(params)
        while True:
            page = self._http.call("GET", path, params=asked)
            yield from page["data"]
            if not page["has_more"]:
                return
            asked["page"] = page["next_page"]


_COUNTED = ("num_model_requests", "input_tokens", "input_cached_tokens", "output_tokens")
_ON_THE_WIRE = {
    "requests_per_minute": "max_requests_per_1_minute",
    "tokens_per_minute": "max_tokens_per_1_minute",
    "concurrent_requests": "x_max_concurrent_requests",
    "tokens_per_month": "x_max_tokens_per_1_month",
}
_NO_LIMIT = 2**31 - 1
"""What the server calls a limit that is none."""


def _limits(told: Mapping[str, Any]) -> dict[str, int | None]:
    found = {name: told[wire] for name, wire in _ON_THE_WIRE.items()}
    return {name: None if number == _NO_LIMIT else number for name, number in found.items()}
