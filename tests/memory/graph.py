"""Walks everything that can be reached from an object, to show that a text is nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from pydantic import BaseModel


def holders_of(root: object, text: str, besides: tuple[object, ...] = ()) -> list[str]:
    """Every string under `root` that holds the text, however it is written; `besides` are not entered."""
    wanted = text.casefold()
    return [found for found in _strings(root, {id(thing) for thing in besides}) if wanted in found.casefold()]


def _strings(root: object, seen: set[int]) -> Iterator[str]:
    left: list[Any] = [root]
    while left:
        thing = left.pop()
        if isinstance(thing, str):
            yield thing
        elif isinstance(thing, bytes):
            yield thing.decode("utf-8", "replace")
        elif id(thing) not in seen:
            seen.add(id(thing))
            left += _parts(thing)


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, type | ModuleType):
        return []
    if isinstance(thing, FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or ()]
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, BaseModel):
        return list(thing.__dict__.values())
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    held = [getattr(thing, name) for name in slots if hasattr(thing, name)]
    return [*held, *getattr(thing, "__dict__", {}).values()]
