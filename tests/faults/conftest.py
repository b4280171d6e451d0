"""A house of one's own for each test that harms it."""

from tests.house.conftest import own, tiny

__all__ = ["own", "tiny"]
