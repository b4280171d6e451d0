"""Numbers for Prometheus: what is counted, under which names, and that no label grows without end."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inhouse.server import metrics as metrics_module
from inhouse.server.access import METHODS
from inhouse.server.limits import Limits
from inhouse.server.metrics import OTHER, Bounded, Clock, Metrics
from inhouse.store.records import workers
from inhouse.store.records.workers import WorkerRow

from .house import TUNED, House, engine, house, serve_again, until

DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(made: House) -> Samples:
    reply = made.client(made.admin).get("/metrics")
    assert reply.status_code == 200, reply.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def exported(text: str) -> set[str]:
    """The names of a scrape's figures, as they are asked for: counters with their ending."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    return set(kinds)


def test_every_figure_is_documented_and_every_documented_one_is_exported(served: House) -> None:
    told = re.findall(r"^\| `([a-z_0-9]+)` \|", DOCUMENTED.read_text(), re.MULTILINE)
    assert len(told) == len(set(told))
    assert exported(served.client(served.admin).get("/metrics").text) == set(told)


def test_requests_tokens_and_times_are_counted_by_base(tmp_path: Path) -> None:
    with house(tmp_path) as made, engine(made.db, tmp_path):
        made.chat("one two three")
        made.chat("count 4 0.02", stream=True)
        made.chat("fault 400 engine_says_no")
        made.client().post("/v1/completions", json={"model": TUNED, "prompt": "a b"})
        seen = scraped(made)
    base = {"model_name": "seedling"}
    assert value(seen, "inhouse_prompt_tokens_total", **base) == 3 + 3 + 2
    assert value(seen, "inhouse_generation_tokens_total", **base) == 3 + 4 + 2
    assert value(seen, "inhouse_request_success_total", **base, finished_reason="stop") == 3
    assert value(seen, "inhouse_request_failure_total", **base, code="engine_says_no") == 1
    assert value(seen, "inhouse_time_to_first_token_seconds_count", **base) == 3
    assert value(seen, "inhouse_e2e_request_latency_seconds_count", **base) == 4
    assert value(seen, "inhouse_inter_token_latency_seconds_count", **base) >= 3
    assert 0.04 <= value(seen, "inhouse_inter_token_latency_seconds_sum", **base) < 2
    assert value(seen, "inhouse_engines_up", **base) == 1
    route = {"method": "POST", "route": "/v1/chat/completions"}
    assert value(seen, "inhouse_http_requests_total", **route, status="200") == 2
    assert value(seen, "inhouse_http_requests_total", **route, status="400") == 1
    assert value(seen, "inhouse_database_seconds_count", op="read") > 0
    assert not any(TUNED in text for _, labels in seen for _, text in labels)


def test_jobs_workers_disk_and_limits_are_told(tmp_path: Path) -> None:
    with house(tmp_path, Limits(requests=1)) as made, engine(made.db, tmp_path):
        assert [made.chat("x").status_code for _ in range(2)] == [200, 429]
        with made.db.write() as conn:
            now = made.db.clock(conn)
            workers.note(conn, WorkerRow("host:1", now - 60, now - 10, 2, 1))
        until(
            lambda: value(scraped(made), "inhouse_event_loop_lag_seconds_count") > 0,
            "the loop's lag is known",
        )
        until(lambda: ("inhouse_audit_breaks", ()) in scraped(made), "the audit log was looked at")
        seen = scraped(made)
    assert value(seen, "inhouse_limit_refusals_total", limit="requests") == 1
    assert value(seen, "inhouse_limit_refusals_total", limit="tokens") == 0
    assert value(seen, "inhouse_jobs", kind="serve", state="running") == 1
    assert value(seen, "inhouse_jobs", kind="tune", state="failed") == 0
    assert value(seen, "inhouse_queue_waiting", kind="tune") == 0
    assert ("inhouse_batches", (("status", "in_progress"),)) in seen
    assert value(seen, "inhouse_leases_lost_total") == 2
    assert value(seen, "inhouse_workers") == 1
    assert 10 <= value(seen, "inhouse_worker_silence_seconds") < 20
    assert value(seen, "inhouse_disk_free_bytes") > 0
    assert value(seen, "inhouse_ready") == 1
    assert value(seen, "inhouse_ready_check", check="disk") == 1
    assert value(seen, "inhouse_database_up") == 1
    assert value(seen, "inhouse_audit_breaks") == 0
    assert value(seen, "process_open_fds") > 0
    assert sum(v for (name, _), v in seen.items() if name == "inhouse_build_info") == 1


def test_a_store_that_is_away_leaves_its_figures_out_and_says_so(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        assert value(scraped(made), "inhouse_database_up") == 1
        with made.db.write() as conn:
            conn.exec_driver_sql("DROP TABLE workers")
        seen = scraped(made)
        assert value(seen, "inhouse_database_up") == 0 and value(seen, "inhouse_ready") == 0
        assert not any(name == "inhouse_jobs" for name, _ in seen)
        assert ("inhouse_http_requests_in_flight", ()) in seen


def test_audit_rows_that_were_changed_show(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        made.client(made.admin).post("/v1/x/keys", json={"name": "n"})
        with made.db.write() as conn:
            conn.exec_driver_sql("DROP TRIGGER audit_no_update")
            conn.exec_driver_sql("UPDATE audit SET actor = 'somebody' WHERE seq = 1")
    with serve_again(tmp_path) as again:
        watch = again.server.gateway.audit_watch
        until(lambda: watch.breaks is not None, "the audit log was looked at")
        assert watch.breaks == 1


def test_paths_that_nobody_serves_are_one_label(served: House) -> None:
    client = served.client()
    for i in range(5):
        client.get(f"/nothing/{i}")
    client.get("/v1/models/no-such-model")
    client.request("BREW", "/v1/models")
    labels = {label for name, label in scraped(served) if name == "inhouse_http_requests_total"}
    routes = {dict(label)["route"] for label in labels}
    assert "none" in routes and "/v1/models/{name:path}" in routes
    assert not any("nothing" in route or "no-such" in route for route in routes)
    assert {dict(label)["method"] for label in labels} <= METHODS | {OTHER}


def test_a_label_takes_so_many_values_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MOST_VALUES", 3)
    bounded = Bounded()
    assert [bounded(name) for name in ("a", "b", "c", "d", "a")] == ["a", "b", "c", OTHER, "a"]
    assert Bounded()('x" 1\nforged 2') == OTHER and Bounded()("x" * 101) == OTHER
    numbers = Metrics()
    for i in range(10):
        Clock(numbers, f"base-{i}").end(prompt=1, generated=1, reason=None, error_code=f"code_{i}")
    seen = {s.labels["model_name"] for s in next(iter(numbers.prompt_tokens.collect())).samples}
    assert seen == {"base-0", "base-1", "base-2", OTHER}


def test_each_choice_has_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, now = Metrics(), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(numbers, "base")
    for at, choice, count in ((101.0, 0, 1), (101.5, 1, 1), (102.0, 0, 2), (103.5, 1, 1), (104.0, 0, 0)):
        now[0] = at
        clock.tokens(0, choice, count)
    said = {
        s.name: s.value for s in next(iter(numbers.between_tokens.collect())).samples if "le" not in s.labels
    }
    assert said["inhouse_inter_token_latency_seconds_count"] == 2
    assert said["inhouse_inter_token_latency_seconds_sum"] == pytest.approx(0.5 + 2.0)
