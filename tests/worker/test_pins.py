"""A running engine is told which adapters are pinned: at its start, and whenever that changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from inhouse.errors import BadCheckpoint
from inhouse.schema import ModelCard
from inhouse.store.db import Database
from inhouse.store.records import models, pins
from inhouse.worker.pins import Pins
from tests.server.house import until

ALL = "ft:tiny:default:handbook"
RANKS = {"1": 4, "2": 6, "3": 8}
"""Rank rows by a digest's first character; others cannot be served."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhouse.worker.pins.LOOK_S", 0.01)


def publish(db: Database, name: str, base: str = "tiny") -> None:
    card = ModelCard(
        name=name, project="default", kind="adapter", base=base, digest=name[-1] * 64, created_at=1.0
    )
    with db.write() as conn:
        models.add(conn, card)


def pin(db: Database, name: str) -> None:
    with db.write() as conn:
        pins.add(conn, "default", name, 1.0)


def rows_of(digest: str) -> int:
    if digest[0] not in RANKS:
        raise BadCheckpoint("It is of another base.")
    return RANKS[digest[0]]


@contextmanager
def watched(db: Database, most_rows: int = 10) -> Iterator[list[dict[str, int]]]:
    """All that an engine of the base tiny was told to keep: first characters of digests, with their rank rows."""
    told: list[dict[str, int]] = []

    def keep(wants: Mapping[str, int]) -> None:
        told.append({digest[0]: rows for digest, rows in wants.items()})

    with Pins(db, "tiny", most_rows=most_rows, rows_of=rows_of, keep=keep):
        yield told


def test_an_engine_that_starts_is_told_what_is_pinned_on_its_base(db: Database) -> None:
    publish(db, f"{ALL}:00000001")
    publish(db, "ft:other:default:x:00000002", base="other")
    for name in (ALL, "ft:other:default:x"):
        pin(db, name)
    for _ in range(2):  # and once more after it was started again
        with watched(db) as told:
            until(lambda: told, "it is told")
        assert told == [{"1": 4}]


def test_a_published_version_takes_the_pin_over(db: Database) -> None:
    publish(db, f"{ALL}:00000001")
    pin(db, ALL)
    with watched(db) as told:
        until(lambda: told == [{"1": 4}], "it is told")
        publish(db, f"{ALL}:00000002")
        until(lambda: told == [{"1": 4}, {"2": 6}], "the new version takes over")
        with db.write() as conn:
            pins.remove(conn, "default", ALL)
        until(lambda: told[-1] == {}, "nothing is kept")
    assert len(told) == 3, "it was told what did not change"


def test_what_goes_beyond_is_left_out_and_told_in_the_log(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (3, 2):
        publish(db, f"{ALL}{number}:0000000{number}")
        pin(db, f"{ALL}{number}")
    publish(db, f"{ALL}9:00000009")
    pin(db, f"{ALL}9")
    with caplog.at_level(logging.WARNING), watched(db) as told:
        until(lambda: told, "it is told")
    assert told == [{"3": 8}], "the longest pinned goes first"
    assert "its 6 rank rows go beyond the 10" in caplog.text
    assert "It is of another base." in caplog.text


def test_what_an_engine_may_have_given_up_is_named_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.worker.pins.AGAIN_S", 0.05)
    publish(db, f"{ALL}:00000001")
    pin(db, ALL)
    with watched(db) as told:
        until(lambda: len(told) >= 3, "it is told again")
    assert told[2] == {"1": 4}


def test_a_disk_that_fails_once_does_not_end_pins_for_good(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    publish(db, f"{ALL}:00000001")
    pin(db, f"{ALL}:00000001")
    failures = [OSError(5, "Input/output error")]
    told: list[dict[str, int]] = []

    def failing(digest: str) -> int:
        if failures:
            raise failures.pop()
        return rows_of(digest)

    with Pins(db, "tiny", most_rows=10, rows_of=failing, keep=lambda wants: told.append(dict(wants))):
        until(lambda: told == [{}], "the first look fails")
        publish(db, f"{ALL}:00000002")
        pin(db, f"{ALL}:00000002")
        until(lambda: len(told) == 2, "the next one is taken")
    assert sorted(told[1].values()) == [4, 6]
