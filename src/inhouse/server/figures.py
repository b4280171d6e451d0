"""`/metrics`: what is counted as things happen, and what is looked up now in engines, store, disk and process.

It knows where each figure comes from. An engine or a store that does not answer leaves its figures out, and a
figure that says so in.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from fastapi import APIRouter, Request
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from inhouse.errors import InhouseError
from inhouse.jobs import queue
from inhouse.jobs.queue import Line
from inhouse.schema import JobKind, JobState
from inhouse.server import body, gateway
from inhouse.server.gateway import Gateway
from inhouse.server.version import VERSION
from inhouse.store.db import clock
from inhouse.store.records import audit, batches, jobs, replicas, workers
from inhouse.store.records.workers import WorkerRow

log = logging.getLogger(__name__)
router = APIRouter()

STORE_WAIT_S = 5.0
"""How long a look into the store may take before its figures are left out: a scraper waits ten seconds."""

ENGINE_GAUGES = {
    "running": ("num_requests_running", "Sequences that decode now."),
    "waiting": ("num_requests_waiting", "Sequences that wait for their turn."),
    "pages_total": ("kv_cache_pages", "Pages that the cache has."),
    "pages_free": ("kv_cache_pages_free", "Pages of the cache that hold nothing."),
    "adapters_resident": ("adapters_resident", "Adapters on the device."),
    "adapters_pinned": ("adapters_pinned", "Adapters kept there, used or not."),
    "connections": ("engine_connections", "Requests that the engine has been handed and has not ended."),
}
ENGINE_COUNTERS = {
    "preemptions_total": ("num_preemptions", "Sequences put back because the cache was full."),
    "prefix_tokens_total": ("prefix_cache_hits", "Prompt tokens found in the cache."),
    "prompt_tokens_total": ("prefix_cache_queries", "Prompt tokens looked up in the cache."),
    "guessed_tokens_total": ("spec_decode_num_draft_tokens", "Tokens guessed from what stood before."),
    "right_guesses_total": ("spec_decode_num_accepted_tokens", "Guesses that were right."),
    "generated_tokens_total": ("engine_generated_tokens", "Tokens that engines made, whoever asked."),
    "adapter_loads_total": ("adapter_loads", "Adapters loaded to the device."),
    "steps_total": ("engine_steps", "Steps of the model."),
    "requests_total": ("engine_requests", "Requests that engines took."),
    "faults_total": ("engine_faults", "Requests that failed in an engine."),
    "readers_put_out_total": (
        "engine_readers_put_out",
        "Callers cut off by an engine because they did not read.",
    ),
}
"""What an engine says of itself → the figure's name without our prefix, and its meaning."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one look into the store finds."""

    bases: Sequence[str]
    jobs: Mapping[tuple[str, str], int]
    batches: Mapping[str, int]
    lines: Mapping[JobKind, Line]
    workers: Sequence[WorkerRow]
    now: float
    acts: int


@dataclass(eq=False, slots=True)
class Figures(Collector):
    """One scrape's own figures, handed to the library in its terms."""

    families: list[Metric] = field(default_factory=list)

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)

    def gauge(self, name: str, text: str, values: Any, labels: Sequence[str] = ()) -> None:
        self._add(GaugeMetricFamily(f"inhouse_{name}", text, labels=labels), values)

    def counter(self, name: str, text: str, values: Any, labels: Sequence[str] = ()) -> None:
        self._add(CounterMetricFamily(f"inhouse_{name}", text, labels=labels), values)

    def _add(self, family: Any, values: Any) -> None:
        """values: a number; or label values → number; None leaves the figure without a value."""
        if isinstance(values, Mapping):
            for label, value in values.items():
                family.add_metric([label] if isinstance(label, str) else list(label), value)
        elif values is not None:
            family.add_metric([], values)
        self.families.append(family)


@router.get("/metrics", response_model=None)
async def show(request: Request) -> Response:
    """Every number of this server and of the engines behind it, in Prometheus' text format."""
    body.query(request, ())
    gw = gateway.of(request)
    figures, stored = Figures(), None
    try:
        async with asyncio.timeout(STORE_WAIT_S):
            stored = await gw.store.read(_look)
    except (InhouseError, SQLAlchemyError, TimeoutError):
        log.warning("the store tells no figures")
    checks = await gw.readiness.look()
    engines = await _engines(gw, stored.bases if stored else ())
    _of_engines(figures, engines, gw)
    _of_store(figures, stored)
    _of_server(figures, gw)
    figures.gauge(
        "ready_check", "Whether this check of /ready is well.", {c.name: c.ok for c in checks}, ["check"]
    )
    figures.gauge("ready", "Whether /ready says yes.", all(c.ok for c in checks))
    gw.metrics.registry.register(figures)
    try:
        text = generate_latest(gw.metrics.registry)
    finally:
        gw.metrics.registry.unregister(figures)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _look(conn: Connection) -> Stored:
    return Stored(
        bases=sorted({replica.base for replica in replicas.all(conn)}),
        jobs=jobs.counts(conn),
        batches=batches.counts(conn),
        lines=queue.lines(conn),
        workers=workers.all(conn),
        now=clock(conn),
        acts=audit.head(conn).seq,
    )


async def _engines(gw: Gateway, bases: Iterable[str]) -> dict[str, list[dict[str, float]]]:
    """Each base's engines' numbers; none where no engine answers in time. All are asked together."""
    bases = list(bases)
    told = await asyncio.gather(*(gw.relay.stats(base) for base in bases), return_exceptions=True)
    return {
        gw.metrics.base(base): [] if isinstance(numbers, BaseException) else numbers
        for base, numbers in zip(bases, told, strict=True)
    }


def _of_engines(figures: Figures, engines: Mapping[str, list[dict[str, float]]], gw: Gateway) -> None:
    def of(name: str) -> dict[str, float]:
        """The number's sum over the engines of each base that say it."""
        return {
            base: sum(numbers[name] for numbers in told if name in numbers)
            for base, told in engines.items()
            if any(name in numbers for numbers in told)
        }

    for name, (called, text) in ENGINE_GAUGES.items():
        figures.gauge(called, text, of(name), ["model_name"])
    for name, (called, text) in ENGINE_COUNTERS.items():
        figures.counter(called, text, of(name), ["model_name"])
    pages, free = of("pages_total"), of("pages_free")
    used = {base: 1 - free.get(base, 0.0) / total for base, total in pages.items() if total}
    figures.gauge("kv_cache_usage_perc", "Share of the cache that is used, 0 to 1.", used, ["model_name"])
    up = {base: len(told) for base, told in engines.items()}
    figures.gauge("engines_up", "Engines of a base that answer.", up, ["model_name"])
    taken = {gw.metrics.base(base): count for base, count in gw.relay.running.items()}
    figures.gauge("num_choices_in_flight", "Choices under way through this server.", taken, ["model_name"])


def _of_store(figures: Figures, stored: Stored | None) -> None:
    figures.gauge("database_up", "Whether the database answers.", stored is not None)
    by_state = {(kind, state): 0 for kind in get_args(JobKind) for state in get_args(JobState)}
    figures.gauge(
        "jobs", "Jobs there are.", by_state | dict(stored.jobs) if stored else None, ["kind", "state"]
    )
    by_status = dict.fromkeys(get_args(batches.Status), 0) | dict(stored.batches) if stored else None
    figures.gauge("batches", "Batches there are.", by_status, ["status"])
    lines = stored.lines if stored else {}
    figures.gauge(
        "queue_waiting", "Jobs that nobody works at.", {k: v.waiting for k, v in lines.items()}, ["kind"]
    )
    figures.gauge(
        "queue_age_seconds",
        "How long the job that waits longest has waited.",
        {kind: line.oldest_s for kind, line in lines.items()},
        ["kind"],
    )
    rows = stored.workers if stored else ()
    here = [row for row in rows if row.id != workers.GONE]
    silent_s = min((stored.now - row.seen_at for row in here), default=None) if stored else None
    figures.gauge("workers", "Workers that were there in the last day.", len(here) if stored else None)
    figures.gauge("worker_silence_seconds", "How long ago a worker was last seen.", silent_s)
    lost = sum(row.leases_lost for row in rows) if stored else None
    figures.counter("leases_lost", "Jobs that passed to another worker before they were done.", lost)
    died = sum(row.processes_died for row in rows) if stored else None
    figures.counter("job_processes_died", "Jobs' processes that ended badly.", died)
    figures.counter("audit_acts", "Acts in the audit log.", stored.acts if stored else None)


def _of_server(figures: Figures, gw: Gateway) -> None:
    figures.gauge("http_requests_in_flight", "Requests under way.", gw.work.active)
    figures.counter("readers_evicted", "Clients cut off because they did not read.", gw.readers.evicted)
    refused = {limit: gw.meter.refused[limit] for limit in ("requests", "tokens", "concurrent", "quota")}
    refused |= {"places": gw.relay.refused}
    figures.counter("limit_refusals", "Requests refused, by the limit in their way.", refused, ["limit"])
    figures.gauge("usage_rows_waiting", "Usage rows that are not in the store yet.", gw.usage.waiting)
    figures.counter(
        "worker_restarts", "Times that this server started its worker again.", gw.work.worker_restarts
    )
    figures.gauge(
        "audit_breaks",
        "Places at which the audit log was not what was written, at the last look.",
        gw.audit_watch.breaks,
    )
    disk = shutil.disk_usage(gw.settings.data_dir)
    figures.gauge("disk_free_bytes", "Room on the data folder's disk.", disk.free)
    figures.gauge("disk_size_bytes", "Size of the data folder's disk.", disk.total)
    said = {(VERSION, platform.python_version(), "postgresql" if gw.db.is_postgres else "sqlite"): 1}
    figures.gauge("build_info", "1, and what runs here.", said, ["version", "python", "database"])
