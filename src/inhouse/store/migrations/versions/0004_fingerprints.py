"""A replica says by a fingerprint what its replies carry."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0004"
down_revision = "0003"


def upgrade(conn: sa.Connection) -> None:
    run(conn, "ALTER TABLE replicas RENAME COLUMN base_digest TO fingerprint;")
