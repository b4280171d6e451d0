from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outward import sitecustomize

from . import description
from .house import House, engine, house
from .judge import HEARD, judge


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One server and one engine for all tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, load_wait_s=5.0) as made, engine(made.db, folder):
        yield made


@pytest.fixture(autouse=True)
def every_reply_is_as_openai_describes_it() -> Iterator[None]:
    """Whatever a house of this process says in a test here is judged at its end; not what one has said elsewhere."""
    HEARD.clear()
    yield
    heard = [HEARD.popleft() for _ in range(len(HEARD))]
    if description.is_there():
        found = [fault for said in heard for fault in judge(said)]
        assert not found, "\n".join(found[:20])


@pytest.fixture(scope="session", autouse=True)
def nothing_leaves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test here, and no process that one starts, connects to another machine. Its notes are in this file."""
    notes = tmp_path_factory.mktemp("outward") / "notes"
    changes = pytest.MonkeyPatch()
    changes.setenv(sitecustomize.NOTES, str(notes))
    changes.setenv("PYTHONPATH", str(Path(sitecustomize.__file__).parent), prepend=os.pathsep)
    yield notes
    changes.undo()
    assert not notes.exists(), notes.read_text()
