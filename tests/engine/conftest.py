"""Worlds for the engine's tests: one that is read only, so that it is made once, and one that a test may break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.engine.memory_world import FACTS, Book, Books, expert_blob
from tests.engine.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    world.adapter("small", rank=2, seed=1)
    world.adapter("large", rank=7, seed=2)
    world.adapter("attention", rank=4, seed=3, only="self_attn")
    return world


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """A tiny model's products are too small to share: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def books(world: World) -> Books:
    made = Books(Book(list(FACTS)))
    made.experts[("f1", 3)] = expert_blob(world.decoder, "f1", 3, seed=11)
    made.experts[("f2", 1)] = expert_blob(world.decoder, "f2", 1, seed=12, rank=2)
    return made


@pytest.fixture
def own(tmp_path: Path) -> World:
    """A world that a test may break."""
    own = World(tmp_path / "world")
    own.adapter("good", rank=2, seed=1)
    own.adapter("other", rank=2, seed=5)
    return own
