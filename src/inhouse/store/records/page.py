"""Lists in pieces: the rows after a given one, and whether more follow."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from inhouse.errors import InvalidRequest

Order = Literal["asc", "desc"]


def page(
    conn: sa.Connection,
    query: sa.Select[Any],
    table: sa.Table,
    within: sa.ColumnElement[bool],
    *,
    after: str | None,
    limit: int,
    order: str,
) -> tuple[list[sa.Row[Any]], bool]:
    """At most `limit` rows of `query` in order of arrival, and whether there are more.

    `after` is an id of the same list: one from elsewhere is refused like one that never was.
    """
    if order not in ("asc", "desc"):
        raise InvalidRequest(f'order is {order!r}. Use "asc" or "desc".', param="order")
    if limit < 1:
        raise InvalidRequest(f"limit is {limit}. Ask for at least 1.", param="limit")
    query = query.where(within)
    if after is not None:
        start = conn.execute(sa.select(table.c.seq).where(within, table.c.id == after)).scalar()
        if start is None:
            raise InvalidRequest(f"after names {after!r}, which is not in this list.", param="after")
        query = query.where(table.c.seq > start if order == "asc" else table.c.seq < start)
    query = query.order_by(table.c.seq.asc() if order == "asc" else table.c.seq.desc()).limit(limit + 1)
    rows = list(conn.execute(query))
    return rows[:limit], len(rows) > limit
