"""Which JSON schemas can be promised to the letter, and what is changed in one before it becomes a grammar.

It knows JSON Schema's words and where the grammar engine reads them otherwise than validators do. What cannot be
kept in every reply is refused with its place and a cure; what the engine does not know it refuses by itself.
"""

from __future__ import annotations

import graphlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
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
_ENDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_FURTHEST_END = 2**63
"""The library counts no further."""
_LEAST_GAP = 1e-30
"""From zero to the nearest end that is not zero; the library writes ends out, digit by digit."""
_EXACT_WHOLE = 2**53
_EXACT_DIGITS = 15
_READING_ERROR = 4
"""In units of the last place. Fractions of more digits the library reads as a double beside theirs; seen: 1."""
_DOT = r"[^\n\r\u2028\u2029]"
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
    if endless := _endless(parts, copy):
        raise InvalidRequest(f"{endless} asks for itself without end. Put something between.", param=param)
    all_ends = {node[word] for _, node in parts for word in _ENDS if word in node}
    for _, node in parts:
        if isinstance(pattern := node.get("pattern"), str):
            node["pattern"] = _with_plain_dots(pattern)
        _open_ends(node, all_ends)
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


def regex_fault(pattern: str, *, is_name: bool = False) -> str | None:
    """What is wrong with a regular expression that not all engines read alike; None where nothing is.

    `is_name`: it says which names it is for, and so also which it is not for.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"a pattern has {len(pattern)} characters; {MAX_PATTERN_CHARS} is the limit."
    at, in_class, is_negated = 0, False, False
    while at < len(pattern):
        rest = pattern[at:]
        if rest[0] == "\\":
            if not in_class and rest[1:2] in ("A", "z", "Z"):
                return f"a pattern holds {rest[:2]}. Write ^ or $."
            if rest[1:2] in ("D", "W") or (
                rest[1:2] in ("d", "w") and (is_name or (in_class and is_negated))
            ):
                return f"a pattern excludes by {rest[:2]}, which engines read differently. Write 0-9 or 0-9A-Za-z_."
            at += 2
            continue
        if in_class:
            if rest[0] == "[" or rest[:2] in ("&&", "--", "~~"):
                return (
                    f"a pattern holds {rest[:2]} inside brackets, which engines read differently. Escape it."
                )
            in_class = rest[0] != "]"
        elif rest[0] == "[":
            in_class, is_negated = True, rest[1:2] == "^"
            at += is_negated
            if rest[1 + is_negated : 2 + is_negated] == "]":
                return "a pattern opens brackets with ], which engines read differently. Escape it."
        elif re.match(r"\(\?(?!:|P?<\w)", rest):
            return f"a pattern holds {rest[:3]}: flags and looking around are not supported. Spell it out."
        elif re.match(r"[*+?}]\+", rest):
            return f"a pattern holds {rest[:2]}: possessive repeats are not supported. Leave the + out."
        at += 1
    return None


def _with_plain_dots(pattern: str) -> str:
    """The pattern with a dot that stands for what it stands for in every engine: JavaScript's has four exceptions."""
    pieces = r"\\.|\[(?:\\.|[^\]])*\]|\."
    return re.sub(pieces, lambda found: _DOT if found[0] == "." else found[0], pattern, flags=re.DOTALL)


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
    if any(isinstance(node.get(word), bool) for word in ("exclusiveMinimum", "exclusiveMaximum")):
        return "an exclusive end is true or false. Give the number itself."
    ends = [node[word] for word in _ENDS if word in node]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        return "an end of a range is no number. Give a number."
    if not all(-_FURTHEST_END <= end < _FURTHEST_END for end in ends):  # as is one that is not a number
        return "an end of a range lies beyond 2^63. Leave it out, or bring it nearer."
    multiple = node.get("multipleOf")
    if isinstance(multiple, float):
        return "multipleOf is written as a fraction, which validators round differently. Use smaller units."
    least, required = node.get("minProperties"), node.get("required")
    is_closed = node.get("additionalProperties") is False and "patternProperties" not in node
    known = len(set(map(str, required))) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, known) and not is_closed:
        return "minProperties cannot be kept where names are free: one may come twice. Name what is required."
    if _has_control([node.get("const"), node.get("enum")]):
        return "const or enum holds a control character. Leave it out."
    names_fault = (regex_fault(name, is_name=True) for name in _named(node, "patternProperties"))
    if isinstance(pattern := node.get("pattern"), str) and (fault := regex_fault(pattern)):
        return fault
    return next(filter(None, names_fault), None)


def _reference_fault(node: dict[str, Any], root: dict[str, Any], walked: set[int]) -> str | None:
    """Why a reference cannot be followed to a part of the schema that was looked at."""
    if "$id" in node and node is not root:
        return "$id inside a schema makes another of it. Leave it out."
    pointer = node.get("$ref")
    if not isinstance(pointer, str):
        return None
    if pointer != "#" and not pointer.startswith("#/"):
        return f"$ref is {pointer!r}. Refer to a part of this schema by its path, as #/$defs/name."
    target = _target(pointer, root)
    if isinstance(target, bool) or id(target) in walked:
        return None
    return f"$ref is {pointer!r}, and no schema is there. Put it into $defs."


def _target(pointer: str, root: dict[str, Any]) -> Any:
    """What stands where a reference points to; None where nothing does."""
    target: Any = root
    for step in pointer[2:].split("/") if pointer != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(name)] if name.isdecimal() and int(name) < len(target) else None
        else:
            target = target.get(name) if isinstance(target, dict) else None
    return target


def _endless(parts: list[tuple[str, dict[str, Any]]], root: dict[str, Any]) -> str | None:
    """The place of a schema that asks for itself of one and the same value; no validator would end. None: no such."""
    leads_to: dict[int, list[int]] = {}
    for _, node in parts:
        same = [
            each
            for key in ("anyOf", "allOf", "oneOf")
            if isinstance(node.get(key), list)
            for each in node[key]
        ]
        if isinstance(pointer := node.get("$ref"), str):
            same.append(_target(pointer, root))
        leads_to[id(node)] = [id(each) for each in same if isinstance(each, dict)]
    try:
        graphlib.TopologicalSorter(leads_to).prepare()
    except graphlib.CycleError as error:
        return next(place for place, node in parts if id(node) in error.args[1])
    return None


def _named(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, dict) else {}


def _open_ends(node: dict[str, Any], all_ends: Collection[float]) -> None:
    """Writes a range with ends that the library keeps to the letter: that belong to the range, and that it reads as
    they are. `all_ends`: those of the whole schema, any of which may come to apply here too."""
    types = node.get("type")
    named = types if isinstance(types, list) else [types]
    is_whole = "integer" in named and "number" not in named
    for inclusive, exclusive, side in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        ends = []
        if inclusive in node:
            ends.append(_inner_end(node[inclusive], side, is_whole=is_whole))
        if exclusive in node and (is_whole or not _is_kept_exclusive(node[exclusive], side, all_ends)):
            ends.append(_inner_end(node.pop(exclusive), side, is_whole=is_whole, is_exclusive=True))
        if ends:
            node[inclusive] = max(ends) if side > 0 else min(ends)


def _inner_end(end: float, side: int, *, is_whole: bool, is_exclusive: bool = False) -> float:
    """The outermost end of a range that ends here, of one of whole numbers a whole one, such that the library reads it
    as it is. `side`: 1 where larger numbers are inside, or -1."""
    if is_whole:
        end, is_exclusive = (
            side * (math.floor(side * end) + 1 if is_exclusive else math.ceil(side * end)),
            False,
        )
    near = float(end)
    is_inside = near * side > end * side or (near == end and not is_exclusive)
    if not is_inside or not _is_read_exactly(near):
        place = abs(math.nextafter(near, side * math.inf) - near)
        to_whole = math.floor(side * near) + 1 - side * near
        near = near + side * max(place, min(_READING_ERROR * place, to_whole)) if near else side * _LEAST_GAP
    return int(near) if near.is_integer() else near


def _is_kept_exclusive(end: float, side: int, all_ends: Collection[float]) -> bool:
    """Whether an exclusive end may stay one. Below 2 an inclusive one would be 1.99…, and the library then leaves 1.9
    out; above 2 it is 2.00…, and nothing is lost. But 2 itself gets through where the other end is less than one away.
    """
    is_clear = not any(0 < (other - end) * side < 1 for other in all_ends)
    return end * side < 0 and abs(end) < _EXACT_WHOLE and _is_read_exactly(float(end)) and is_clear


def _is_read_exactly(end: float) -> bool:
    return end.is_integer() or len(Decimal(repr(end)).as_tuple().digits) <= _EXACT_DIGITS


def _has_control(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_control(key) or _has_control(each) for key, each in value.items())
    if isinstance(value, list):
        return any(map(_has_control, value))
    return isinstance(value, str) and re.search(r"[^\x08-\x0a\x0c\x0d\x20-\U0010ffff]", value) is not None
