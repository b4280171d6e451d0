"""Facts are rows, in banks, with every change and expert; keys have groups."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0002"
down_revision = "0001"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        ALTER TABLE models RENAME COLUMN facts TO about;

        ALTER TABLE keys ADD COLUMN groups JSON NOT NULL DEFAULT '[]';

        CREATE TABLE banks (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, base TEXT NOT NULL,
            base_digest TEXT NOT NULL, revision BIGINT NOT NULL, unknown TEXT NOT NULL, report JSON NOT NULL,
            files JSON NOT NULL, created_at DOUBLE PRECISION NOT NULL
        );
        CREATE INDEX banks_by_project ON banks (project, seq);

        CREATE TABLE facts (
            {seq}, id TEXT NOT NULL UNIQUE, bank TEXT NOT NULL, revision BIGINT NOT NULL,
            version BIGINT NOT NULL, question TEXT NOT NULL, wordings JSON NOT NULL, subject TEXT,
            aliases JSON NOT NULL, answer TEXT NOT NULL, kind TEXT, source TEXT, span TEXT,
            access JSON NOT NULL, valid_from DOUBLE PRECISION, valid_until DOUBLE PRECISION,
            status TEXT NOT NULL, reason TEXT, file TEXT, author TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, updated_at DOUBLE PRECISION NOT NULL
        );
        CREATE INDEX facts_by_bank ON facts (bank, seq);
        CREATE INDEX facts_by_revision ON facts (bank, revision);

        CREATE TABLE fact_questions (
            fact TEXT NOT NULL REFERENCES facts (id) ON DELETE CASCADE, hash TEXT NOT NULL,
            bank TEXT NOT NULL, is_wording BOOLEAN NOT NULL,
            PRIMARY KEY (fact, hash)
        );
        CREATE INDEX fact_questions_by_hash ON fact_questions (bank, hash);

        CREATE TABLE fact_changes (
            {seq}, id TEXT NOT NULL UNIQUE, bank TEXT NOT NULL, fact TEXT NOT NULL, version BIGINT NOT NULL,
            revision BIGINT NOT NULL, action TEXT NOT NULL, author TEXT NOT NULL,
            at DOUBLE PRECISION NOT NULL, access JSON NOT NULL, fact_then JSON
        );
        CREATE INDEX fact_changes_by_bank ON fact_changes (bank, seq);
        CREATE INDEX fact_changes_by_fact ON fact_changes (fact, seq);

        CREATE TABLE fact_experts (
            fact TEXT NOT NULL PRIMARY KEY REFERENCES facts (id) ON DELETE CASCADE, bank TEXT NOT NULL,
            version BIGINT NOT NULL, base_digest TEXT NOT NULL, rank BIGINT NOT NULL,
            weights {bytes} NOT NULL, losses JSON NOT NULL
        );
        CREATE INDEX fact_experts_by_bank ON fact_experts (bank);

        CREATE TABLE clearings (what TEXT NOT NULL PRIMARY KEY);
        """,
    )
