"""Stored responses, and the items that a later one may name."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0007"
down_revision = "0006"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        CREATE TABLE responses (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
            previous TEXT, bank TEXT, access JSON NOT NULL, items JSON NOT NULL, reply JSON NOT NULL,
            said TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL
        );
        CREATE INDEX responses_by_project ON responses (project, seq);
        CREATE INDEX responses_by_previous ON responses (previous);

        CREATE TABLE response_items (
            item TEXT NOT NULL, response TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
            is_output BOOLEAN NOT NULL,
            PRIMARY KEY (item, response)
        );
        CREATE INDEX response_items_by_response ON response_items (response);
        """,
    )
