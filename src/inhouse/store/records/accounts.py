"""Service accounts: the programs of a project, which keys are given to."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, fields
from typing import Any, Literal

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.store import ids
from inhouse.store.db import now as database_now
from inhouse.store.records.page import page as _page
from inhouse.store.tables import keys, service_accounts

Role = Literal["admin", "member"]


@dataclass(frozen=True, slots=True)
class Account:
    """One service account."""

    id: str
    project: str
    name: str
    role: Role
    created_at: float


_columns = [service_accounts.c[field.name] for field in fields(Account)]


def add(conn: sa.Connection, project: str, name: str, role: Role, now: float) -> Account:
    """A new account of the project. Names may repeat; ids do not."""
    made = Account(ids.new("svc_acct"), project, name, role, now)
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    conn.execute(service_accounts.insert().values(**values))
    return made


def get(conn: sa.Connection, project: str, id: str) -> Account:
    """The project's account by this id."""
    row = conn.execute(sa.select(*_columns).where(_is(project, id))).first()
    if row is None:
        raise _missing(id)
    return _account(row)


def page(
    conn: sa.Connection, project: str, *, after: str | None, limit: int
) -> tuple[builtins.list[Account], bool]:
    """A piece of the project's accounts, oldest first, and whether more follow."""
    within = sa.and_(service_accounts.c.project == project, service_accounts.c.deleted_at.is_(None))
    query = sa.select(*_columns)
    rows, has_more = _page(conn, query, service_accounts, within, after=after, limit=limit, order="asc")
    return [_account(row) for row in rows], has_more


def delete(conn: sa.Connection, project: str, id: str) -> builtins.list[str]:
    """Delete an account; its keys are revoked with it. Returns those that were."""
    gone = {"deleted_at": database_now(conn)}
    if conn.execute(service_accounts.update().where(_is(project, id)).values(**gone)).rowcount == 0:
        raise _missing(id)
    live = sa.and_(keys.c.account == id, keys.c.revoked_at.is_(None))
    revoked = keys.update().where(live).values(revoked_at=database_now(conn)).returning(keys.c.id)
    return [key_id for (key_id,) in conn.execute(revoked)]


def _is(project: str, id: str) -> sa.ColumnElement[bool]:
    found = service_accounts.c
    return sa.and_(found.project == project, found.id == id, found.deleted_at.is_(None))


def _account(row: sa.Row[Any]) -> Account:
    return Account(**row._mapping)


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no service account {id!r} in this project.", param="service_account_id")
