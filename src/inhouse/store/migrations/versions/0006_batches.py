"""Batches, and the result of each of their lines."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0006"
down_revision = "0005"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        CREATE TABLE batches (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, key TEXT NOT NULL, endpoint TEXT NOT NULL,
            input_file TEXT NOT NULL, digest TEXT NOT NULL, metadata JSON NOT NULL, status TEXT NOT NULL,
            fence BIGINT NOT NULL, lease_until DOUBLE PRECISION, total BIGINT NOT NULL,
            completed BIGINT NOT NULL, failed BIGINT NOT NULL, errors JSON NOT NULL, output_file TEXT,
            error_file TEXT, created_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION NOT NULL,
            in_progress_at DOUBLE PRECISION, finalizing_at DOUBLE PRECISION, completed_at DOUBLE PRECISION,
            failed_at DOUBLE PRECISION, expired_at DOUBLE PRECISION, cancelling_at DOUBLE PRECISION,
            cancelled_at DOUBLE PRECISION
        );
        CREATE INDEX batches_by_project ON batches (project, seq);
        CREATE INDEX batches_by_status ON batches (status, seq);

        CREATE TABLE batch_results (
            batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, line BIGINT NOT NULL,
            is_error BOOLEAN NOT NULL, text {bytes} NOT NULL,
            PRIMARY KEY (batch, line)
        );
        """,
    )
