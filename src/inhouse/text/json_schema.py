"""Which JSON schemas can be promised to the letter, and what is changed in one before it becomes a grammar.

It knows JSON Schema's words and where the grammar engine reads them otherwise than validators do. What cannot be
kept in every reply is refused with its place and a cure; what the engine does not know it refuses by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from inhouse.errors import InvalidRequest

MAX_CHARS = 64 * 1024
MAX_DEPTH = 64
"""Levels of brackets, about half as many levels of objects. A schema that a person wrote has a dozen."""
MAX_NODES = 10_000
MAX_PATTERN_CHARS = 4096

_ONE = (
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)
_LISTED = ("anyOf", "allOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_OLD_DRAFTS = re.compile(r"https?://json-schema\.org/draft-0[4-7]/schema#?")

_YEAR = r"([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP = r"([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DAY = f"({_YEAR}-[0-9]{{2}}-(0[1-9]|1[0-9]|2[0-8])|{_YEAR}-(0[13-9]|1[0-2])-[23][0-9]|{_LEAP}-02-29)"
_SECOND = ":[0-5][0-9]:[0-5][0-9]"
_REAL = {
    "date": f"^{_DAY}$",
    "date-time": f"^{_DAY}T[0-9]{{2}}{_SECOND}[^z]*$",
    "time": f"^[0-9]{{2}}{_SECOND}[^z]*$",
}
"""Beside the grammar's own formats: no 29 February in common years, no year 0, no leap second, no small t or z.
Programs that read dates stumble over them."""


def ready(schema: Any, *, param: str, at: str = "the schema") -> dict[str, Any]:
    """The schema as the grammar is made from it. Raises InvalidRequest, naming `param` and the place."""
    refuse_vast(schema, param=param, at=at)
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{at} is no object. Send a JSON schema.", param=param)
    is_old = _OLD_DRAFTS.fullmatch(str(schema.get("$schema"))) is not None
    copy: dict[str, Any] = json.loads(json.dumps(schema))
    parts = list(_subschemas(copy, at))
    walked = {id(node) for _, node in parts}
    for place, node in parts:
        if fault := _fault(node, is_old) or _reference_fault(node, copy, walked):
            raise InvalidRequest(f"{place}: {fault}", param=param)
        if (pattern := _REAL.get(str(node.get("format")))) and isinstance(node.get("allOf", []), list):
            node["allOf"] = [*node.get("allOf", []), {"pattern": pattern}]
    return copy


def refuse_vast(schema: Any, *, param: str, at: str) -> None:
    """Raises InvalidRequest for a value of more depth, parts or characters than is ever needed."""
    levels, waiting, nodes = 0, [schema], 0
    while waiting:
        levels += 1
        nodes += len(waiting)
        if levels > MAX_DEPTH:
            raise InvalidRequest(f"{at} is nested over {MAX_DEPTH} levels deep. Flatten it.", param=param)
        if nodes > MAX_NODES:
            raise InvalidRequest(f"{at} has over {MAX_NODES} parts. Make it smaller.", param=param)
        waiting = [
            child
            for node in waiting
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    if (size := len(json.dumps(schema, ensure_ascii=False))) > MAX_CHARS:
        raise InvalidRequest(f"{at} has {size} characters; {MAX_CHARS} is the limit.", param=param)


def regex_fault(pattern: str) -> str | None:
    """What is wrong with a regular expression that not all engines read alike; None where nothing is."""
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"a pattern has {len(pattern)} characters; {MAX_PATTERN_CHARS} is the limit."
    at, in_class = 0, False
    while at < len(pattern):
        rest = pattern[at:]
        if rest.startswith("\\"):
            if not in_class and rest[1:2] in ("A", "z", "Z"):
                return f"a pattern holds {rest[:2]}. Write ^ or $."
            at += 2
            continue
        if in_class:
            if rest[0] == "[" or rest[:2] in ("&&", "--", "~~"):
                return (
                    f"a pattern holds {rest[:2]} inside brackets, which engines read differently. Escape it."
                )
            in_class = rest[0] != "]"
        elif rest[0] == "[":
            in_class = True
            at += len(re.match(r"\[\^?\]?", rest)[0]) - 1  # type: ignore[index]
        elif re.match(r"\(\?(?!:|P?<\w)", rest):
            return f"a pattern holds {rest[:3]}: flags and looking around are not supported. Spell it out."
        elif re.match(r"[*+?}]\+", rest):
            return f"a pattern holds {rest[:2]}: possessive repeats are not supported. Leave the + out."
        at += 1
    return None


def _subschemas(schema: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in the schema that is itself a schema, with its place."""
    waiting: list[tuple[str, Any]] = [(at, schema)]
    while waiting:
        place, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield place, node
        for key in _ONE:
            waiting.append((f"{place}.{key}", node.get(key)))
        for key in ("items", *_LISTED):
            if isinstance(several := node.get(key), list):
                waiting += [(f"{place}.{key}[{i}]", each) for i, each in enumerate(several)]
        for key in _NAMED:
            if isinstance(named := node.get(key), dict):
                waiting += [(f"{place}.{key}.{name}", each) for name, each in named.items()]


def _fault(node: Mapping[str, Any], is_old: bool) -> str | None:
    """Why this one schema, its parts aside, cannot be promised."""
    if "x-guidance" in node:
        return "x-guidance would change what the schema means. Leave it out."
    if isinstance(node.get("items"), list) and not is_old:
        return "items is a list. Name its parts in prefixItems."
    multiple = node.get("multipleOf")
    if isinstance(multiple, float) and not multiple.is_integer():
        return "multipleOf is no whole number, which validators round differently. Use a pattern, or smaller units."
    least, required = node.get("minProperties"), node.get("required")
    is_closed = node.get("additionalProperties") is False and "patternProperties" not in node
    names = len(set(map(str, required))) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, names) and not is_closed:
        return "minProperties cannot be kept where names are free: one may come twice. Name what is required."
    if _has_control([node.get("const"), node.get("enum")]):
        return "const or enum holds a control character. Leave it out."
    patterns = [node.get("pattern"), *(_named(node, "patternProperties"))]
    return next((fault for p in patterns if isinstance(p, str) and (fault := regex_fault(p))), None)


def _reference_fault(node: dict[str, Any], root: dict[str, Any], walked: set[int]) -> str | None:
    """Why a reference cannot be followed to a part of the schema that was looked at."""
    if "$id" in node and node is not root:
        return "$id inside a schema makes another of it. Leave it out."
    pointer = node.get("$ref")
    if not isinstance(pointer, str):
        return None
    if pointer != "#" and not pointer.startswith("#/"):
        return f"$ref is {pointer!r}. Refer to a part of this schema by its path, as #/$defs/name."
    target: Any = root
    for step in pointer[2:].split("/") if pointer != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(name)] if name.isdecimal() and int(name) < len(target) else None
        else:
            target = target.get(name) if isinstance(target, dict) else None
    if isinstance(target, bool) or id(target) in walked:
        return None
    return f"$ref is {pointer!r}, and no schema is there. Put it into $defs."


def _named(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, dict) else {}


def _has_control(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_control(key) or _has_control(each) for key, each in value.items())
    if isinstance(value, list):
        return any(map(_has_control, value))
    return isinstance(value, str) and re.search(r"[^\x08-\x0a\x0c\x0d\x20-\U0010ffff]", value) is not None
