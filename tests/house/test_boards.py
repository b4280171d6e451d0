"""The board and the alerts against the figures of a whole house: every query names what a real server exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.house.house import House

FOLDER = Path(__file__).parents[2] / "docs" / "grafana"
ENDINGS = {"histogram": ("_bucket", "_sum", "_count")}
ADDED_BY_PROMETHEUS = {"instance", "job", "le"}


def board() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "inhouse.json").read_text()))


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def queries() -> list[str]:
    """Every query of the board, its variables' too, and of the alerts."""
    asked = [t["expr"] for panel in board()["panels"] for t in panel.get("targets", ())]
    asked += [v["query"]["query"] for v in board()["templating"]["list"] if isinstance(v["query"], dict)]
    return asked + [rule["expr"] for rule in rules()]


def faults(query: str, known: dict[str, set[str]]) -> list[str]:
    """Names of figures and of labels in a query that are not among the known: series' name → its labels."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    names = re.findall(r"\b(?:inhouse|process)_\w+", plain)
    found = [name for name in names if name not in known]
    labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"\"", plain)
    labels += [label for by in re.findall(r"\bby \(([^)]*)\)", plain) for label in re.split(r",\s*", by)]
    held = ADDED_BY_PROMETHEUS.union(*(known.get(name, set()) for name in names))
    return found + [f"label {label}" for label in labels if label not in held]


@pytest.fixture(scope="module")
def known(whole: House) -> dict[str, set[str]]:
    """Every series that a whole house exports after a few requests, and the labels it has."""
    assert whole.chat("tiny", "hello", max_tokens=5).status_code == 200
    assert whole.chat("tiny", "hello", max_tokens=-1).status_code == 400
    assert whole.chat("tiny", "hello " * 5000, max_tokens=5).status_code == 400
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(whole.call("GET", "/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_query_of_board_and_alerts_asks_for_what_a_house_exports(known: dict[str, set[str]]) -> None:
    assert len(queries()) > 40
    assert {query: wrong for query in queries() if (wrong := faults(query, known))} == {}


def test_control_a_name_or_a_label_that_is_not_there_is_found(known: dict[str, set[str]]) -> None:
    assert faults("sum by (model_name) (rate(inhouse_prompt_tokens_total[5m]))", known) == []
    assert faults("inhouse_prompt_token_total", known) == ["inhouse_prompt_token_total"]
    assert faults('inhouse_ready{model_name=~"x"}', known) == ["label model_name"]
    assert faults("sum by (kind, stat) (inhouse_jobs)", known) == ["label stat"]


def test_the_engine_says_all_that_is_told_of_engines(known: dict[str, set[str]]) -> None:
    from inhouse.server.figures import ENGINE_COUNTERS, ENGINE_GAUGES

    told = {f"inhouse_{name}" for name, _ in ENGINE_GAUGES.values()}
    told |= {f"inhouse_{name}_total" for name, _ in ENGINE_COUNTERS.values()}
    assert told <= set(known)


def test_the_board_can_be_imported() -> None:
    told = board()
    assert told["uid"] == "inhouse" and told["schemaVersion"] >= 36 and told["title"]
    assert "id" not in told and "__inputs" not in told, "it comes with its data source as a variable"
    ids = [panel["id"] for panel in told["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in told["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["type"] in ("timeseries", "stat") and panel["targets"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs))
    variables = {v["name"] for v in told["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(told))) - {"__rate_interval", "__all"}
    assert used == variables


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 10
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
