"""Revisions that a later release might bring, for the tests of what a change of the schema does."""

from __future__ import annotations

from pathlib import Path

from inhouse.store.migrations import NEWEST, VERSIONS

NEXT = f"{int(NEWEST) + 1:04d}"
ADD_COLUMN = 'conn.exec_driver_sql("ALTER TABLE projects ADD COLUMN colour TEXT")'
ADD_TABLE = 'conn.exec_driver_sql("CREATE TABLE colours (name TEXT)")'
FAIL = 'raise KeyError("cut half-way")'


def next_release(folder: Path, *statements: str) -> tuple[Path, Path]:
    """Where the revisions are of a release that knows one more than this one: it runs these statements."""
    folder.mkdir(exist_ok=True)
    lines = [f'revision = "{NEXT}"', f'down_revision = "{NEWEST}"', "", "", "def upgrade(conn):"]
    lines += [f"    {statement}" for statement in statements]
    (folder / f"{NEXT}_colours.py").write_text("\n".join(lines) + "\n")
    return VERSIONS, folder
