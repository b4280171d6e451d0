"""OpenAI's own published description, where it is at hand, as a judge of replies and events."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

NAME = "shared/openai/openapi.json.gz"
"""Where it lies, beside the repository or above it."""


@cache
def _components() -> dict[str, Any] | None:
    given = os.environ.get("OPENAI_SPEC", "")
    places = [Path(given)] if given else [folder / NAME for folder in Path(__file__).parents[3:]]
    for place in places:
        if place.is_file():
            with gzip.open(place) as file:
                return dict(json.load(file)["components"])
    return None


def components() -> dict[str, Any]:
    """The description's components; the test is skipped where it is not at hand."""
    found = _components()
    if found is None:
        pytest.skip("OpenAI's description (openapi.json.gz) is not here; OPENAI_SPEC may say where it is")
    return found


def faults(name: str, value: Any) -> list[str]:
    """What is wrong with a value, as the description's schema of this name has it."""
    root = {"$ref": f"#/components/schemas/{name}", "components": components()}
    validator = jsonschema.Draft202012Validator(root)
    return [
        f"{error.json_path}: {error.message[:200]}"
        for top in validator.iter_errors(value)
        for error in [jsonschema.exceptions.best_match([top])]
    ]
