"""Every row of the database as lines of JSON, and back, the same from and into SQLite and PostgreSQL.

A table is a file: the names of its columns, then a row a line. Bytes are base64, a JSON value is its own text, so
that a row comes back as it was. It reads the tables that are there, and knows none by name but Alembic's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import sqlalchemy as sa

from inhouse.errors import InvalidRequest
from inhouse.store.db import upsert

ROWS_AT_ONCE = 500
_REVISION_TABLE = "alembic_version"


def tables(conn: sa.Connection) -> list[sa.Table]:
    """The tables with rows of ours, those that others refer to first."""
    found = sa.MetaData()
    found.reflect(conn)
    return [table for table in found.sorted_tables if table.name != _REVISION_TABLE]


def write(conn: sa.Connection, table: sa.Table, out: BinaryIO) -> int:
    """Write a table's rows in the order of its key; returns how many."""
    columns = list(table.columns)
    read = [sa.cast(c, sa.Text) if isinstance(c.type, sa.JSON) else c for c in columns]
    query = sa.select(*read).order_by(*table.primary_key.columns)
    out.write(_line([column.name for column in columns]))
    count = 0
    for row in conn.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
        out.write(_line([_plain(value) for value in row]))
        count += 1
    return count


def read(conn: sa.Connection, table: sa.Table, lines: Iterator[bytes]) -> int:
    """Insert the rows that `write` wrote; returns how many. A row that a fresh schema holds is written over.

    Raises InvalidRequest where the columns are not the table's.
    """
    names = json.loads(next(lines))
    if set(names) != set(table.columns.keys()):
        raise InvalidRequest(f"The rows of {table.name} are not those of its columns: {', '.join(names)}.")
    values = {c.name: _bound(c, is_postgres=conn.dialect.name == "postgresql") for c in table.columns}
    insert: Any = table.insert().values(values)
    if conn.scalar(sa.select(sa.exists().select_from(table))):
        key = [column.name for column in table.primary_key]
        insert = upsert(conn, table).values(values)
        insert = insert.on_conflict_do_update(
            index_elements=key, set_={n: insert.excluded[n] for n in names if n not in key}
        )
    convert = {c.name: _converter(c) for c in table.columns}
    count = 0
    batch: list[dict[str, Any]] = []
    for line in lines:
        row = zip(names, json.loads(line), strict=True)
        batch.append({f"in_{name}": convert[name](value) for name, value in row})
        if len(batch) == ROWS_AT_ONCE:
            conn.execute(insert, batch)
            count, batch = count + len(batch), []
    if batch:
        conn.execute(insert, batch)
    return count + len(batch)


def counters(conn: sa.Connection) -> dict[str, int]:
    """The highest number that each counting key has given out, so that none is ever given out twice."""
    if conn.dialect.name == "sqlite":
        return {row.name: row.seq for row in conn.execute(sa.text("SELECT name, seq FROM sqlite_sequence"))}
    found = {}
    for name in sa.inspect(conn).get_table_names():
        if sequence := _sequence(conn, name):
            last = conn.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608
            if last.is_called:
                found[name] = int(last.last_value)
    return found


def set_counters(conn: sa.Connection, last: Mapping[str, int]) -> None:
    """Let counting go on behind these numbers."""
    for name, number in last.items():
        given = {"name": name, "number": number}
        if conn.dialect.name == "sqlite":
            conn.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), given)
            conn.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), given)
        elif sequence := _sequence(conn, name):
            conn.execute(sa.select(sa.func.setval(sequence, number)))


def _sequence(conn: sa.Connection, table: str) -> str | None:
    if "seq" not in {column["name"] for column in sa.inspect(conn).get_columns(table)}:
        return None
    found = conn.scalar(sa.select(sa.func.pg_get_serial_sequence(table, "seq")))
    return None if found is None else str(found)


def _bound(column: sa.Column[Any], *, is_postgres: bool) -> Any:
    """How a value is given to the database: JSON as its own text, which PostgreSQL wants to be told."""
    is_json = isinstance(column.type, sa.JSON)
    given = sa.bindparam(f"in_{column.name}", type_=sa.Text() if is_json else column.type)
    if not is_json:
        return given
    return sa.cast(given, sa.JSON) if is_postgres else sa.type_coerce(given, sa.Text)


def _converter(column: sa.Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, sa.LargeBinary):
        return lambda value: None if value is None else base64.b64decode(value, validate=True)
    return lambda value: value


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes | memoryview) else value


def _line(values: list[Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
