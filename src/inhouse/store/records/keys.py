"""API keys. A secret is never stored: only its hash is, and that is what a key is looked up by."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.store import ids
from inhouse.store.db import now as database_now
from inhouse.store.tables import keys

Role = Literal["admin", "member"]


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
) -> str:
    """Store a key by its secret's hash and return its id."""
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
        )
    )
    return key_id


def by_hash(conn: sa.Connection, secret_hash: str) -> KeyRow | None:
    """The key whose secret has this hash, unless it is unknown, revoked or expired."""
    row = conn.execute(
        sa.select(*_columns).where(
            keys.c.secret_hash == secret_hash,
            keys.c.revoked_at.is_(None),
            sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > database_now(conn)),
        )
    ).first()
    return None if row is None else _key(row)


def revoke(conn: sa.Connection, key_id: str, *, project: str | None = None) -> None:
    """Make a key useless from now on. With a project: only one of its own. Twice is as good as once."""
    mine = keys.c.id == key_id if project is None else sa.and_(keys.c.id == key_id, keys.c.project == project)
    revoked = sa.func.coalesce(keys.c.revoked_at, database_now(conn))
    if conn.execute(keys.update().where(mine).values(revoked_at=revoked)).rowcount == 0:
        raise NotFound(f"There is no key {key_id!r}.")


def list(conn: sa.Connection, project: str) -> builtins.list[KeyRow]:
    """The project's keys, revoked ones too, oldest first."""
    query = sa.select(*_columns).where(keys.c.project == project).order_by(keys.c.seq)
    return [_key(row) for row in conn.execute(query)]


def any(conn: sa.Connection, *, role: str | None = None) -> bool:
    """Whether a key, or one of this role, was ever made: revoked ones count."""
    query = sa.select(keys.c.id) if role is None else sa.select(keys.c.id).where(keys.c.role == role)
    return conn.execute(query.limit(1)).first() is not None


def _key(row: sa.Row[Any]) -> KeyRow:
    return KeyRow(**{**row._mapping, "groups": tuple(row.groups)})
