"""A house's data with a row in every table and real contents, for the tests of what must be kept."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inhouse.settings import Settings
from inhouse.store import portable
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import audit
from inhouse.store.tables import metadata

LEFT_OUT = {"alembic_version", "audit", "audit_head"}


def furnish(db: Database, artifacts: Artifacts, folder: Path) -> dict[str, str]:
    """A row in every table, of values that are easily lost; returns the digests of an upload and of a model."""
    upload, _ = artifacts.put_stream([b'{"messages": []}\n'])
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 64)
    model = artifacts.put_folder(folder / "adapter")
    with db.write() as conn:
        for table in metadata.sorted_tables:
            if table.name in LEFT_OUT:
                continue
            row = {c.name: _value(c) for c in table.columns if c.name != "seq"}
            if table.name == "files":
                row["digest"] = upload
            if table.name == "models":
                row["digest"] = model
            if table.name == "jobs":
                row |= {"state": "succeeded", "kind": "tune", "error": None}
            if table.name == "batches":
                row |= {"status": "completed", "lease_until": None}
            conn.execute(table.insert().values(row))
        for number in range(3):
            audit.add(conn, actor="key_1", type="api_key.created", target=f"key_{number}", now=1.5)
    return {"upload": upload, "model": model}


def every_row(db: Database) -> dict[str, bytes]:
    """All rows of all tables, as they are written to a backup."""
    found = {}
    with db.read() as conn:
        for table in portable.tables(conn):
            out = io.BytesIO()
            portable.write(conn, table, out)
            found[table.name] = out.getvalue()
    return found


def _value(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.JSON):
        return {"text": "é\u2028", "none": None, "number": 1e-17, "list": [True, 2**53 - 1]}
    if isinstance(column.type, sa.LargeBinary):
        return bytes(range(256))
    if isinstance(column.type, sa.Boolean):
        return True
    if isinstance(column.type, sa.Double | sa.Float):
        return 1792168984.1234567
    if isinstance(column.type, sa.BigInteger | sa.Integer):
        return 2**53 + 1
    if column.nullable and column.name.endswith("file"):
        return None
    tricky = "ä \" ' \\ \n \U0001f600"
    return tricky if column.foreign_keys or column.name == "id" else f"{tricky} {column.name}"


def file_row(id: str, digest: str, size: int = 1) -> dict[str, object]:
    """A row of an upload with this content."""
    return {
        "id": id,
        "project": "p",
        "filename": "rows.jsonl",
        "purpose": "fine-tune",
        "bytes": size,
        "digest": digest,
        "created_at": 1.0,
    }


def opened(settings: Settings) -> tuple[Database, Artifacts]:
    """A house's data, from its settings."""
    return Database(settings.database), Artifacts(settings.artifacts_dir)
