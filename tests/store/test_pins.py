"""Pins by name: of one model, or of all its versions, of which the newest is meant."""

from __future__ import annotations

import pytest

from inhouse.errors import ModelNotFound, NotFound
from inhouse.schema import ModelCard
from inhouse.store.db import Database
from inhouse.store.records import models, pins

ALL = "ft:seedling:a:handbook"


def add(db: Database, name: str, project: str = "a", base: str = "seedling") -> None:
    card = ModelCard(
        name=name, project=project, kind="adapter", base=base, digest=name[-1] * 64, created_at=1.0
    )
    with db.write() as conn:
        models.add(conn, card)


def pinned(db: Database, base: str | None = None) -> list[tuple[str, str]]:
    with db.read() as conn:
        return [(pin.name, pin.card.name) for pin in pins.all(conn, base)]


def pin(db: Database, name: str, project: str = "a") -> None:
    with db.write() as conn:
        pins.add(conn, project, name, 2.0)


def test_a_pin_of_all_versions_moves_to_each_that_is_published(db: Database) -> None:
    add(db, f"{ALL}:00000001")
    pin(db, ALL)
    assert pinned(db) == [(ALL, f"{ALL}:00000001")]
    add(db, f"{ALL}:00000002")
    assert pinned(db) == [(ALL, f"{ALL}:00000002")]


def test_a_pin_of_one_version_stays_where_it_is(db: Database) -> None:
    add(db, f"{ALL}:00000001")
    pin(db, f"{ALL}:00000001")
    add(db, f"{ALL}:00000002")
    assert pinned(db) == [(f"{ALL}:00000001", f"{ALL}:00000001")]


@pytest.mark.parametrize(
    "other", [f"{ALL}-2:00000002", f"{ALL}:x:00000002", "ft:seedling:a_handbook:00000002"]
)
def test_models_of_other_names_are_no_versions(db: Database, other: str) -> None:
    add(db, f"{ALL}:00000001")
    add(db, other)
    pin(db, ALL)
    assert pinned(db) == [(ALL, f"{ALL}:00000001")]


@pytest.mark.parametrize("name", ["ft:seedling:a:", "ft:seedling:a", "ft:seedling", "ft:seedling:a:hand"])
def test_a_name_that_no_suffix_completes_stands_for_nothing(db: Database, name: str) -> None:
    add(db, f"{ALL}:00000001")
    add(db, "ft:seedling:a::00000002")
    with pytest.raises(ModelNotFound), db.read() as conn:
        pins.target(conn, "a", name)


def test_another_project_s_models_cannot_be_pinned_by_name(db: Database) -> None:
    add(db, f"{ALL}:00000001")
    for name in (ALL, f"{ALL}:00000001"):
        with pytest.raises(ModelNotFound), db.read() as conn:
            pins.target(conn, "b", name)


def test_pins_are_listed_by_base_the_oldest_first_and_each_once(db: Database) -> None:
    add(db, "ft:other:a:x:00000003", base="other")
    add(db, f"{ALL}:00000001")
    for name in ("ft:other:a:x", ALL, f"{ALL}:00000001", ALL):
        pin(db, name)
    assert [name for name, _ in pinned(db)] == ["ft:other:a:x", ALL, f"{ALL}:00000001"]
    assert [name for name, _ in pinned(db, "seedling")] == [ALL, f"{ALL}:00000001"]
    with db.read() as conn:
        assert pins.names(conn, "a")[f"{ALL}:00000001"] == [f"{ALL}:00000001", ALL], "its own first"
        assert pins.names(conn, "b") == {}


def test_a_pin_is_taken_back_once_and_by_its_own_name(db: Database) -> None:
    add(db, f"{ALL}:00000001")
    pin(db, ALL)
    with pytest.raises(NotFound), db.write() as conn:
        pins.remove(conn, "a", f"{ALL}:00000001")
    with pytest.raises(NotFound), db.write() as conn:
        pins.remove(conn, "b", ALL)
    with db.write() as conn:
        pins.remove(conn, "a", ALL)
    assert pinned(db) == []


def test_after_a_deletion_a_pin_falls_back_to_the_version_before_and_ends_with_the_last(db: Database) -> None:
    for number in (1, 2):
        add(db, f"{ALL}:0000000{number}")
        pin(db, f"{ALL}:0000000{number}")
    pin(db, ALL)
    for number, left in ((2, [f"{ALL}:00000001", ALL]), (1, [])):
        with db.write() as conn:
            models.delete(conn, "a", f"{ALL}:0000000{number}")
            pins.sweep(conn, "a")
        assert [name for name, _ in pinned(db)] == left
