"""What a project or a key may use, as it is kept in its row. None: nobody said, so what is above it holds.

It knows no bucket and no clock; `server.limits` counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Numbers that somebody chose."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of prompts and answers together."""
    concurrent_requests: int | None = None
    tokens_per_month: int | None = None
    """A quota for a calendar month in UTC: waiting a minute does not bring it back."""

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> RateLimits:
        return cls(**(kept or {}))

    def to_json(self) -> dict[str, int]:
        """Those that were chosen."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def changed(self, changes: Mapping[str, int | None]) -> RateLimits:
        """With some of them chosen anew; None takes one back."""
        return RateLimits(**{**asdict(self), **changes})
