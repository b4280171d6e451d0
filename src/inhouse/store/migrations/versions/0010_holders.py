"""Whose reservation an idempotency key is, and until when."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0010"
down_revision = "0009"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        ALTER TABLE idempotency ADD COLUMN holder TEXT;
        ALTER TABLE idempotency ADD COLUMN lease_until DOUBLE PRECISION;
        """,
    )
