"""The light client stays light: what importing it brings, told by a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

import inhouse

HEAVY = {
    "torch",
    "numpy",
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "orjson",
    "transformers",
    "pyarrow",
}


def brought_by(program: str) -> set[str]:
    """Top-level modules and this project's own modules that are loaded after the program."""
    program += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    return {name.partition(".")[0] for name in names} | {n for n in names if n.startswith("inhouse.")}


def test_importing_the_package_brings_none_of_its_parts() -> None:
    brought = brought_by("import inhouse; inhouse.__version__")
    assert not brought & {*HEAVY, "httpx2", "pydantic", "rich", "typer"}
    assert not [name for name in brought if name.startswith("inhouse.")]


@pytest.mark.parametrize(
    "program", ["from inhouse import Client", "import inhouse.cli", "import inhouse.rows"]
)
def test_the_client_and_the_command_bring_nothing_heavy(program: str) -> None:
    brought = brought_by(program)
    assert not brought & HEAVY
    assert not [n for n in brought if n.startswith(("inhouse.server", "inhouse.store", "inhouse.model"))]


def test_every_exported_name_is_there_and_no_other() -> None:
    for name in inhouse.__all__:
        assert getattr(inhouse, name) is not None
    assert set(inhouse.__all__) <= set(dir(inhouse))
    with pytest.raises(AttributeError, match="Cleint"):
        inhouse.Cleint  # noqa: B018
