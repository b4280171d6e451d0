"""What projects and keys may use: requests and tokens a minute, requests at once, tokens a month.

Reserved before any await, given back after. It knows numbers and a clock that is handed to it, no route and no
store. By default the limits are too high to be met, and are reported all the same, so that clients which read
the headers work unchanged.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from inhouse.errors import InhouseError, RateLimited
from inhouse.settings import Settings
from inhouse.store.records.limits import RateLimits

UNLIMITED = 2**31 - 1
WINDOW_S = 60.0
BATCHES = "project's batches"
"""A project's lines of batches: they have as much a minute again as it has, and share its month."""
CROWDED_RETRY_S = 1.0
"""When to try again where too many requests are under way: nobody knows when one of them ends."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one project, or one key, may use."""

    requests: int = UNLIMITED
    tokens: int = UNLIMITED
    concurrent: int = UNLIMITED
    monthly_tokens: int | None = None
    """None: no quota, so nothing need be known of the month."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """A project's, as the operator chose; 0 is none."""
        return cls(
            requests=max(0, settings.requests_per_minute) or UNLIMITED,
            tokens=max(0, settings.tokens_per_minute) or UNLIMITED,
            concurrent=max(0, settings.concurrent_requests) or UNLIMITED,
            monthly_tokens=max(0, settings.tokens_per_month) or None,
        )

    def with_chosen(self, chosen: RateLimits) -> Limits:
        """These, where nobody chose others."""

        def one(number: int | None, before: int) -> int:
            return before if number is None else number

        month = chosen.tokens_per_month
        return Limits(
            requests=one(chosen.requests_per_minute, self.requests),
            tokens=one(chosen.tokens_per_minute, self.tokens),
            concurrent=one(chosen.concurrent_requests, self.concurrent),
            monthly_tokens=self.monthly_tokens if month is None else month,
        )


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody whose use is limited: a project, or one key of it."""

    what: str
    """The word for it in messages: "project", "key" or BATCHES."""
    id: str
    chosen: RateLimits


def parties_of(project: str, of_project: RateLimits, key: str, of_key: RateLimits) -> tuple[Party, ...]:
    """Who a request of this key counts for: its project, and the key itself where it has limits of its own."""
    both = (Party("project", project, of_project), Party("key", key, of_key))
    return both if of_key != RateLimits() else both[:1]


class Bucket:
    """An amount that flows back at `capacity` a minute."""

    __slots__ = ("at", "capacity", "left")

    def __init__(self, capacity: int, now: float) -> None:
        self.capacity = capacity
        self.left = float(capacity)
        self.at = now

    def refill(self, now: float) -> None:
        self.left = min(self.capacity, self.left + (now - self.at) * self.capacity / WINDOW_S)
        self.at = now

    def resize(self, capacity: int) -> None:
        """Another limit; what was used stays used."""
        self.left += capacity - self.capacity
        self.capacity = capacity

    def wait_for(self, amount: int) -> float:
        """Seconds until `amount` is there; a limit of 0 never lets anything through."""
        return max(0.0, (amount - self.left) * WINDOW_S / self.capacity) if self.capacity else WINDOW_S


def month_start(at: float) -> float:
    """When the calendar month of this time began, in UTC."""
    said = time.gmtime(at)
    return at - (said.tm_mday - 1) * 86400 - said.tm_hour * 3600 - said.tm_min * 60 - said.tm_sec - at % 1


@dataclass(slots=True)
class Month:
    """Tokens of a calendar month: those that the store has counted, or those seen here if they are more."""

    start: float
    used: int = 0
    reserved: int = 0
    """Tokens of requests under way, as they were estimated."""

    def learn(self, start: float, stored: int) -> None:
        if start > self.start:
            self.start, self.used = start, stored
        elif start == self.start:
            self.used = max(self.used, stored)

    def roll(self, now: float) -> None:
        start = month_start(now)
        if start > self.start:
            self.start, self.used = start, 0


@dataclass(slots=True)
class Account:
    """What one party has taken."""

    limits: Limits
    requests: Bucket
    tokens: Bucket
    month: Month
    running: int = 0

    def set(self, limits: Limits, now: float) -> None:
        for bucket, capacity in ((self.requests, limits.requests), (self.tokens, limits.tokens)):
            bucket.refill(now)
            if bucket.capacity != capacity:
                bucket.resize(capacity)
        self.limits = limits

    def refusal(self, what: str, tokens: int) -> tuple[str, InhouseError] | None:
        """Which limit is in the way of one more request of so many tokens, and what its sender is told."""
        quota = self.limits.monthly_tokens
        if quota is not None and self.month.used + self.month.reserved + tokens > quota:
            return "quota", RateLimited(
                f"Over this {what}'s quota of {quota} tokens a month: {self.month.used} are used, "
                f"{self.month.reserved} are under way, and this request may take {tokens}. "
                "Ask an admin to raise it, or wait for the next month (UTC).",
                code="insufficient_quota",
            )
        if self.running >= self.limits.concurrent:
            return "concurrent", RateLimited(
                f"Over this {what}'s limit of {self.limits.concurrent} requests at once. "
                "Try again when one of them has ended.",
                retry_after_s=CROWDED_RETRY_S,
            )
        for name, bucket, amount in (
            ("requests", self.requests, 1),
            ("tokens", self.tokens, min(tokens, self.limits.tokens)),
        ):
            if bucket.left < amount or not bucket.capacity:
                wait_s = bucket.wait_for(amount)
                cure = (
                    f"Try again in {math.ceil(wait_s)} s." if bucket.capacity else "Ask an admin to raise it."
                )
                return name, RateLimited(
                    f"Over this {what}'s limit of {bucket.capacity} {name} a minute. {cure}",
                    retry_after_s=wait_s,
                )
        return None


@dataclass(slots=True)
class Reservation:
    """What one request has taken. `settle` gives back what it did not use, once."""

    taken: list[tuple[Account, int, int]] = field(default_factory=list)
    """Of whom; how many of its tokens a minute; how many of its month's."""
    is_settled: bool = False

    def settle(self, used_tokens: int, now: float, at: float | None = None) -> None:
        """`now` is the buckets' clock, `at` the calendar's, in Unix seconds."""
        if self.is_settled:
            return
        self.is_settled = True
        for account, tokens, estimated in self.taken:
            account.tokens.refill(now)
            bucket = account.tokens
            bucket.left = min(bucket.capacity, bucket.left + tokens - used_tokens)
            account.running -= 1
            account.month.reserved -= estimated
            account.month.roll(time.time() if at is None else at)
            account.month.used += used_tokens


class Meter:
    """Every party's account."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        """A project's, where it has none of its own."""
        self.refused: Counter[str] = Counter()
        """Requests refused, by the limit that was in the way: requests, tokens, concurrent or quota."""
        self._accounts: dict[tuple[str, str], Account] = {}

    def limits_of(self, party: Party) -> Limits:
        return (Limits() if party.what == "key" else self.limits).with_chosen(party.chosen)

    def account(self, party: Party, now: float) -> Account:
        limits, key = self.limits_of(party), (party.what, party.id)
        if key not in self._accounts:
            buckets = Bucket(limits.requests, now), Bucket(limits.tokens, now)
            of_project = Party("project", party.id, party.chosen)
            month = self.account(of_project, now).month if party.what == BATCHES else Month(0.0)
            self._accounts[key] = Account(limits, *buckets, month)
        self._accounts[key].set(limits, now)
        return self._accounts[key]

    def learn(self, party: Party, since: float, stored: int, now: float) -> None:
        """What the store has counted for this party since a month began."""
        self.account(party, now).month.learn(since, stored)

    def reserve(
        self, parties: Sequence[Party], tokens: int, now: float, at: float | None = None
    ) -> Reservation:
        """Takes one request and `tokens` of each party, or raises RateLimited having taken nothing."""
        accounts = [(party, self.account(party, now)) for party in parties]
        for party, account in accounts:
            account.month.roll(time.time() if at is None else at)
            refused = account.refusal(party.what, tokens)
            if refused is not None:
                limit, error = refused
                self.refused[limit] += 1
                raise error
        made = Reservation()
        for _, account in accounts:
            of_minute = min(tokens, account.limits.tokens)
            account.requests.left -= 1
            account.tokens.left -= of_minute
            account.running += 1
            account.month.reserved += tokens
            made.taken.append((account, of_minute, tokens))
        return made

    def headers(self, parties: Sequence[Party], now: float) -> dict[str, str]:
        """Of each kind the party's that has the least left."""
        accounts = [self.account(party, now) for party in parties]
        headers = {}
        for name in ("requests", "tokens"):
            bucket: Bucket = min((getattr(account, name) for account in accounts), key=lambda one: one.left)
            headers[f"x-ratelimit-limit-{name}"] = str(bucket.capacity)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.left)))
            headers[f"x-ratelimit-reset-{name}"] = f"{bucket.wait_for(bucket.capacity):.3f}s"
        return headers
