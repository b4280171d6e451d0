"""Says aloud whether the replies of the other tests here are held against OpenAI's description."""

from __future__ import annotations

import pytest

from . import description
from .judge import Said, judge


def test_replies_of_the_tests_here_are_judged() -> None:
    if not description.is_there():
        pytest.skip(
            "NO REPLY in tests/server was judged: OpenAI's description (openapi.json.gz) is not here; "
            "OPENAI_SPEC may say where it is"
        )
    assert judge(Said("GET", "/v1/models", 200, "application/json", b"{}", True))
