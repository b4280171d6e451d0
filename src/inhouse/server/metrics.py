"""Numbers for Prometheus, under the names that engines of this kind use, with our prefix.

It knows how to count, not what happens. Labels name bases only: a tuned model's name is its project's affair.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from inhouse.server import gateway
from inhouse.store.records import replicas

FIRST_TOKEN_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WHOLE_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

router = APIRouter()


class Metrics:
    """One registry for each server, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        by_base = ["model_name"]

        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(f"inhouse:{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"inhouse:{name}", text, by_base, buckets=buckets, registry=registry)

        self.running = Gauge(
            "inhouse:num_requests_running", "Requests under way.", by_base, registry=registry
        )
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens processed.", by_base)
        self.generation_tokens = counter("generation_tokens", "Tokens generated.", by_base)
        self.success = counter("request_success", "Requests answered.", [*by_base, "finished_reason"])
        self.failure = counter("request_failure", "Requests that ended with an error.", [*by_base, "code"])
        self.first_token = histogram("time_to_first_token_seconds", "Until the first token.", FIRST_TOKEN_S)
        self.whole = histogram("e2e_request_latency_seconds", "Until the last token.", WHOLE_REQUEST_S)
        self.evicted = Gauge(
            "inhouse:num_readers_evicted", "Clients cut off because they did not read.", registry=registry
        )
        self.engine = Gauge(
            "inhouse:engine", "What an engine reports.", [*by_base, "name"], registry=registry
        )


class Clock:
    """Times one request: its first token and its end."""

    def __init__(self, metrics: Metrics, base: str) -> None:
        self.metrics = metrics
        self.base = base
        self.started = time.monotonic()
        self.has_token = False

    def token(self) -> None:
        if not self.has_token:
            self.has_token = True
            self.metrics.first_token.labels(self.base).observe(time.monotonic() - self.started)

    def end(self, *, prompt: int, generated: int, reason: str | None, error_code: str | None) -> None:
        m = self.metrics
        m.prompt_tokens.labels(self.base).inc(prompt)
        m.generation_tokens.labels(self.base).inc(generated)
        m.whole.labels(self.base).observe(time.monotonic() - self.started)
        if error_code is not None:
            m.failure.labels(self.base, error_code).inc()
        else:
            m.success.labels(self.base, reason or "abort").inc()


@router.get("/metrics", response_model=None)
async def show(request: Request) -> Response:
    """Every number of this server and of the engines behind it, in Prometheus' text format."""
    gw = gateway.of(request)
    held = await gw.store.read(replicas.all)
    gw.metrics.engine.clear()
    for base in sorted({replica.base for replica in held}):
        for numbers in await gw.relay.stats(base):
            for name, value in numbers.items():
                gw.metrics.engine.labels(base, name).set(value)
    for base, count in gw.relay.running.items():
        gw.metrics.running.labels(base).set(count)
    gw.metrics.evicted.set(gw.readers.evicted)
    return Response(generate_latest(gw.metrics.registry), media_type=CONTENT_TYPE_LATEST)
