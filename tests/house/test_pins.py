"""Pinned adapters in a whole house: on the device before anybody asks, after an engine's death as well."""

from __future__ import annotations

import os
import signal

from tests.house.house import House, rows, until
from tests.house.test_batches import children


def engine_numbers(house: House) -> dict[str, float]:
    """What the engine of tiny reports, through the server's metrics."""
    found = {}
    for line in house.call("GET", "/metrics").text.splitlines():
        if 'model_name="tiny"' in line and line.startswith("inhouse_adapter"):
            name, _, value = line.removeprefix("inhouse_").partition('{model_name="tiny"} ')
            found[name] = float(value)
    return found


def published(house: House, count: int) -> str:
    """A model of the suffix handbook."""
    body = {
        "model": "tiny",
        "training_file": house.upload(rows(count)),
        "suffix": "handbook",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    }
    job = house.call("POST", "/v1/fine_tuning/jobs", json=body).json()
    return str(house.ended(job["id"])["fine_tuned_model"])


def test_a_pin_outlives_its_engine_and_moves_to_the_version_that_is_published(own: House) -> None:
    own.start()
    first = published(own, 2)
    series = first.rpartition(":")[0]
    assert own.chat("tiny", "hello", max_tokens=3).status_code == 200
    assert engine_numbers(own)["adapters_pinned"] == 0
    assert own.call("POST", "/v1/x/pins", json={"model": series}).json()["model"] == first
    until(lambda: engine_numbers(own).get("adapters_pinned") == 1, "the engine loads it")

    (engine,) = children(own, "worker.child job-")
    os.kill(engine, signal.SIGKILL)
    assert own.chat("tiny", "hello", max_tokens=3).status_code == 200
    until(lambda: engine_numbers(own).get("adapters_pinned") == 1, "the next engine loads it, too")
    loads = engine_numbers(own)["adapter_loads_total"]
    assert own.chat(first, "hello", max_tokens=3).status_code == 200
    assert engine_numbers(own)["adapter_loads_total"] == loads == 1

    second = published(own, 3)
    until(lambda: engine_numbers(own)["adapter_loads_total"] == 2, "the new version is loaded")
    assert own.chat(second, "hello", max_tokens=3).status_code == 200
    numbers = engine_numbers(own)
    assert (numbers["adapter_loads_total"], numbers["adapters_pinned"]) == (2, 1)
    assert own.call("DELETE", f"/v1/x/pins/{series}").status_code == 200
    until(lambda: engine_numbers(own)["adapters_pinned"] == 0, "nothing is kept")
