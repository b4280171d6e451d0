from __future__ import annotations

from collections.abc import Iterator

import pytest

from .house import House, engine, house


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One server and one engine for all tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, load_wait_s=5.0) as made, engine(made.db, folder):
        yield made
