"""API keys. A secret is never stored: only its hash is, and that is what a key is looked up by.

A key belongs to a service account, and may do what its scopes say; `server.scopes` says which route needs which.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa

from inhouse.errors import InvalidRequest, NotFound
from inhouse.store import ids
from inhouse.store.db import now as database_now
from inhouse.store.records import accounts
from inhouse.store.records.accounts import Role as Role
from inhouse.store.records.limits import RateLimits
from inhouse.store.records.page import page as _page
from inhouse.store.tables import keys, projects, service_accounts

MEMBER_SCOPES = ("models.read", "models.write", "inference", "files", "fine_tuning", "facts")
SCOPES_OF: dict[Role, tuple[str, ...]] = {"member": MEMBER_SCOPES, "admin": (*MEMBER_SCOPES, "admin")}
"""What a key of each role may do at most, and does when nobody says less."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key, without its secret."""

    id: str
    project: str
    name: str
    role: Role
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    groups: tuple[str, ...] = ()
    """What its holder belongs to: facts with an access list are for those who share one of its groups."""
    account: str = ""
    scopes: tuple[str, ...] = ()
    shown: str = ""
    """The secret's beginning, by which people tell keys apart."""
    last_used_at: float | None = None
    limits: RateLimits = field(default_factory=RateLimits)


_columns = [keys.c[field.name] for field in fields(KeyRow)]


def add(
    conn: sa.Connection,
    *,
    project: str,
    name: str,
    secret_hash: str,
    role: Role,
    now: float,
    expires_at: float | None = None,
    groups: Sequence[str] = (),
    account: str | None = None,
    scopes: Sequence[str] | None = None,
    shown: str = "",
    limits: RateLimits | None = None,
) -> str:
    """Store a key by its secret's hash and return its id.

    Without an account it gets one of its own name; without scopes those of its role. Raises InvalidRequest
    for a scope that its role has not.
    """
    key_id = ids.new("key")
    conn.execute(
        keys.insert().values(
            id=key_id,
            project=project,
            name=name,
            secret_hash=secret_hash,
            role=role,
            created_at=now,
            expires_at=expires_at,
            groups=[*groups],
            account=account or accounts.add(conn, project, name, role, now).id,
            scopes=_checked(role, scopes),
            shown=shown,
            limits=(limits or RateLimits()).to_json(),
        )
    )
    return key_id


def by_hash(conn: sa.Connection, secret_hash: str) -> KeyRow | None:
    """The key whose secret has this hash, unless it is unknown, revoked or expired, or its project archived."""
    return _usable(conn, keys.c.secret_hash == secret_hash)


def usable(conn: sa.Connection, id: str) -> KeyRow | None:
    """The key by this id, unless it may not be used any more, as with `by_hash`."""
    return _usable(conn, keys.c.id == id)


def _usable(conn: sa.Connection, is_it: sa.ColumnElement[bool]) -> KeyRow | None:
    row = conn.execute(
        sa.select(*_columns)
        .join_from(keys, projects, projects.c.id == keys.c.project, isouter=True)
        .join(service_accounts, service_accounts.c.id == keys.c.account, isouter=True)
        .where(
            is_it,
            keys.c.revoked_at.is_(None),
            sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > database_now(conn)),
            projects.c.archived_at.is_(None),
            service_accounts.c.deleted_at.is_(None),
        )
    ).first()
    return None if row is None else _key(row)


def get(conn: sa.Connection, id: str, *, project: str | None = None) -> KeyRow:
    """The key by this id. With a project: only one of its own. Raises NotFound."""
    row = conn.execute(sa.select(*_columns).where(_is(id, project))).first()
    if row is None:
        raise _missing(id)
    return _key(row)


def revoke(conn: sa.Connection, key_id: str, *, project: str | None = None) -> None:
    """Make a key useless from now on. With a project: only one of its own. Twice is as good as once."""
    revoked = sa.func.coalesce(keys.c.revoked_at, database_now(conn))
    if conn.execute(keys.update().where(_is(key_id, project)).values(revoked_at=revoked)).rowcount == 0:
        raise _missing(key_id)


def set_limits(conn: sa.Connection, id: str, changes: Mapping[str, int | None], *, project: str) -> KeyRow:
    """Choose some of a key's own limits anew."""
    limits = get(conn, id, project=project).limits.changed(changes)
    conn.execute(keys.update().where(_is(id, project)).values(limits=limits.to_json()))
    return get(conn, id)


def note_use(conn: sa.Connection, used: Mapping[str, float]) -> None:
    """When each of these keys was last used. An older time never takes the place of a newer one."""
    late = sa.bindparam("at", type_=sa.Double)
    older = sa.or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < late)
    change = keys.update().where(keys.c.id == sa.bindparam("used"), older).values(last_used_at=late)
    if used:
        conn.execute(change, [{"used": id, "at": at} for id, at in sorted(used.items())])


def list(conn: sa.Connection, project: str) -> builtins.list[KeyRow]:
    """The project's keys, revoked ones too, oldest first."""
    query = sa.select(*_columns).where(keys.c.project == project).order_by(keys.c.seq)
    return [_key(row) for row in conn.execute(query)]


def page(
    conn: sa.Connection, project: str, *, after: str | None, limit: int
) -> tuple[builtins.list[KeyRow], bool]:
    """A piece of the project's keys that may be used, oldest first, and whether more follow."""
    within = sa.and_(keys.c.project == project, keys.c.revoked_at.is_(None))
    query = sa.select(*_columns)
    rows, has_more = _page(conn, query, keys, within, after=after, limit=limit, order="asc")
    return [_key(row) for row in rows], has_more


def any(conn: sa.Connection, *, role: str | None = None) -> bool:
    """Whether a key, or one of this role, was ever made: revoked ones count."""
    query = sa.select(keys.c.id) if role is None else sa.select(keys.c.id).where(keys.c.role == role)
    return conn.execute(query.limit(1)).first() is not None


def _checked(role: Role, scopes: Sequence[str] | None) -> builtins.list[str]:
    allowed = SCOPES_OF[role]
    if scopes is None:
        return [*allowed]
    for scope in scopes:
        if scope not in allowed:
            raise InvalidRequest(
                f"scopes: a key of the role {role} may have {', '.join(allowed)}, and not {scope!r}.",
                param="scopes",
            )
    return [scope for scope in allowed if scope in scopes]


def _is(id: str, project: str | None) -> sa.ColumnElement[bool]:
    return keys.c.id == id if project is None else sa.and_(keys.c.id == id, keys.c.project == project)


def _key(row: sa.Row[Any]) -> KeyRow:
    tuples = {"groups": tuple(row.groups), "scopes": tuple(row.scopes)}
    return KeyRow(**{**row._mapping, **tuples, "limits": RateLimits.of(row.limits)})


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no key {id!r}.")
