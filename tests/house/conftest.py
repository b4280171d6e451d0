"""One whole house for the tests that only use it; those that harm a house make their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.house import House
from tests.tiny import base_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base's folder, called tiny."""
    return base_folder(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[House]:
    """A house that serves the tiny base."""
    house = House(tmp_path_factory.mktemp("house"), [tiny])
    house.start()
    yield house
    assert house.stop() == 0, house.output()


@pytest.fixture
def own(tmp_path: Path, tiny: Path) -> Iterator[House]:
    """A house for one test alone, not yet started, that gives silent workers up quickly."""
    house = House(tmp_path / "data", [tiny], lease_s=2)
    yield house
    if house.process is not None and house.process.poll() is None:
        house.process.kill()
        house.process.wait()
