"""Service accounts, scopes and limits of keys and projects, exact usage, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa

from inhouse.store.migrations.sql import run

revision = "0005"
down_revision = "0004"


def upgrade(conn: sa.Connection) -> None:
    run(
        conn,
        """
        ALTER TABLE projects ADD COLUMN archived_at DOUBLE PRECISION;
        ALTER TABLE projects ADD COLUMN limits JSON NOT NULL DEFAULT '{{}}';

        CREATE TABLE service_accounts (
            {seq}, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, deleted_at DOUBLE PRECISION
        );
        CREATE INDEX service_accounts_by_project ON service_accounts (project, seq);

        ALTER TABLE keys ADD COLUMN account TEXT NOT NULL DEFAULT '';
        ALTER TABLE keys ADD COLUMN scopes JSON NOT NULL DEFAULT '[]';
        ALTER TABLE keys ADD COLUMN shown TEXT NOT NULL DEFAULT '';
        ALTER TABLE keys ADD COLUMN last_used_at DOUBLE PRECISION;
        ALTER TABLE keys ADD COLUMN limits JSON NOT NULL DEFAULT '{{}}';
        CREATE INDEX keys_by_project ON keys (project, seq);
        CREATE INDEX keys_by_account ON keys (account);

        INSERT INTO service_accounts (id, project, name, role, created_at)
            SELECT 'svc_acct_' || substr(id, 5), project, name, role, created_at FROM keys ORDER BY seq;
        UPDATE keys SET account = 'svc_acct_' || substr(id, 5);
        UPDATE keys SET scopes =
            '["models.read", "models.write", "inference", "files", "fine_tuning", "facts"]';
        UPDATE keys SET scopes =
            '["models.read", "models.write", "inference", "files", "fine_tuning", "facts", "admin"]'
            WHERE role = 'admin';

        ALTER TABLE usage ADD COLUMN id TEXT;
        ALTER TABLE usage ADD COLUMN kind TEXT NOT NULL DEFAULT 'completions';
        ALTER TABLE usage ADD COLUMN cached_tokens BIGINT NOT NULL DEFAULT 0;
        CREATE INDEX usage_by_time ON usage (at);
        CREATE UNIQUE INDEX usage_by_id ON usage (id);

        CREATE TABLE audit (
            seq BIGINT NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE, at DOUBLE PRECISION NOT NULL,
            actor TEXT NOT NULL, project TEXT NOT NULL, type TEXT NOT NULL, target TEXT NOT NULL,
            details TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
        );
        CREATE INDEX audit_by_project ON audit (project, seq);
        CREATE TABLE audit_head (one BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL, hash TEXT NOT NULL);
        INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, '');
        """,
    )
    for statement in _APPEND_ONLY[conn.dialect.name]:
        conn.exec_driver_sql(statement)


_APPEND_ONLY = {
    "sqlite": (
        *(
            f"CREATE TRIGGER audit_no_{act} BEFORE {act} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log takes new rows only'); END"
            for act in ("update", "delete")
        ),
        "CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head "
        "BEGIN SELECT RAISE(ABORT, 'the audit log has one head'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log takes new rows only'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
        "CREATE TRIGGER audit_head_no_delete BEFORE DELETE OR TRUNCATE ON audit_head "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ),
}
"""Whoever may change the schema may drop these; then the chain of hashes tells."""
