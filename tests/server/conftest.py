from __future__ import annotations

from collections.abc import Iterator

import pytest

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
    """Whatever a house of this process has said in a test is judged at its end."""
    yield
    heard = [HEARD.popleft() for _ in range(len(HEARD))]
    if description.is_there():
        found = [fault for said in heard for fault in judge(said)]
        assert not found, "\n".join(found[:20])
