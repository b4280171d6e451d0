"""Requests and tokens a minute, per project: reserved before any await, given back after.

It knows numbers and a clock that is handed to it, no route. By default the limits are too high to be met,
and are reported all the same, so that clients which read the headers work unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.errors import RateLimited
from inhouse.settings import Settings

UNLIMITED = 2**31 - 1
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one project may use in a minute."""

    requests: int = UNLIMITED
    tokens: int = UNLIMITED

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the operator chose; 0 is none."""
        return cls(
            requests=max(0, settings.requests_per_minute) or UNLIMITED,
            tokens=max(0, settings.tokens_per_minute) or UNLIMITED,
        )


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

    def wait_for(self, amount: int) -> float:
        """Seconds until `amount` is there."""
        return max(0.0, (amount - self.left) * WINDOW_S / self.capacity)


@dataclass(slots=True)
class Reservation:
    """What one request has taken. `settle` gives back what it did not use, once."""

    meter: Meter
    project: str
    tokens: int
    is_settled: bool = False

    def settle(self, used_tokens: int, now: float) -> None:
        if not self.is_settled:
            self.is_settled = True
            _, tokens = self.meter.buckets(self.project, now)
            tokens.left = min(tokens.capacity, tokens.left + self.tokens - used_tokens)


class Meter:
    """Every project's buckets."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._buckets: dict[str, tuple[Bucket, Bucket]] = {}

    def buckets(self, project: str, now: float) -> tuple[Bucket, Bucket]:
        if project not in self._buckets:
            self._buckets[project] = (Bucket(self.limits.requests, now), Bucket(self.limits.tokens, now))
        pair = self._buckets[project]
        for bucket in pair:
            bucket.refill(now)
        return pair

    def reserve(self, project: str, tokens: int, now: float) -> Reservation:
        """Takes one request and `tokens`, or raises RateLimited having taken nothing."""
        by_name = dict(zip(("requests", "tokens"), self.buckets(project, now), strict=True))
        wanted = {"requests": 1, "tokens": min(tokens, self.limits.tokens)}
        for name, bucket in by_name.items():
            if bucket.left < wanted[name]:
                raise RateLimited(
                    f"Over this project's limit of {bucket.capacity} {name} a minute. Try again later.",
                    retry_after_s=bucket.wait_for(wanted[name]),
                )
        for name, bucket in by_name.items():
            bucket.left -= wanted[name]
        return Reservation(self, project, wanted["tokens"])

    def headers(self, project: str, now: float) -> dict[str, str]:
        headers = {}
        for name, bucket in zip(("requests", "tokens"), self.buckets(project, now), strict=True):
            headers[f"x-ratelimit-limit-{name}"] = str(bucket.capacity)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.left)))
            headers[f"x-ratelimit-reset-{name}"] = f"{bucket.wait_for(bucket.capacity):.3f}s"
        return headers
