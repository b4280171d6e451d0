"""Schemas of all kinds that are kept, and hostile ones that are refused."""

from __future__ import annotations

import json
from typing import Any

Schema = dict[str, Any]


def closed(**properties: Any) -> Schema:
    """An object of exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


NULL = {"type": "null"}
SHORT = {"type": "string", "maxLength": 6}
TREE = {
    "$defs": {
        "node": closed(
            value={"type": "integer"}, children={"type": "array", "items": {"$ref": "#/$defs/node"}}
        )
    },
    "$ref": "#/$defs/node",
}

KEPT: dict[str, Schema] = {
    "flat": closed(name=SHORT, age={"type": "integer", "minimum": 0, "maximum": 130}),
    "nested": closed(a=closed(b=closed(c=closed(d={"type": "boolean"})))),
    "optional": {
        "type": "object",
        "properties": {"a": NULL, "b": NULL, "c": NULL},
        "required": ["b"],
        "additionalProperties": False,
    },
    "open": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "maxProperties": 2,
    },
    "typed extras": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x_": {"type": "integer"}, "^y_": NULL},
        "additionalProperties": False,
    },
    "enum": {"enum": ["red", "green", 3, None, True, 'é\n"\\']},
    "const": {"const": {"kind": "α", "list": [1, 2.5, None]}},
    "array bounds": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "tuple": {"type": "array", "prefixItems": [NULL, {"enum": [1]}], "items": False, "minItems": 2},
    "old tuple": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [NULL, {"type": "boolean"}],
        "additionalItems": False,
        "minItems": 1,
    },
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "loose pattern": {"type": "string", "pattern": "ab", "maxLength": 8},
    "pattern of choices": {"type": "string", "pattern": "^(one|two|three)$"},
    "pattern of classes": {"type": "string", "pattern": "^\\d\\w[\\]\\-a][^\\]a]\\S.$"},
    "pattern and length": {"type": "string", "pattern": "^[ab]*$", "minLength": 3, "maxLength": 5},
    "unicode": closed(größe={"type": "string", "pattern": "^[äöü]{2}$"}, 名={"enum": ["東", "京"]}),
    "length counts characters": {"type": "string", "minLength": 2, "maxLength": 3},
    "integer range": {"type": "integer", "exclusiveMinimum": -5, "maximum": 1234},
    "number range": {"type": "number", "minimum": -0.5, "exclusiveMaximum": 2.25},
    "narrow range": {"type": "number", "exclusiveMinimum": 2, "maximum": 2.5},
    "narrow range at zero": {"anyOf": [{"type": "number", "minimum": -0.1, "exclusiveMaximum": 0}, NULL]},
    "open range": {"exclusiveMinimum": 0, "exclusiveMaximum": 0.5, "type": ["number", "null"]},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
    "any of": {
        "anyOf": [{"type": "integer"}, closed(a=NULL), {"type": "array", "items": NULL, "maxItems": 2}]
    },
    "one of": {"oneOf": [closed(t={"const": "a"}), closed(t={"const": "b"}, x=NULL)]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": NULL}, "required": ["a"]},
            {"properties": {"b": NULL}, "required": ["b"]},
        ],
        "maxProperties": 2,
    },
    "types": {"type": ["string", "null", "integer"], "maxLength": 2, "minimum": 5},
    "recursion": TREE,
    "recursion at the root": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, NULL]}},
        "required": ["next"],
        "additionalProperties": False,
    },
    "reference beside": {
        "$ref": "#/$defs/n",
        "maximum": 30,
        "$defs": {"n": {"type": "integer", "minimum": 0}},
    },
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "uuid": {"type": "string", "format": "uuid"},
    "email": {"type": "string", "format": "email"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "hostname": {"type": "string", "format": "hostname", "maxLength": 12},
    "ipv6": {"type": "string", "format": "ipv6"},
    "duration": {"type": "string", "format": "duration"},
    "uri": {"type": "string", "format": "uri", "maxLength": 20},
    "reference with escapes": {
        "$ref": "#/$defs/a~1b%20c",
        "$defs": {
            "a/b c": {"anyOf": [{"$ref": "#/$defs/list/items"}, NULL]},
            "list": {"items": {"type": "integer"}},
        },
    },
    "nullable date": {"anyOf": [{"type": "string", "format": "date"}, NULL]},
    "escaped names": closed(**{'a"\\b': NULL, "c\nd/": NULL}),
    "labels": {
        "title": "T",
        "description": "d",
        "default": 1,
        "examples": [2],
        "type": "integer",
        "x-own": 1,
    },
    "anything": closed(a=True),
    "false": {"type": "object", "properties": {"never": False, "b": NULL}, "additionalProperties": False},
}

REFUSED: dict[str, tuple[Schema, str]] = {
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    "not": ({"not": {"type": "string"}}, "not"),
    "if": ({"if": {"type": "string"}, "then": {"minLength": 1}}, "if"),
    "contains": ({"type": "array", "contains": NULL}, "contains"),
    "propertyNames": ({"type": "object", "propertyNames": {"maxLength": 1}}, "propertyNames"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    "unevaluatedProperties": ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
    "one of that overlap": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    "remote reference": ({"$ref": "https://example.com/s.json"}, "example.com"),
    "reference to what is no schema": (
        {"$ref": "#/x-y", "x-y": {"type": "object", "minProperties": 2}},
        "no schema is there",
    ),
    "reference to a default": (
        closed(a={"$ref": "#/default"}) | {"default": {"minLength": 1}},
        "no schema is there",
    ),
    "reference by anchor": ({"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}}, "by its path"),
    "another id": (closed(a={"$id": "https://example.com/a", "type": "null"}), "$id"),
    "missing reference": ({"$ref": "#/$defs/nobody"}, "nobody"),
    "dynamic reference": ({"$dynamicRef": "#x"}, "$dynamicRef"),
    "unknown format": (closed(a={"type": "string", "format": "ean-13"}), "ean-13"),
    "unknown type": ({"type": "strng"}, "strng"),
    "contradiction": ({"type": "integer", "minimum": 5, "maximum": 2}, "greater"),
    "looking ahead": (closed(a={"pattern": "^(?=a)b"}), "the schema.properties.a"),
    "back reference": ({"type": "string", "pattern": "(a)\\1"}, "backreference"),
    "class arithmetic": ({"type": "string", "pattern": "^[^a&&b]$"}, "&&"),
    "class in a class": ({"type": "string", "pattern": "[[:alpha:]]"}, "inside brackets"),
    "not a digit": ({"type": "string", "pattern": "^\\D$"}, "engines read differently"),
    "not of a class": ({"type": "string", "pattern": "^[^\\w]$"}, "0-9A-Za-z_"),
    "names by class": ({"type": "object", "patternProperties": {"\\d": NULL}}, "engines read differently"),
    "a bracket first": ({"type": "string", "pattern": "^[]a]$"}, "Escape it"),
    "flags": ({"type": "object", "patternProperties": {"(?i)a": NULL}}, "flags"),
    "possessive": ({"type": "string", "pattern": "a++a"}, "possessive"),
    "minProperties of free names": ({"type": "object", "minProperties": 2}, "minProperties"),
    "fractions": (closed(a={"type": "number", "multipleOf": 0.1}), "multipleOf"),
    "an end that is no number": ({"type": "number", "minimum": "0"}, "no number"),
    "an end that is true": ({"type": "number", "minimum": True}, "no number"),
    "an end beyond every float": (
        closed(a={"type": "number", "exclusiveMinimum": 10**400}),
        "the schema.properties.a: an end of a range lies beyond 2^63",
    ),
    "an end beyond what is counted": ({"type": "integer", "minimum": 10**22, "maximum": 2 * 10**22}, "2^63"),
    "an endless end": ({"type": "number", "exclusiveMaximum": float("inf")}, "2^63"),
    "an old exclusive end": ({"type": "number", "maximum": 0, "exclusiveMaximum": True}, "the number itself"),
    "list of items": (closed(a={"type": "array", "items": [NULL]}), "prefixItems"),
    "control character": ({"enum": ["a\x01"]}, "control character"),
    "options of the library": ({"type": "string", "x-guidance": {"lenient": True}}, "x-guidance"),
    "boolean false": (closed(a={"allOf": [False]}), ""),
    "endless self": ({"$ref": "#"}, "without end"),
    "endless through others": (
        {"anyOf": [NULL, {"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#"}]}}},
        "without end",
    ),
}


def _nested(levels: int) -> Schema:
    schema: Schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def _chain(length: int) -> Schema:
    links: Schema = {f"d{i}": {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": links | {f"d{length}": NULL}}


def _product(factors: int, of: int) -> Schema:
    return {"allOf": [{"anyOf": [closed(**{f"a{i}_{j}": NULL}) for j in range(of)]} for i in range(factors)]}


BOMBS: dict[str, Schema] = {
    "deep": _nested(70),
    "very deep": _nested(400),
    "many parts": {"enum": [f"v{i}" for i in range(20_000)]},
    "many characters": {"const": "x" * 70_000},
    "a chain of references that overflows the stack": _chain(1100),
    "a multiple that takes eleven seconds": {"type": "integer", "multipleOf": 1_000_003},
    "a product of alternatives": _product(6, 10),
    "a product of pairs": _product(40, 2),
    "many optional names": {
        "type": "object",
        "properties": {f"p{i}": {"type": "integer"} for i in range(2200)},
        "additionalProperties": False,
    },
    "a number of many digits": json.loads('{"type": "integer", "minimum": 1' + "0" * 4000 + "}"),
    "a long pattern": {"type": "string", "pattern": "^" + "a?" * 3000 + "a" * 3000 + "$"},
    "references in a circle": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
}
