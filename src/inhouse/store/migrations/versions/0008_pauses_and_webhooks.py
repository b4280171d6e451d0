"""Jobs that are paused, files that expire, checkpoints that are models, webhooks and what they are to be told."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0008"
down_revision = "0007"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        ALTER TABLE jobs ADD COLUMN paused_at DOUBLE PRECISION;

        ALTER TABLE files ADD COLUMN expires_at DOUBLE PRECISION;
        CREATE INDEX files_by_expiry ON files (expires_at);

        CREATE TABLE checkpoints (
            {seq}, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            project TEXT NOT NULL, model TEXT NOT NULL, step BIGINT NOT NULL, metrics JSON NOT NULL,
            created_at DOUBLE PRECISION NOT NULL
        );
        CREATE UNIQUE INDEX checkpoints_by_step ON checkpoints (job, step);
        CREATE INDEX checkpoints_by_model ON checkpoints (project, model);

        CREATE TABLE webhooks (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL,
            events JSON NOT NULL, secret TEXT NOT NULL, old_secret TEXT, old_until DOUBLE PRECISION,
            created_at DOUBLE PRECISION NOT NULL, updated_at DOUBLE PRECISION NOT NULL
        );
        CREATE INDEX webhooks_by_project ON webhooks (project, seq);

        CREATE TABLE deliveries (
            {seq}, id TEXT NOT NULL UNIQUE,
            webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE, type TEXT NOT NULL,
            payload TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, due_at DOUBLE PRECISION,
            tries BIGINT NOT NULL, fence BIGINT NOT NULL, lease_until DOUBLE PRECISION,
            delivered_at DOUBLE PRECISION, said TEXT NOT NULL
        );
        CREATE INDEX deliveries_by_time ON deliveries (due_at);
        CREATE INDEX deliveries_by_webhook ON deliveries (webhook, seq);
        """,
    )
