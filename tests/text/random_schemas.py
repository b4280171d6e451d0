"""Schemas that chance writes, of all the words that are kept and some that clash."""

from __future__ import annotations

import random
from typing import Any

from .schemas import NULL, Schema

NAMES = ("a", "b", "ab", "x_1", "é", "")
PATTERNS = (
    "^a",
    "b$",
    "^[ab]{1,3}$",
    "a|b",
    "^(a|bc)+$",
    "[0-9]",
    "^x_",
    "^[^a]*$",
    ".",
    "^.{2}$",
    "^\\S$",
    "^$",
)
VALUES: tuple[Any, ...] = (None, True, 0, -3, 2.5, 1e3, "a", "ab", 'é"\\', "", [1], {"a": 1}, [], {})
BOUNDS = (0, 1, -5, 10, 2.5, -0.1, 100, 1e3)


def random_schema(dice: random.Random, depth: int) -> Any:
    """A schema of at most so many levels."""
    if depth == 0:
        return dice.choice(
            [NULL, {"type": "boolean"}, {"const": dice.choice(VALUES)}, True, {"type": "integer"}]
        )
    schema: Schema = dice.choice([_object, _array, _string, _number, _mixture, _reference])(dice, depth - 1)
    if dice.random() < 0.1:
        schema["enum"] = dice.sample(VALUES, dice.randint(1, 4))
    return schema


def _some(dice: random.Random, **words: tuple[float, Any]) -> Schema:
    """Each word with its probability."""
    return {word: value for word, (chance, value) in words.items() if dice.random() < chance}


def _object(dice: random.Random, depth: int) -> Schema:
    some = _some(
        dice,
        properties=(0.8, {n: random_schema(dice, depth) for n in dice.sample(NAMES, dice.randint(0, 3))}),
        required=(0.5, dice.sample(NAMES, dice.randint(0, 2))),
        additionalProperties=(0.6, dice.choice([False, True, random_schema(dice, depth)])),
        patternProperties=(0.2, {dice.choice(PATTERNS): random_schema(dice, depth)}),
        minProperties=(0.1, dice.randint(0, 3)),
        maxProperties=(0.1, dice.randint(0, 3)),
    )
    return {"type": "object", **some}


def _array(dice: random.Random, depth: int) -> Schema:
    some = _some(
        dice,
        items=(0.7, dice.choice([False, random_schema(dice, depth)])),
        prefixItems=(0.4, [random_schema(dice, depth) for _ in range(dice.randint(0, 3))]),
        minItems=(0.5, dice.randint(0, 3)),
        maxItems=(0.6, dice.randint(0, 4)),
    )
    return {"type": "array", **some}


def _string(dice: random.Random, depth: int) -> Schema:
    some = _some(
        dice,
        pattern=(0.5, dice.choice(PATTERNS)),
        minLength=(0.5, dice.randint(0, 4)),
        maxLength=(0.6, dice.randint(0, 6)),
        format=(0.1, dice.choice(["date", "time", "uuid", "ipv4"])),
    )
    return {"type": "string", **some}


def _number(dice: random.Random, depth: int) -> Schema:
    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    some = _some(dice, **{word: (0.35, dice.choice(BOUNDS)) for word in limits})
    return {
        "type": dice.choice(["integer", "number"]),
        **some,
        **_some(dice, multipleOf=(0.3, dice.choice([1, 3, 10]))),
    }


def _mixture(dice: random.Random, depth: int) -> Schema:
    parts = [random_schema(dice, depth) for _ in range(dice.randint(1, 3))]
    return {dice.choice(["anyOf", "allOf", "oneOf"]): parts}


def _reference(dice: random.Random, depth: int) -> Schema:
    beside = random_schema(dice, depth)
    more = beside if isinstance(beside, dict) and dice.random() < 0.3 else {}
    return {**more, "$ref": dice.choice(["#/$defs/p", "#/$defs/q", "#"])}
