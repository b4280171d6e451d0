"""Projects, their service accounts, keys and rate limits, by OpenAI's admin paths. Every route needs the scope admin.

What OpenAI has no word for goes under x_: a key's scopes and expiry, requests at once, tokens a month.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest, NotFound
from inhouse.server import audit, auth, body, gateway, minting
from inhouse.server.auth import Caller
from inhouse.server.idempotency import create_once
from inhouse.server.limits import Party
from inhouse.server.minting import Name, Number, Scopes
from inhouse.server.openai.listing import MAX_LIMIT, cut, list_wire, piece
from inhouse.server.replies import Json
from inhouse.store.db import clock
from inhouse.store.records import accounts, keys, projects
from inhouse.store.records.accounts import Account
from inhouse.store.records.keys import KeyRow
from inhouse.store.records.limits import RateLimits
from inhouse.store.records.projects import ProjectRow

router = APIRouter(prefix="/v1/organization/projects")

Seconds = Annotated[int, Field(ge=1, le=100 * 366 * 86400)]
Groups = Annotated[list[Name], Field(max_length=100)]
_LIMIT_ID = "rl_"
_LIMITS = {
    "max_requests_per_1_minute": "requests_per_minute",
    "max_tokens_per_1_minute": "tokens_per_minute",
    "x_max_concurrent_requests": "concurrent_requests",
    "x_max_tokens_per_1_month": "tokens_per_month",
}
"""A limit's name on the wire, and in the store."""


class ProjectBody(body.RequestBody):
    """A project's name."""

    name: Name
    external_key_id: None = None
    residency: None = None


class AccountBody(body.RequestBody):
    """A new service account, with a first key unless only the account is wanted."""

    name: Name
    create_service_account_only: bool | None = None
    x_role: Literal["admin", "member"] | None = None
    x_scopes: Scopes | None = None
    expires_in_seconds: Seconds | None = None
    x_groups: Groups | None = None


class KeyBody(body.RequestBody):
    """A new key of an account; without scopes it has those of the account's role."""

    name: Name | None = None
    scopes: Scopes | None = None
    expires_in_seconds: Seconds | None = None
    x_groups: Groups | None = None


class RateLimitBody(body.RequestBody):
    """Limits to choose; 0 takes one back."""

    max_requests_per_1_minute: Number | None = None
    max_tokens_per_1_minute: Number | None = None
    x_max_concurrent_requests: Number | None = None
    x_max_tokens_per_1_month: Number | None = None
    max_images_per_1_minute: None = None
    max_audio_megabytes_per_1_minute: None = None
    max_requests_per_1_day: None = None
    batch_1_day_max_input_tokens: None = None

    def changes(self) -> dict[str, int | None]:
        return {_LIMITS[name]: value or None for name, value in self.model_dump(exclude_none=True).items()}


# ── projects ──────────────────────────────────────────────────────────────────────────────────────────────


@router.get("", response_model=None)
async def list_projects(request: Request) -> Response:
    """Every project, oldest first; archived ones when asked for."""
    asked = body.query(request, ("after", "limit", "include_archived"))
    part, said = piece(asked), asked.get("include_archived", "false")
    if said not in ("true", "false"):
        raise InvalidRequest("include_archived must be true or false.", param="include_archived")
    archived = said == "true"

    def ask(conn: Connection) -> dict[str, Any]:
        found, has_more = projects.page(conn, archived=archived, after=part.after, limit=part.limit)
        return list_wire([project_wire(row) for row in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


@router.post("", openapi_extra=body.documented(ProjectBody), response_model=None)
async def create_project(request: Request) -> Response:
    """Makes a project."""
    gw, who = gateway.of(request), auth.caller(request)
    asked = await body.read(request, ProjectBody, gw.settings.max_body_bytes)

    def add(conn: Connection) -> dict[str, Any]:
        made = projects.add(conn, asked.name, clock(conn))
        audit.note(conn, who, "project.created", made.id, {"name": made.name}, project=made.id)
        return project_wire(made)

    return await create_once(request, asked.model_dump_json().encode(), add)


@router.get("/{project_id}", response_model=None)
async def retrieve_project(request: Request, project_id: str) -> Response:
    """One project."""
    body.query(request, ())
    found = await gateway.of(request).store.read(lambda conn: projects.get(conn, project_id))
    return Json(project_wire(found))


@router.post("/{project_id}", openapi_extra=body.documented(ProjectBody), response_model=None)
async def rename_project(request: Request, project_id: str) -> Response:
    """Gives a project another name. Models that were tuned before keep the old one in theirs."""
    asked = await body.read(request, ProjectBody, gateway.of(request).settings.max_body_bytes)

    def change(conn: Connection, who: Caller) -> dict[str, Any]:
        renamed = projects.rename(conn, project_id, asked.name)
        audit.note(conn, who, "project.updated", project_id, {"name": asked.name}, project=project_id)
        return project_wire(renamed)

    return await _change(request, change)


@router.post("/{project_id}/archive", response_model=None)
async def archive_project(request: Request, project_id: str) -> Response:
    """Ends a project: its keys are of no use within a second, what it holds stays."""

    def change(conn: Connection, who: Caller) -> dict[str, Any]:
        archived = projects.archive(conn, project_id)
        audit.note(conn, who, "project.archived", project_id, project=project_id)
        return project_wire(archived)

    return await _change(request, change)


# ── service accounts ──────────────────────────────────────────────────────────────────────────────────────


@router.get("/{project_id}/service_accounts", response_model=None)
async def list_accounts(request: Request, project_id: str) -> Response:
    """A project's service accounts, oldest first."""
    part = piece(body.query(request, ("after", "limit")))

    def ask(conn: Connection) -> dict[str, Any]:
        project = projects.get(conn, project_id).id
        found, has_more = accounts.page(conn, project, after=part.after, limit=part.limit)
        return list_wire([account_wire(account) for account in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


@router.post(
    "/{project_id}/service_accounts", openapi_extra=body.documented(AccountBody), response_model=None
)
async def create_account(request: Request, project_id: str) -> Response:
    """Makes a service account and its first key, whose secret is in this reply and nowhere else."""
    minting.refuse_repeats(request)
    asked = await body.read(request, AccountBody, gateway.of(request).settings.max_body_bytes)
    secret = auth.new_secret()

    def add(conn: Connection, who: Caller) -> dict[str, Any]:
        of = minting.account(conn, who, project_id, asked.name, asked.x_role or "member")
        if asked.create_service_account_only:
            return account_wire(of) | {"api_key": None}
        row = minting.key(
            conn,
            who,
            of,
            asked.name,
            secret,
            scopes=asked.x_scopes,
            expires_at=_expiry(conn, asked.expires_in_seconds),
            groups=asked.x_groups or (),
        )
        return account_wire(of) | {"api_key": secret_wire(row, secret)}

    return await _change(request, add)


@router.get("/{project_id}/service_accounts/{account_id}", response_model=None)
async def retrieve_account(request: Request, project_id: str, account_id: str) -> Response:
    """One service account."""
    found = await gateway.of(request).store.read(lambda conn: accounts.get(conn, project_id, account_id))
    return Json(account_wire(found))


@router.delete("/{project_id}/service_accounts/{account_id}", response_model=None)
async def delete_account(request: Request, project_id: str, account_id: str) -> Response:
    """Deletes a service account; its keys are of no use within a second."""

    def change(conn: Connection, who: Caller) -> dict[str, Any]:
        revoked = accounts.delete(conn, project_id, account_id)
        told = {"keys": revoked}
        audit.note(conn, who, "service_account.deleted", account_id, told, project=project_id)
        return {"object": "organization.project.service_account.deleted", "id": account_id, "deleted": True}

    return await _change(request, change)


@router.post(
    "/{project_id}/service_accounts/{account_id}/api_keys",
    openapi_extra=body.documented(KeyBody),
    response_model=None,
)
async def create_key(request: Request, project_id: str, account_id: str) -> Response:
    """Makes another key of a service account, whose secret is in this reply and nowhere else."""
    minting.refuse_repeats(request)
    asked = await body.read(request, KeyBody, gateway.of(request).settings.max_body_bytes)
    secret = auth.new_secret()

    def add(conn: Connection, who: Caller) -> dict[str, Any]:
        of = accounts.get(conn, project_id, account_id)
        row = minting.key(
            conn,
            who,
            of,
            asked.name or of.name,
            secret,
            scopes=asked.scopes,
            expires_at=_expiry(conn, asked.expires_in_seconds),
            groups=asked.x_groups or (),
        )
        return secret_wire(row, secret)

    return await _change(request, add)


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/{project_id}/api_keys", response_model=None)
async def list_keys(request: Request, project_id: str) -> Response:
    """A project's keys that are not revoked, oldest first."""
    part = piece(body.query(request, ("after", "limit")))

    def ask(conn: Connection) -> dict[str, Any]:
        project = projects.get(conn, project_id)
        found, has_more = keys.page(conn, project.id, after=part.after, limit=part.limit)
        return list_wire([_key_wire(conn, row, project) for row in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


@router.get("/{project_id}/api_keys/{key_id}", response_model=None)
async def retrieve_key(request: Request, project_id: str, key_id: str) -> Response:
    """One key, without its secret."""

    def ask(conn: Connection) -> dict[str, Any]:
        row = _live_key(conn, project_id, key_id)
        return _key_wire(conn, row, projects.get(conn, project_id))

    return Json(await gateway.of(request).store.read(ask))


@router.delete("/{project_id}/api_keys/{key_id}", response_model=None)
async def revoke_key(request: Request, project_id: str, key_id: str) -> Response:
    """Makes a key useless within a second."""

    def change(conn: Connection, who: Caller) -> dict[str, Any]:
        _live_key(conn, project_id, key_id)
        minting.revoke(conn, who, key_id, project=project_id)
        return {"object": "organization.project.api_key.deleted", "id": key_id, "deleted": True}

    return await _change(request, change)


# ── rate limits ───────────────────────────────────────────────────────────────────────────────────────────


@router.get("/{project_id}/rate_limits", response_model=None)
async def list_rate_limits(request: Request, project_id: str) -> Response:
    """The project's own limits, then those of its keys that have some."""
    part = piece(body.query(request, ("after", "limit")), default_limit=MAX_LIMIT)

    def ask(conn: Connection) -> dict[str, Any]:
        parties = [Party("project", project_id, projects.get(conn, project_id).limits)]
        rows = [row for row in keys.list(conn, project_id) if row.revoked_at is None]
        parties += [Party("key", row.id, row.limits) for row in rows if row.limits != RateLimits()]
        found = [_limit_wire(request, party) for party in parties]
        return cut(found, part)

    return Json(await gateway.of(request).store.read(ask))


@router.post(
    "/{project_id}/rate_limits/{limit_id}", openapi_extra=body.documented(RateLimitBody), response_model=None
)
async def set_rate_limit(request: Request, project_id: str, limit_id: str) -> Response:
    """Chooses limits of a project (rl_PROJECT) or of one of its keys (rl_KEY); they hold within a second."""
    asked = await body.read(request, RateLimitBody, gateway.of(request).settings.max_body_bytes)
    of = limit_id.removeprefix(_LIMIT_ID)

    def change(conn: Connection, who: Caller) -> dict[str, Any]:
        changes = asked.changes()
        try:
            if of == project_id:
                party = Party("project", of, projects.set_limits(conn, of, changes).limits)
            else:
                party = Party("key", of, keys.set_limits(conn, of, changes, project=project_id).limits)
        except NotFound:
            raise NotFound(
                f"There is no rate limit {limit_id!r} in this project.", param="rate_limit_id"
            ) from None
        audit.note(conn, who, "rate_limit.updated", of, changes, project=project_id)
        return _limit_wire(request, party)

    return await _change(request, change)


# ── the wire ──────────────────────────────────────────────────────────────────────────────────────────────


def project_wire(row: ProjectRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "organization.project",
        "name": row.name,
        "created_at": int(row.created_at),
        "archived_at": None if row.archived_at is None else int(row.archived_at),
        "status": "active" if row.archived_at is None else "archived",
        "x_limits": row.limits.to_json(),
    }


def account_wire(account: Account) -> dict[str, Any]:
    return {
        "object": "organization.project.service_account",
        "id": account.id,
        "name": account.name,
        "role": _role(account),
        "created_at": int(account.created_at),
    }


def secret_wire(row: KeyRow, secret: str) -> dict[str, Any]:
    return {
        "object": "organization.project.service_account.api_key",
        "value": secret,
        "name": row.name,
        "created_at": int(row.created_at),
        "id": row.id,
        "x_scopes": [*row.scopes],
        "x_expires_at": row.expires_at,
    }


def _expiry(conn: Connection, seconds: int | None) -> float | None:
    return None if seconds is None else clock(conn) + seconds


def _role(account: Account) -> str:
    """OpenAI calls those who may do everything owners."""
    return "owner" if account.role == "admin" else "member"


def _key_wire(conn: Connection, row: KeyRow, project: ProjectRow) -> dict[str, Any]:
    of = accounts.get(conn, row.project, row.account)
    is_over = row.expires_at is not None and row.expires_at <= clock(conn)
    owner = {name: value for name, value in account_wire(of).items() if name != "object"}
    return {
        "object": "organization.project.api_key",
        "redacted_value": row.shown or "…",
        "name": row.name,
        "created_at": int(row.created_at),
        "last_used_at": None if row.last_used_at is None else int(row.last_used_at),
        "id": row.id,
        "owner_project_access": "inactive" if is_over or project.archived_at is not None else "active",
        "owner": {"type": "service_account", "service_account": owner},
        "x_scopes": [*row.scopes],
        "x_expires_at": row.expires_at,
        "x_groups": [*row.groups],
        "x_limits": row.limits.to_json(),
    }


def _limit_wire(request: Request, party: Party) -> dict[str, Any]:
    """What holds for this party: what was chosen for it, or what is above it."""
    holds = gateway.of(request).meter.limits_of(party)
    return {
        "object": "project.rate_limit",
        "id": _LIMIT_ID + party.id,
        "model": "*",
        "max_requests_per_1_minute": holds.requests,
        "max_tokens_per_1_minute": holds.tokens,
        "x_max_concurrent_requests": holds.concurrent,
        "x_max_tokens_per_1_month": holds.monthly_tokens,
        "x_of": party.what,
    }


def _live_key(conn: Connection, project: str, id: str) -> KeyRow:
    """A key of the project that was not revoked: OpenAI's paths forget the others."""
    row = keys.get(conn, id, project=project)
    if row.revoked_at is not None:
        raise NotFound(f"There is no key {id!r}.")
    return row


async def _change(request: Request, change: Callable[[Connection, Caller], dict[str, Any]]) -> Response:
    """Runs an administrative act in one transaction; from here on every key is looked up anew."""
    gw, who = gateway.of(request), auth.caller(request)
    told = await gw.store.write(lambda conn: change(conn, who))
    gw.keyring.forget()
    return Json(told)
