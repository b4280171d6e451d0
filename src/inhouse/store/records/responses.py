"""Stored responses: what was asked and answered, read again, gone on from, and forgotten.

A response holds its own turn and the id of the one before it, so a conversation is its chain. It knows words and
rows: what an item means is the server's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from inhouse.errors import NotFound
from inhouse.store.records import forgetting
from inhouse.store.records.fact_change import Groups, may_see
from inhouse.store.tables import facts, response_items, responses


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One turn as it was asked and answered."""

    id: str
    project: str
    previous: str | None
    """The response that this one goes on from."""
    bank: str | None
    """The bank of facts that it answered from."""
    access: list[list[str]]
    """Access lists of the facts that it, or one before it, cites: only who shares a group of each may see it."""
    items: list[dict[str, Any]]
    """What was asked, as the API's items."""
    reply: dict[str, Any]
    """What was answered, as the API's response."""
    created_at: float


_columns = [responses.c[field.name] for field in fields(StoredResponse)]


def add(conn: sa.Connection, response: StoredResponse) -> None:
    """Store a response. Whoever does sees to it that nothing it says was forgotten while it was made
    (`forgetting.hold_responses`, `forgetting.has_forgotten`)."""
    said = forgetting.folded_texts([response.items, response.reply])
    conn.execute(responses.insert().values(**asdict(response), said=said))
    items = [{"item": item["id"], "is_output": False} for item in response.items]
    items += [{"item": item["id"], "is_output": True} for item in response.reply["output"]]
    conn.execute(response_items.insert(), [{"response": response.id, **item} for item in items])


def get(
    conn: sa.Connection, project: str, id: str, *, groups: Groups = None, param: str = "id"
) -> StoredResponse:
    """The project's response by this id, as somebody of these groups may see it."""
    row = conn.execute(sa.select(*_columns).where(_is(project, id))).first()
    if row is None or not all(may_see(access, groups) for access in row.access):
        raise _missing(id, param)
    return StoredResponse(*row)


def item(
    conn: sa.Connection, project: str, id: str, *, groups: Groups, param: str
) -> tuple[dict[str, Any], StoredResponse]:
    """The item by this id that a stored response of the project answered, and that response."""
    query = sa.select(response_items.c.response).join(responses)
    given = sa.and_(response_items.c.item == id, response_items.c.is_output)
    holder = conn.execute(query.where(given, responses.c.project == project)).scalar()
    try:
        found = get(conn, project, holder or "", groups=groups)
    except NotFound:
        raise NotFound(f"There is no item {id!r} in a stored response.", param=param) from None
    return next(item for item in found.reply["output"] if item["id"] == id), found


def chain(conn: sa.Connection, project: str, id: str, *, groups: Groups, param: str) -> list[StoredResponse]:
    """The conversation up to this response, oldest first. Raises NotFound for one that is gone, or of which one is."""
    get(conn, project, id, groups=groups, param=param)
    steps = sa.select(responses.c.id, responses.c.previous, sa.literal(0).label("depth"))
    walk = steps.where(_is(project, id)).cte("walk", recursive=True)
    before = sa.select(responses.c.id, responses.c.previous, walk.c.depth + 1)
    walk = walk.union_all(
        before.where(responses.c.id == walk.c.previous, responses.c.project == sa.literal(project))
    )
    query = sa.select(*_columns).join(walk, walk.c.id == responses.c.id).order_by(walk.c.depth.desc())
    found = [StoredResponse(*row) for row in conn.execute(query)]
    if found[0].previous is not None:
        raise NotFound(
            f"{id!r} goes on from {found[0].previous!r}, which is gone. Send the conversation as input.",
            param=param,
        )
    return found


def delete(conn: sa.Connection, project: str, id: str, *, groups: Groups = None) -> None:
    """Forget a response, and the reply kept for its idempotency key. What goes on from it stays, and ends there."""
    get(conn, project, id, groups=groups)
    conn.execute(responses.delete().where(_is(project, id)))
    forgetting.scrub_replies(conn, project, id)


def access_of(conn: sa.Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """The access list of each of these facts that exists."""
    found = conn.execute(sa.select(facts.c.id, facts.c.access).where(facts.c.id.in_(sorted(ids))))
    return {id: list(access) for id, access in found}


def _is(project: str, id: str) -> sa.ColumnElement[bool]:
    return sa.and_(responses.c.project == project, responses.c.id == id)


def _missing(id: str, param: str) -> NotFound:
    return NotFound(f"There is no response {id!r}.", param=param)
