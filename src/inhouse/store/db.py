"""One door to SQL: SQLite in a file, or PostgreSQL by URL, with the same promises on both.

`write()` holds the database's write lock from its first moment on SQLite (BEGIN IMMEDIATE: a deferred
transaction that upgrades later fails under concurrent writers); `read()` refuses writes. What the drivers
raise becomes our own errors here, so no other file knows a driver. It knows no table.

A Database is for one process: do not carry it across a fork.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from inhouse.errors import Conflict, InhouseError, InvalidRequest, StorageFull, StoreBusy, Unavailable

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for another's lock before the caller gets StoreBusy."""
IDLE_TRANSACTION_S = 60.0
"""PostgreSQL ends a transaction left open this long: a frozen process must not keep a row locked."""
SCRUB_S = 10.0
"""How long `scrub` waits for others: for writers to end, and for readers of what was deleted."""
RETRY_AFTER_S = 1.0
SQLITE_WRITE = "BEGIN IMMEDIATE"
"""Takes the write lock at once. A deferred transaction asks for it at its first write, maybe too late."""


_OLDER_TRANSACTION = sa.text(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND greatest(age(backend_xmin), age(backend_xid)) > age(CAST(:mine AS xid)) LIMIT 1"
)
"""Another's transaction that began before this one's number was given."""


class Database:
    """A pool of connections to one database. Cheap to make; connects on first use."""

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.is_postgres = parsed.get_backend_name() == "postgresql"
        self.file: Path | None = None if self.is_postgres else Path(str(parsed.database))
        """Where SQLite keeps everything; None on PostgreSQL."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._writer, self._reader = _sqlite_engines(parsed)
        else:
            self._writer = _postgres_engine(parsed)
            self._reader = self._writer.execution_options(postgresql_readonly=True)
        # Nobody's database leaves no connection open.
        weakref.finalize(self, _dispose, self._writer, self._reader).atexit = False

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; commits at the end, rolls back on any error."""
        with _our_errors(), self._writer.begin() as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads. It waits for no writer and holds none up."""
        with _our_errors(), self._reader.begin() as conn:
            yield conn

    def clock(self, conn: sa.Connection) -> float:
        """The time that leases are read off, in Unix seconds: the database server's, never a worker's."""
        return clock(conn)

    def scrub(self, tables: Sequence[str]) -> bool:
        """Clear what deleted rows leave behind: in pages, and in SQLite's write-ahead log.

        Call it after the transaction. False: the database was too busy, or the disk too full for it; the rows
        are gone all the same, and the next scrub clears what is left. On PostgreSQL these tables are
        rewritten (VACUUM FULL); the server's own log keeps its old segments until it recycles them.
        """
        try:
            with _our_errors():
                if self.is_postgres:
                    return self._vacuum(tables)
                return self._rewrite()
        except (StoreBusy, StorageFull) as e:
            log.warning("what was deleted could not be cleared from the database's files: %s", e.code)
            return False

    def _vacuum(self, tables: Sequence[str]) -> bool:
        """Write the live rows anew and drop the old files; what an older transaction may still see would stay."""
        deadline = time.monotonic() + SCRUB_S
        with self._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql(f"SET lock_timeout = {int(SCRUB_S * 1000)}")
            try:
                mine = conn.exec_driver_sql("SELECT pg_current_xact_id()::xid::text").scalar_one()
                while conn.execute(_OLDER_TRANSACTION, {"mine": mine}).first():
                    if time.monotonic() > deadline:
                        log.warning(
                            "an open transaction may still see what was deleted, so it was not cleared"
                        )
                        return False
                    time.sleep(0.01)
                conn.exec_driver_sql("VACUUM (FULL) " + ", ".join(tables))
            finally:
                if not conn.invalidated:
                    conn.exec_driver_sql(f"SET lock_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
        return True

    def _rewrite(self) -> bool:
        """Copy the live rows to fresh pages, and empty the log that the old ones went through.

        secure_delete alone is not enough: where SQLite splits a page, a moved row's old copy may stay behind.
        """
        deadline = time.monotonic() + SCRUB_S
        connection = self._writer.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {int(SCRUB_S * 1000)}")
            try:
                cursor.execute("VACUUM")
                while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() > deadline:
                        log.warning("the write-ahead log is still read, so it was not emptied")
                        return False
                    time.sleep(0.01)
            except cursor.connection.OperationalError as e:
                raise (StorageFull if "full" in str(e) else StoreBusy)(str(e)) from e
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
                cursor.close()
        finally:
            connection.close()  # back to the pool
        return True

    def dispose(self) -> None:
        """Close every idle connection."""
        _dispose(self._writer, self._reader)


def _dispose(*engines: sa.Engine) -> None:
    for engine in engines:
        engine.dispose()


def clock(conn: sa.Connection) -> float:
    """The time by the one clock that all of this database's users share, in Unix seconds."""
    return float(conn.execute(sa.select(now(conn))).scalar_one()) if _is_postgres(conn) else time.time()


def now(conn: sa.Connection) -> sa.ColumnElement[float]:
    """The same time as an SQL expression, so that a claim needs no second round trip.

    On SQLite all users share a machine, so its clock is the one clock. Call it inside the transaction:
    waiting for the write lock must not age it.
    """
    if _is_postgres(conn):
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal(time.time(), sa.Double)


def lease_now(conn: sa.Connection) -> sa.ColumnElement[float]:
    """The clock that leases are read off, in seconds since whenever, as an SQL expression.

    PostgreSQL's own. SQLite's users share a machine, so there it is the seconds that the machine has run: no
    process sees another value, and nobody can set it. The time of day would give every lease away as it is set.
    """
    return now(conn) if _is_postgres(conn) else sa.literal(time.monotonic(), sa.Double)


def upsert(conn: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that takes an ON CONFLICT clause."""
    return postgresql.insert(table) if _is_postgres(conn) else sqlite.insert(table)


def floor(conn: sa.Connection, value: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """The whole number below a value that is not negative. Not every SQLite has FLOOR, and PostgreSQL's casts round."""
    return sa.cast(sa.func.floor(value) if _is_postgres(conn) else value, sa.BigInteger)


def lock(conn: sa.Connection, name: str) -> None:
    """Let one transaction at a time go on under this name. On SQLite a write transaction already is alone."""
    if _is_postgres(conn):
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def snapshot(conn: sa.Connection) -> None:
    """Let all that this transaction reads be of one moment. Call it first. On SQLite it is so anyway."""
    if _is_postgres(conn):
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _is_postgres(conn: sa.Connection) -> bool:
    return conn.dialect.name == "postgresql"


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as e:
        raise InvalidRequest(
            "database_url cannot be read as a URL. Write sqlite:///path or postgresql://user:password@host/name.",
            param="database_url",
        ) from e
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):  # many hosts hand out the short form
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+pysqlite")
    raise InvalidRequest(
        f"database_url names {backend!r} without a file or a server we know. "
        "Write sqlite:///path or postgresql://user:password@host/name.",
        param="database_url",
    )


def _sqlite_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    arguments = {"timeout": BUSY_TIMEOUT_S}
    # One writing connection a process: its threads queue here in turn, instead of polling SQLite's lock.
    writer = sa.create_engine(
        url, connect_args=arguments, pool_size=1, max_overflow=0, pool_timeout=BUSY_TIMEOUT_S
    )
    reader = sa.create_engine(url, connect_args=arguments, pool_timeout=BUSY_TIMEOUT_S)
    for engine, begin, query_only in ((writer, SQLITE_WRITE, "OFF"), (reader, "BEGIN", "ON")):
        _prepare_sqlite(engine, begin, query_only)
    return writer, reader


def _prepare_sqlite(engine: sa.Engine, begin: str, query_only: str) -> None:
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
        _enter_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")  # a deleted row's bytes are overwritten
        cursor.execute(f"PRAGMA query_only = {query_only}")
        cursor.close()

    def beginning(conn: sa.Connection) -> None:
        conn.exec_driver_sql(begin)

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", beginning)


def _enter_wal(cursor: Any) -> None:
    """Switch to WAL once; the file remembers it. SQLite does not wait for others at this switch, so we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except cursor.connection.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgres_engine(url: sa.URL) -> sa.Engine:
    try:
        # keepalives: a cut network must look like a lost connection within half a minute
        engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=BUSY_TIMEOUT_S,
            connect_args={
                "connect_timeout": 10,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
    except ModuleNotFoundError as e:
        raise InvalidRequest(
            "database_url names PostgreSQL, whose driver is missing. Run: pip install 'inhouse[postgres]'",
            param="database_url",
        ) from e

    def connected(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {int(IDLE_TRANSACTION_S * 1000)}")
        connection.commit()

    sa.event.listen(engine, "connect", connected)
    return engine


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as e:
        raise _busy() from e
    except sa.exc.DBAPIError as e:
        ours = _translate(e)
        if ours is None:
            raise
        raise ours from e
    except UnicodeEncodeError as e:
        raise InvalidRequest("A text holds a lone surrogate, which is no character. Remove it.") from e


def _translate(error: sa.exc.DBAPIError) -> InhouseError | None:
    """Our error for a driver's, or None where it is our own mistake and must be seen as such."""
    said = str(error.orig).lower()
    state = getattr(error.orig, "sqlstate", None)
    if state == "53100" or "disk is full" in said:
        return StorageFull("The disk that holds the database is full. Free some space; nothing was changed.")
    if "not a database" in said or "malformed" in said:
        return Unavailable(
            "The database cannot be read: its file is damaged, or no database. Restore a backup of it.",
            code="database_damaged",
        )
    if isinstance(error, sa.exc.IntegrityError):
        return Conflict("The store already holds an object by this name, or lacks one that this refers to.")
    if isinstance(error, sa.exc.DataError):
        return InvalidRequest("A value cannot be stored: a text with a NUL in it, or a number out of range.")
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return _busy() if error.connection_invalidated else None
    if type(error.orig).__module__.startswith("sqlite3"):
        return _busy() if any(word in said for word in ("locked", "busy", "unable to open")) else None
    return _busy()  # every operational error of PostgreSQL: gone, restarting, full of clients, out of time


def _busy() -> StoreBusy:
    return StoreBusy("The database did not answer in time. Try again.", retry_after_s=RETRY_AFTER_S)
