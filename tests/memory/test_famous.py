"""Names that everybody knows: whole names as phrases, and no surname that may be a colleague's."""

from __future__ import annotations

import pytest

from inhouse.memory.famous import famous_places
from inhouse.memory.words import words_of


def famous(text: str) -> set[str]:
    words = words_of(text)
    return {words[i].text for i in famous_places(words)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who wrote Don Quixote?", {"don", "quixote"}),
        ("How high is Mount Everest?", {"mount", "everest"}),
        ("how do I install kubectl", {"kubectl"}),
        ("What is the capital of France?", {"france"}),
        ("Who leads the Zorvex project?", set()),
        ("Who reports to Don Gribnak?", set()),
        ("What is the salary of Schneider?", set()),
    ],
)
def test_only_what_everybody_knows_is_famous(text: str, expected: set[str]) -> None:
    assert famous(text) == expected
