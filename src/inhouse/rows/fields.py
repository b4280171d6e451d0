"""A row's fields: what is wrong with one, and the checks that every shape of row shares.

It knows keys and texts, and no shape.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from inhouse.rows.strict_json import has_lone_surrogate, short

HARMLESS = frozenset({"id", "metadata", "source"})
"""Keys that only label a row: allowed beside every format, never trained on."""


class BadRow(ValueError):
    """What is wrong with one row: the field, the reason and the cure."""

    def __init__(self, field: str | None, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
        self.cure = cure


def text_of(value: Any, where: str) -> str:
    if not isinstance(value, str):
        missing = value is None
        raise BadRow(where, "is missing." if missing else f"is {short(value)}, not text.", "Give a string.")
    if has_lone_surrogate(value):
        raise BadRow(
            where, "holds half of a surrogate pair, which is not text.", "Remove the broken character."
        )
    return value


def refuse_unknown(
    given: Mapping[str, Any],
    known: Collection[str],
    where: str = "",
    *,
    labels: Collection[str] | None = None,
) -> None:
    """Raises BadRow for a key that is not known. It lists those that are, a whole row's labels among them."""
    labels = labels if labels is not None else () if where else HARMLESS
    for key in given:
        if key not in known:
            field = f"{where}.{key}" if where else str(key)
            _refuse_key(field[:80], key, {*known, *labels})


def _refuse_key(field: str, key: Any, known: set[str]) -> NoReturn:
    shown = ascii(field)[1:-1]
    meant = get_close_matches(str(key)[:80], known, 1)
    cure = f"Did you mean '{meant[0]}'?" if meant else f"Remove it. Known: {', '.join(sorted(known))}."
    raise BadRow(shown, f"the key {short(key)} is unknown here.", cure)


def shown(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int)) and abs(value) < 10**9 else short(value)
