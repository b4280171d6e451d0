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
import referencing.jsonschema

NAME = "shared/openai/openapi.json.gz"
"""Where it lies, beside the repository or above it."""


@cache
def description() -> dict[str, Any] | None:
    """The whole of it; None where it is not at hand."""
    given = os.environ.get("OPENAI_SPEC", "")
    places = [Path(given)] if given else [folder / NAME for folder in Path(__file__).parents[3:]]
    for place in places:
        if place.is_file():
            with gzip.open(place) as file:
                return dict(json.load(file))
    return None


def is_there() -> bool:
    return description() is not None


def components() -> dict[str, Any]:
    """The description's components; the test is skipped where it is not at hand."""
    return dict(_whole()["components"])


def paths() -> dict[str, Any]:
    """Its paths, without /v1."""
    return dict(_whole()["paths"])


def _whole() -> dict[str, Any]:
    found = description()
    if found is None:
        pytest.skip("OpenAI's description (openapi.json.gz) is not here; OPENAI_SPEC may say where it is")
    return found


def faults(name: str, value: Any) -> list[str]:
    """What is wrong with a value, as the description's schema of this name has it."""
    return [
        f"{error.json_path}: {error.message[:200]}"
        for top in _validator(name).iter_errors(value)
        for error in [jsonschema.exceptions.best_match([top])]
    ]


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    whole = referencing.Resource({"components": components()}, referencing.jsonschema.DRAFT202012)
    registry: Any = referencing.Registry().with_resource("openai:", whole)
    return jsonschema.Draft202012Validator({"$ref": f"openai:#/components/schemas/{name}"}, registry=registry)
