"""Workers that are there, and what went wrong on them."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0009"
down_revision = "0008"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        CREATE TABLE workers (
            id TEXT NOT NULL PRIMARY KEY, started_at DOUBLE PRECISION NOT NULL,
            seen_at DOUBLE PRECISION NOT NULL, leases_lost BIGINT NOT NULL, processes_died BIGINT NOT NULL,
            fenced TEXT NOT NULL
        );
        """,
    )
