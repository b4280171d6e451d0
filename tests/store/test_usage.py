"""Usage: sums that are exact to the token, and rows that count once however often they are sent."""

from __future__ import annotations

import random
from collections import Counter

from inhouse.store.db import Database
from inhouse.store.records import usage
from inhouse.store.records.usage import UsageRow, Wanted

DAY = 86400
START = 20_000 * DAY


def rows(count: int, seed: int = 0) -> list[UsageRow]:
    draw = random.Random(seed)
    return [
        UsageRow(
            project=draw.choice(["a", "b"]),
            key=draw.choice(["k1", "k2", "k3"]),
            model=draw.choice(["m", "n"]),
            request_id=f"req_{i}",
            prompt_tokens=draw.randrange(1000),
            completion_tokens=draw.randrange(1000),
            at=START + draw.random() * 3 * DAY,
            kind=draw.choice(["completions", "embeddings"]),
            cached_tokens=draw.randrange(100),
        )
        for i in range(count)
    ]


def test_grouped_sums_are_those_of_the_rows_counted_by_hand(db: Database) -> None:
    made = rows(500)
    with db.write() as conn:
        usage.add_many(conn, made)
    with db.read() as conn:
        for width, by in ((DAY, ("project", "model")), (3600, ("key",)), (DAY, ())):
            found = usage.grouped(conn, Wanted(), since=START, until=START + 3 * DAY, width_s=width, by=by)  # type: ignore[arg-type]
            expected: Counter[tuple[object, ...]] = Counter()
            for row in made:
                expected[(row.at // width * width, *(getattr(row, name) for name in by))] += row.prompt_tokens
            told = {(g.start, *(getattr(g, name) for name in by)): g.prompt_tokens for g in found}
            assert told == expected
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
                assert sum(getattr(g, name) for g in found) == sum(getattr(row, name) for row in made)
            assert sum(g.requests for g in found) == len(made)


def test_what_is_asked_for_is_what_is_counted(db: Database) -> None:
    made = rows(200, seed=1)
    with db.write() as conn:
        usage.add_many(conn, made)
    wanted = Wanted(projects=["a"], keys=["k1", "k2"], models=["m"], kind="embeddings")
    since, until = START + DAY / 2, START + 2.25 * DAY
    with db.read() as conn:
        found = usage.grouped(conn, wanted, since=since, until=until, width_s=DAY)
    among = [
        row
        for row in made
        if (row.project, row.model, row.kind) == ("a", "m", "embeddings")
        and row.key in ("k1", "k2")
        and since <= row.at < until
    ]
    assert among
    assert sum(g.completion_tokens for g in found) == sum(row.completion_tokens for row in among)


def test_a_moment_belongs_to_one_day_only(db: Database) -> None:
    edges = [START, START + DAY - 0.001, START + DAY, START + DAY * 1.5, START + DAY * 1.999999]
    with db.write() as conn:
        usage.add_many(conn, [UsageRow("a", "k", "m", f"r{i}", 1, 0, at) for i, at in enumerate(edges)])
    with db.read() as conn:
        found = usage.grouped(conn, Wanted(), since=0, until=START + 9 * DAY, width_s=DAY)
    assert [(g.start, g.requests) for g in found] == [(START, 2), (START + DAY, 3)]


def test_a_bundle_that_is_sent_twice_counts_once(db: Database) -> None:
    made = rows(20)
    for bundle in (made, made[:10], [*made[10:], *rows(5, seed=2)]):
        with db.write() as conn:
            usage.add_many(conn, bundle)
    with db.read() as conn:
        totals = [usage.total(conn, project, 0.0) for project in ("a", "b")]
    assert sum(one.requests for one in totals) == 25


def test_a_total_may_be_one_key_s(db: Database) -> None:
    made = [UsageRow("a", key, "m", "r", 2, 3, 5.0) for key in ("k", "k", "l")]
    with db.write() as conn:
        usage.add_many(conn, made)
    with db.read() as conn:
        assert usage.total(conn, "a", 0.0).prompt_tokens == 6
        assert usage.total(conn, "a", 0.0, key="k").prompt_tokens == 4
        assert usage.total(conn, "b", 0.0, key="k").requests == 0
