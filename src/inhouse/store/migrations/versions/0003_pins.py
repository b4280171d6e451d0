"""Models that stay on a device."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0003"
down_revision = "0002"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        CREATE TABLE pins (
            {seq}, project TEXT NOT NULL, name TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL
        );
        CREATE UNIQUE INDEX pins_by_name ON pins (project, name);
        """,
    )
