"""Pins: which adapters operators want kept on the device, each by a name.

A pin's name is a model's, or that of all its versions: without the last part, `ft:base:project:suffix`. Then the
newest of them is the one that is pinned, so a version takes the pin over in the moment in which it is published. It
knows no engines and no rank rows.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import sqlalchemy as sa

from inhouse.errors import ModelNotFound, NotFound
from inhouse.schema import ModelCard
from inhouse.store.db import upsert
from inhouse.store.records import models
from inhouse.store.tables import pins


@dataclass(frozen=True, slots=True)
class Pin:
    """A name, and the model that it stands for now."""

    project: str
    name: str
    card: ModelCard


def add(conn: sa.Connection, project: str, name: str, now: float) -> None:
    """Pin what the project means by this name; once more changes nothing."""
    values = {"project": project, "name": name, "created_at": now}
    fresh = upsert(conn, pins).values(**values)
    conn.execute(fresh.on_conflict_do_nothing(index_elements=["project", "name"]))


def remove(conn: sa.Connection, project: str, name: str) -> None:
    """Take a pin back."""
    if conn.execute(pins.delete().where(pins.c.project == project, pins.c.name == name)).rowcount == 0:
        raise NotFound(
            f"Nothing is pinned by the name {name!r}. `inhouse models` shows by which name each model is.",
            param="model",
        )


def target(conn: sa.Connection, project: str, name: str) -> ModelCard:
    """The model that the name stands for: the one that has it, or the newest of those it is all versions of."""
    try:
        return models.get(conn, project, name)
    except ModelNotFound:
        versions = models.versions(conn, project, name)
        if not versions:
            raise
        return versions[0]


def all(conn: sa.Connection, base: str | None = None) -> builtins.list[Pin]:
    """Every project's pins, or those on one base, the oldest first. For the house's own use, never a tenant's."""
    found = []
    for row in conn.execute(sa.select(pins.c.project, pins.c.name).order_by(pins.c.seq)).all():
        try:
            card = target(conn, row.project, row.name)
        except ModelNotFound:
            continue  # it is swept with the deletion that is just under way
        if base in (None, card.base):
            found.append(Pin(row.project, row.name, card))
    return found


def names(conn: sa.Connection, project: str) -> dict[str, builtins.list[str]]:
    """Of the project's pinned models, each one's name → the names it is pinned by, its own first."""
    found: dict[str, builtins.list[str]] = {}
    mine = (pin for pin in all(conn) if pin.project == project)
    for pin in sorted(mine, key=lambda pin: pin.name != pin.card.name):
        found.setdefault(pin.card.name, []).append(pin.name)
    return found


def sweep(conn: sa.Connection, project: str) -> None:
    """Take back the project's pins that stand for no model any more."""
    for (name,) in conn.execute(sa.select(pins.c.name).where(pins.c.project == project)).all():
        try:
            target(conn, project, name)
        except ModelNotFound:
            remove(conn, project, name)
