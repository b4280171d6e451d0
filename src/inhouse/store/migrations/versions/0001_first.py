"""The first release: projects, keys, files, jobs, models, replicas, usage, idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0001"
down_revision = None


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        CREATE TABLE projects (
            {seq}, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, created_at DOUBLE PRECISION NOT NULL
        );

        CREATE TABLE keys (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, name TEXT NOT NULL,
            secret_hash TEXT NOT NULL UNIQUE, role TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION, revoked_at DOUBLE PRECISION
        );

        CREATE TABLE files (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, filename TEXT NOT NULL,
            purpose TEXT NOT NULL, bytes BIGINT NOT NULL, digest TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL
        );
        CREATE INDEX files_by_project ON files (project, seq);
        CREATE INDEX files_by_digest ON files (digest);

        CREATE TABLE jobs (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
            spec JSON NOT NULL, fence BIGINT NOT NULL, attempts BIGINT NOT NULL, worker TEXT,
            lease_until DOUBLE PRECISION, checkpoint_step BIGINT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, started_at DOUBLE PRECISION, finished_at DOUBLE PRECISION,
            result JSON NOT NULL, error JSON, x_state TEXT
        );
        CREATE INDEX jobs_by_state ON jobs (state, kind, seq);
        CREATE INDEX jobs_by_project ON jobs (project, kind, seq);

        CREATE TABLE events (
            {seq}, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            created_at DOUBLE PRECISION NOT NULL, level TEXT NOT NULL, type TEXT NOT NULL,
            message TEXT NOT NULL, data JSON NOT NULL
        );
        CREATE INDEX events_by_job ON events (job, seq);

        CREATE TABLE models (
            {seq}, project TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, base TEXT NOT NULL,
            source TEXT, digest TEXT, base_digest TEXT, job TEXT, created_at DOUBLE PRECISION NOT NULL,
            facts JSON NOT NULL
        );
        CREATE UNIQUE INDEX models_by_name ON models (project, name);
        CREATE INDEX models_by_digest ON models (digest);

        CREATE TABLE replicas (
            job TEXT NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, fence BIGINT NOT NULL,
            base TEXT NOT NULL, address TEXT NOT NULL, base_digest TEXT NOT NULL, context BIGINT NOT NULL,
            ready BOOLEAN NOT NULL, updated_at DOUBLE PRECISION NOT NULL
        );

        CREATE TABLE usage (
            {seq}, project TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, request_id TEXT NOT NULL,
            prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL
        );
        CREATE INDEX usage_by_project ON usage (project, at);

        CREATE TABLE idempotency (
            project TEXT NOT NULL, key TEXT NOT NULL, body_hash TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, status BIGINT, body {bytes},
            PRIMARY KEY (project, key)
        );
        CREATE INDEX idempotency_by_age ON idempotency (created_at);
        """,
    )
