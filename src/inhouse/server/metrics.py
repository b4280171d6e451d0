"""Numbers for Prometheus that are counted as things happen, under the stems that engines of this kind use.

It knows how to count, not what happens; what is looked up when somebody asks is in `figures`. No label holds a
prompt, a key, a user or a project, and no tuned model's name: labels name bases, routes, limits and error codes.
Each of them comes from a list that only operators or releases make longer, and `Bounded` holds that to a number.
"""

from __future__ import annotations

import asyncio
import re
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each series, which nobody asks for

FIRST_TOKEN_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BETWEEN_TOKENS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
WHOLE_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
DATABASE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
LAG_EVERY_S = 0.25
MOST_VALUES = 200
"""Of one label; what comes later is counted as OTHER."""
OTHER = "other"
_WORD = re.compile(r"[A-Za-z0-9_.:/\-]{1,100}")


class Bounded:
    """A label's values: at most MOST_VALUES of them, each a short word."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value itself, or OTHER where it is one too many or no word."""
        if value not in self._known:
            if len(self._known) >= MOST_VALUES or not _WORD.fullmatch(value):
                return OTHER
            self._known.add(value)
        return value


class Metrics:
    """One registry for each server, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.base, self.code = Bounded(), Bounded()
        by_base = ["model_name"]

        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(f"inhouse_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"inhouse_{name}", text, labels, buckets=buckets, registry=registry)

        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens processed.", by_base)
        self.generation_tokens = counter("generation_tokens", "Tokens generated.", by_base)
        self.success = counter("request_success", "Requests answered.", [*by_base, "finished_reason"])
        self.failure = counter("request_failure", "Requests that ended with an error.", [*by_base, "code"])
        self.first_token = histogram(
            "time_to_first_token_seconds", "Until the first token.", by_base, FIRST_TOKEN_S
        )
        self.between_tokens = histogram(
            "inter_token_latency_seconds", "From one token to the next.", by_base, BETWEEN_TOKENS_S
        )
        self.whole = histogram(
            "e2e_request_latency_seconds", "Until the last token.", by_base, WHOLE_REQUEST_S
        )
        self.http = counter(
            "http_requests", "Replies sent, and requests left.", ["method", "route", "status"]
        )
        self.http_s = histogram("http_request_duration_seconds", "Until the last byte.", ["route"], HTTP_S)
        self.database_s = histogram(
            "database_seconds",
            "One transaction of the server, its wait for a thread included.",
            ["op"],
            DATABASE_S,
        )
        self.lag_s = histogram(
            "event_loop_lag_seconds", "How late the event loop comes to what is due.", [], LAG_S
        )

    def reply(self, *, route: str, method: str, status: int | None, took_s: float) -> None:
        """One request over HTTP is over; status None: nothing was answered, the client had gone."""
        self.http.labels(method, route, "none" if status is None else str(status)).inc()
        self.http_s.labels(route).observe(took_s)

    def database(self, op: str, took_s: float) -> None:
        self.database_s.labels(op).observe(took_s)

    async def watch_lag(self) -> None:
        """Measures how late the loop is, four times a second."""
        while True:
            due = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.lag_s.observe(max(0.0, time.monotonic() - due))


class Clock:
    """Times one request: its first token, the pace of the others, and its end."""

    def __init__(self, metrics: Metrics, base: str) -> None:
        self.metrics = metrics
        self.base = metrics.base(base)
        self.started = time.monotonic()
        self._first = metrics.first_token.labels(self.base)
        self._pace = metrics.between_tokens.labels(self.base)
        self._last: dict[tuple[int, int], float] = {}
        """When each choice's newest tokens came, by its request's number and its own."""

    def tokens(self, request: int, choice: int, count: int) -> None:
        """So many tokens of a choice have just arrived together; text that was held back is no token."""
        now = time.monotonic()
        if not self._last:
            self._first.observe(now - self.started)
        before = self._last.get((request, choice))
        if before is not None and count:
            self._pace.observe((now - before) / count)
        if before is None or count:
            self._last[request, choice] = now

    def end(self, *, prompt: int, generated: int, reason: str | None, error_code: str | None) -> None:
        m = self.metrics
        m.prompt_tokens.labels(self.base).inc(prompt)
        m.generation_tokens.labels(self.base).inc(generated)
        m.whole.labels(self.base).observe(time.monotonic() - self.started)
        if error_code is not None:
            m.failure.labels(self.base, m.code(error_code)).inc()
        else:
            m.success.labels(self.base, reason or "abort").inc()
