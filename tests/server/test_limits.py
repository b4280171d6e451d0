"""Limits: reserved before anything is awaited, given back after, of the project and of the key."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.errors import InhouseError, RateLimited
from inhouse.server import auth, limits
from inhouse.server.limits import UNLIMITED, Limits, Meter, Party, month_start
from inhouse.store.records import keys, usage
from inhouse.store.records.limits import RateLimits
from inhouse.store.records.usage import UsageRow

from .house import House, engine, house, until

CONTEXT = 4096
"""Of the engine here, in tokens."""
LIMITS = "/v1/organization/projects/default/rate_limits/rl_default"


@pytest.fixture
def made(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url=database_url, load_wait_s=5.0) as made, engine(made.db, tmp_path):
        yield made


def choose(made: House, limit: str = LIMITS, **numbers: int) -> None:
    reply = made.client(made.admin).post(limit, json=numbers)
    assert reply.status_code == 200, reply.text


def code(reply: httpx2.Response) -> str | None:
    return None if reply.status_code == 200 else str(reply.json()["error"]["code"])


# ── the meter alone ───────────────────────────────────────────────────────────────────────────────────────


def party(**chosen: int) -> Party:
    return Party("project", "p", RateLimits(**chosen))


def test_a_meter_admits_exactly_its_capacity_and_refills() -> None:
    meter, mine = Meter(Limits(requests=60, tokens=600)), party()
    taken = [meter.reserve((mine,), 10, now=0.0) for _ in range(60)]
    with pytest.raises(RateLimited):
        meter.reserve((mine,), 10, now=0.0)
    meter.reserve((Party("project", "q", RateLimits()),), 10, now=0.0)
    taken[0].settle(0, now=0.0)
    taken[0].settle(0, now=0.0)
    assert meter.account(mine, 0.0).tokens.left == 10
    meter.reserve((mine,), 10, now=1.0)


def test_a_refused_request_has_taken_nothing_of_anybody() -> None:
    meter = Meter(Limits())
    project = Party("project", "p", RateLimits(requests_per_minute=5, tokens_per_minute=100))
    key = Party("key", "k", RateLimits(tokens_per_minute=10))
    meter.reserve((project, key), 10, now=0.0)
    for _ in range(3):
        with pytest.raises(RateLimited, match="this key's limit of 10 tokens"):
            meter.reserve((project, key), 10, now=0.0)
    account = meter.account(project, 0.0)
    assert (account.requests.left, account.tokens.left, account.running) == (4.0, 90.0, 1)


def test_what_was_not_used_comes_back_once() -> None:
    meter, mine = Meter(Limits()), party(tokens_per_minute=100, concurrent_requests=1)
    taken = meter.reserve((mine,), 80, now=0.0)
    with pytest.raises(RateLimited):
        meter.reserve((mine,), 10, now=0.0)
    for _ in range(2):
        taken.settle(30, now=0.0)
    account = meter.account(mine, 0.0)
    assert (account.tokens.left, account.running, account.month.reserved) == (70.0, 0, 0)


def test_a_limit_that_changes_keeps_what_was_used() -> None:
    meter = Meter(Limits())
    meter.reserve((party(requests_per_minute=10),), 0, now=0.0)
    assert meter.account(party(requests_per_minute=3), 0.0).requests.left == 2.0
    assert meter.account(party(), 0.0).requests.left == UNLIMITED - 1.0
    assert meter.account(party(requests_per_minute=1), 0.0).requests.left == 0.0


def test_the_wait_that_is_told_is_enough() -> None:
    meter, mine = Meter(Limits()), party(requests_per_minute=6)
    for _ in range(6):
        meter.reserve((mine,), 0, now=0.0).settle(0, now=0.0)
    with pytest.raises(RateLimited) as caught:
        meter.reserve((mine,), 0, now=0.0)
    wait_s = caught.value.retry_after_s
    assert wait_s == pytest.approx(10.0)
    with pytest.raises(RateLimited):
        meter.reserve((mine,), 0, now=9.9)
    meter.reserve((mine,), 0, now=10.1)


def test_a_quota_counts_what_is_used_and_what_is_under_way_and_a_new_month_begins_anew() -> None:
    meter, mine = Meter(Limits()), party(tokens_per_month=100)
    january = datetime(2027, 1, 31, 23, 59, tzinfo=UTC).timestamp()
    first = meter.reserve((mine,), 60, now=0.0, at=january)
    with pytest.raises(RateLimited) as caught:
        meter.reserve((mine,), 60, now=0.0, at=january)
    assert (caught.value.code, caught.value.retry_after_s) == ("insufficient_quota", None)
    first.settle(20, now=1.0, at=january)
    meter.reserve((mine,), 60, now=1.0, at=january).settle(80, now=2.0, at=january)
    with pytest.raises(RateLimited):
        meter.reserve((mine,), 1, now=2.0, at=january)
    meter.reserve((mine,), 100, now=3.0, at=january + 120)


@pytest.mark.parametrize("year", [1999, 2024, 2027])
def test_a_month_begins_on_its_first_day_in_utc(year: int) -> None:
    for month in range(1, 13):
        first = datetime(year, month, 1, tzinfo=UTC).timestamp()
        for later in (0.0, 0.25, 86_399.5, 27 * 86_400 + 86_399.9):
            assert month_start(first + later) == first


def test_a_month_s_count_is_the_store_s_or_ours_whichever_is_more() -> None:
    meter, mine = Meter(Limits()), party(tokens_per_month=100)
    since = month_start(time.time())
    meter.learn(mine, since, 70, now=0.0)
    meter.reserve((mine,), 10, now=0.0).settle(10, now=0.0)
    meter.learn(mine, since, 75, now=0.0)
    assert meter.account(mine, 0.0).month.used == 80
    meter.learn(mine, since, 90, now=0.0)
    assert meter.account(mine, 0.0).month.used == 90


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_project_s_limit_holds_within_a_second_and_for_that_project_alone(made: House) -> None:
    assert made.chat("x").status_code == 200
    choose(made, max_requests_per_1_minute=2)
    time.sleep(auth.KEY_CACHE_S)
    codes = [code(made.chat("x")) for _ in range(4)]
    assert codes == [None, None, "rate_limit_exceeded", "rate_limit_exceeded"]
    made.member, mine = made.stranger, made.member
    assert code(made.chat("x")) is None
    made.member = mine
    choose(made, max_requests_per_1_minute=0)
    until(lambda: code(made.chat("x")) is None, "0 takes the limit back")


def test_headers_say_what_holds_and_what_is_left(made: House) -> None:
    free = made.chat("x").headers
    assert free["x-ratelimit-limit-requests"] == str(UNLIMITED)
    choose(made, max_requests_per_1_minute=2, max_tokens_per_1_minute=1000)
    time.sleep(auth.KEY_CACHE_S)
    reply = made.chat("x", max_tokens=8)
    told = {
        name.removeprefix("x-ratelimit-"): value
        for name, value in reply.headers.items()
        if "ratelimit" in name
    }
    assert set(told) == {f"{a}-{b}" for a in ("limit", "remaining", "reset") for b in ("requests", "tokens")}
    assert (told["limit-requests"], told["remaining-requests"]) == ("2", "1")
    assert (told["limit-tokens"], int(told["remaining-tokens"]) > 900) == ("1000", True)
    assert made.chat("x").headers["x-ratelimit-remaining-requests"] == "0"
    refused = made.chat("x")
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in refused.headers


def member_id(made: House) -> str:
    with made.db.read() as conn:
        return next(k.id for k in keys.list(conn, "default") if k.role == "member")


def test_a_key_s_limit_holds_for_that_key_alone(made: House) -> None:
    choose(made, LIMITS.replace("rl_default", f"rl_{member_id(made)}"), max_requests_per_1_minute=1)
    codes = [code(made.chat("x")) for _ in range(2)]
    assert codes == [None, "rate_limit_exceeded"]
    made.member, mine = made.admin, made.member
    assert code(made.chat("x")) is None
    made.member = mine
    elsewhere = LIMITS.replace("default/", "other/").replace("rl_default", f"rl_{member_id(made)}")
    assert made.client(made.admin).post(elsewhere, json={}).status_code == 404


def together(made: House, count: int, content: str) -> Counter[str | None]:
    """How so many requests at the same time are answered."""
    gate = threading.Barrier(count)

    def one(_: int) -> str | None:
        gate.wait()
        return code(made.chat(content))

    with ThreadPoolExecutor(count) as threads:
        return Counter(threads.map(one, range(count)))


def test_exactly_so_many_requests_run_at_once_as_the_limit_says(made: House) -> None:
    choose(made, x_max_concurrent_requests=4)
    time.sleep(auth.KEY_CACHE_S)
    for _ in range(2):  # the second time shows that places were given back
        assert together(made, 12, "count 8 0.1") == {None: 4, "rate_limit_exceeded": 8}


def test_control_without_the_count_of_running_requests_all_are_let_in(
    made: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = limits.Account.refusal

    def forgetful(self: limits.Account, what: str, tokens: int) -> InhouseError | None:
        self.running = 0
        return refusal(self, what, tokens)

    monkeypatch.setattr(limits.Account, "refusal", forgetful)
    choose(made, x_max_concurrent_requests=4)
    time.sleep(auth.KEY_CACHE_S)
    assert together(made, 12, "count 8 0.1") == {None: 12}


@pytest.mark.parametrize("content", ["fault 400 invalid_value", "crash 1", "wrong adapter", "one two"])
def test_whatever_becomes_of_a_request_its_place_and_its_unused_tokens_come_back(
    made: House, content: str
) -> None:
    choose(made, max_tokens_per_1_minute=100_000, x_max_concurrent_requests=2)
    for _ in range(4):
        made.chat(content, max_tokens=30_000)
    meter = made.server.gateway.meter
    account = meter._accounts["project", "default"]
    until(lambda: (account.running, account.month.reserved) == (0, 0), "nothing is held")
    assert account.tokens.left > 99_000


def test_a_stream_that_is_left_gives_its_place_back(made: House) -> None:
    choose(made, x_max_concurrent_requests=1)
    time.sleep(auth.KEY_CACHE_S)
    body: dict[str, Any] = {"model": "seedling", "messages": [{"role": "user", "content": "count 200 0.05"}]}
    with made.client().stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as reply:
        lines = reply.iter_lines()
        next(lines)
        refused = made.chat("x")
        assert (code(refused), refused.headers["retry-after"]) == ("rate_limit_exceeded", "1")
    until(lambda: code(made.chat("x")) is None, "the place is free")


def test_of_a_request_no_more_is_set_aside_than_the_context_takes(made: House) -> None:
    """An engine refuses what is longer; meanwhile it must not keep others out."""
    made.chat("one")  # the gateway knows its engine from here on
    choose(made, max_tokens_per_1_minute=10**6)
    reply = made.chat("two", max_tokens=10**6 - 1)
    left = int(reply.headers["x-ratelimit-remaining-tokens"])
    assert 10**6 - left <= CONTEXT


def test_a_quota_that_is_used_up_is_told_as_one_that_waiting_does_not_mend(made: House) -> None:
    with made.db.write() as conn:
        old = month_start(time.time()) - 1
        rows = [
            UsageRow("default", "k", "m", f"r{i}", 400, 100, at) for i, at in enumerate((time.time(), old))
        ]
        usage.add_many(conn, rows)
    choose(made, x_max_tokens_per_1_month=520)
    until(lambda: code(made.chat("x", max_tokens=100)) == "insufficient_quota", "500 of 520 are used")
    refused = made.chat("x", max_tokens=100)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in refused.headers
    assert code(made.chat("x", max_tokens=10)) is None
    choose(made, x_max_tokens_per_1_month=10_000)
    until(lambda: code(made.chat("x", max_tokens=100)) is None, "the quota was raised")


def test_control_without_a_quota_the_same_request_is_answered(made: House) -> None:
    with made.db.write() as conn:
        usage.add_many(conn, [UsageRow("default", "k", "m", "r", 400, 100, time.time())])
    assert code(made.chat("x", max_tokens=100)) is None
