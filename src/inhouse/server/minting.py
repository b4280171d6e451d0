"""Making keys: the secret, the row, and the act, in one transaction; the secret leaves in that reply alone.

It knows accounts and keys, no route.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection
from starlette.requests import Request

from inhouse.errors import Conflict, InvalidRequest, UnsupportedParameter
from inhouse.server import audit, auth
from inhouse.server.auth import Caller
from inhouse.server.body import RequestBody
from inhouse.server.idempotency import HEADER
from inhouse.store.db import clock
from inhouse.store.records import accounts, keys, projects
from inhouse.store.records.accounts import Account, Role
from inhouse.store.records.keys import KeyRow
from inhouse.store.records.limits import RateLimits

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")]
Number = Annotated[int, Field(ge=0, le=2**53)]
Scopes = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)]


class LimitsBody(RequestBody):
    """Numbers to choose; 0 takes one back, so that what is above it holds."""

    requests_per_minute: Number | None = None
    tokens_per_minute: Number | None = None
    concurrent_requests: Number | None = None
    tokens_per_month: Number | None = None

    def changes(self) -> dict[str, int | None]:
        given = self.model_dump(exclude_none=True)
        return {name: value or None for name, value in given.items()}


def refuse_repeats(request: Request) -> None:
    """Raises UnsupportedParameter for an Idempotency-Key on a request whose reply shows a secret."""
    if HEADER in request.headers:
        raise UnsupportedParameter(
            "A secret is shown once, so the reply that holds it is not kept to be repeated. "
            "Leave the Idempotency-Key header out.",
            param="Idempotency-Key",
        )


def account(conn: Connection, who: Caller, project: str, name: str, role: Role) -> Account:
    """A new service account of an active project."""
    if projects.get(conn, project).archived_at is not None:
        raise Conflict(f"The project {project} is archived, so it takes no new keys.")
    made = accounts.add(conn, project, name, role, clock(conn))
    told = {"name": name, "role": role}
    audit.note(conn, who, "service_account.created", made.id, told, project=project)
    return made


def key(
    conn: Connection,
    who: Caller,
    of: Account,
    name: str,
    secret: str,
    *,
    scopes: Sequence[str] | None = None,
    expires_at: float | None = None,
    groups: Sequence[str] = (),
    limits: RateLimits | None = None,
) -> KeyRow:
    """A new key of an account, for this secret."""
    now = clock(conn)
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("expires_at is in the past.", param="expires_at")
    if projects.get(conn, of.project).archived_at is not None:
        raise Conflict(f"The project {of.project} is archived, so it takes no new keys.")
    id = keys.add(
        conn,
        project=of.project,
        name=name,
        secret_hash=auth.hash_of(secret),
        role=of.role,
        now=now,
        expires_at=expires_at,
        groups=groups,
        account=of.id,
        scopes=scopes,
        shown=auth.shown_of(secret),
        limits=limits,
    )
    row = keys.get(conn, id)
    told: dict[str, Any] = {"name": name, "role": row.role, "account": of.id, "scopes": [*row.scopes]}
    told |= {"expires_at": expires_at, "groups": [*groups], "limits": row.limits.to_json()}
    audit.note(conn, who, "api_key.created", id, told, project=of.project)
    return row


def revoke(conn: Connection, who: Caller, id: str, *, project: str | None = None) -> None:
    """Makes a key useless. With a project: only one of its own."""
    row = keys.get(conn, id, project=project)
    keys.revoke(conn, id)
    audit.note(conn, who, "api_key.deleted", id, project=row.project)
