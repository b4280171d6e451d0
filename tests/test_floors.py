"""The house keeps its floors: who imports whom, what stays light, and where vendors may be named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import neutrality

ROOT = Path(__file__).resolve().parents[1]
FRONT = (
    "inhouse",
    "inhouse.client",
    "inhouse.cli",
    "inhouse.server.main",
    "inhouse.store.db",
    "inhouse.jobs.queue",
)
TORCHLESS = (
    "inhouse.engine.request",
    "inhouse.engine.scheduler",
    "inhouse.engine.pages",
    "inhouse.engine.slots",
    "inhouse.engine.queue",
    "inhouse.engine.prefixes",
    "inhouse.engine.ranges",
    "inhouse.jobs.placement",
    "inhouse.text.tokenizer",
    "inhouse.text.template",
    "inhouse.text.stream",
    "inhouse.text.tools",
    "inhouse.text.grammar",
    "inhouse.text.taster",
    "inhouse.text.renderer",
    "inhouse.worker.main",
)


def loaded_by(module: str) -> set[str]:
    """Top-level packages in memory after importing a module in a fresh interpreter."""
    code = f"import {module}, sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_linter_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--config", ".importlinter"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", FRONT + TORCHLESS)
def test_import_brings_no_torch(module: str) -> None:
    assert "torch" not in loaded_by(module)


def test_import_of_the_client_brings_no_server() -> None:
    assert not loaded_by("inhouse.client") & {"fastapi", "starlette", "uvicorn", "sqlalchemy", "orjson"}


def test_no_vendor_is_named_outside_device_and_ops() -> None:
    assert neutrality.count() == []


def test_the_neutrality_count_finds_what_it_looks_for() -> None:
    source = 'import torch.cuda\nx = torch.xpu.is_available()\ny = "cuda:0"\nz = "gfx942"\n'
    assert {line for line, _ in neutrality.findings(source)} == {1, 2, 3, 4}


def test_no_file_is_longer_than_500_lines() -> None:
    files = [
        p
        for room in ("src", "tests", "benchmarks", "recipes", "examples")
        for p in (ROOT / room).rglob("*.py")
    ]
    long = {p.name: n for p in files if (n := len(p.read_text().splitlines())) > 500}
    assert not long


def missing(text: str) -> list[str]:
    """Tests that a text names and that are not there: `folder/test_file.py::test_name`, or `test_name` alone."""
    tests = {p.relative_to(ROOT / "tests").as_posix(): p.read_text() for p in (ROOT / "tests").rglob("*.py")}
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?", text)
    alone = re.findall(r"`(test_\w+)`", text)
    found = [f"{file}::{name}" for file, name in named if f"def {name}" not in tests.get(file, "")]
    return found + [name for name in alone if not any(f"def {name}(" in test for test in tests.values())]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/concepts/security.md"])
def test_the_map_names_tests_that_are_there(page: str) -> None:
    assert missing((ROOT / page).read_text(encoding="utf-8")) == []


def test_the_map_s_check_finds_a_name_that_is_gone() -> None:
    assert missing(
        "`engine/test_faults.py::test_gone`, `test_away`, `engine/test_none.py`, `test_floors.py`"
    ) == [
        "engine/test_faults.py::test_gone",
        "engine/test_none.py::",
        "test_away",
    ]
