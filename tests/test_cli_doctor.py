"""`inhouse doctor`: what this machine has, how bases are served, and the cure for what is missing."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.client import local
from inhouse.client.doctor import examine
from inhouse.settings import Settings
from tests.client import conftest as shared
from tests.server.house import until
from tests.test_cli import inhouse, lines

bare_environment = shared.bare_environment


@contextlib.contextmanager
def serving_in(settings: Settings) -> Iterator[None]:
    """A server process over the settings' data folder, until it is not needed."""
    environment = {**os.environ, **settings.environment(), "INHOUSE_WORKER": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "inhouse.server"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: local.find(settings), "it is found")
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_doctor_finds_python_the_data_folder_and_the_workshop() -> None:
    found = {line["what"]: line for line in lines(inhouse("doctor"))}
    assert found["python"]["state"] == found["data folder"]["state"] == found["workshop"]["state"] == "good"
    assert found["server"]["state"] == "note"
    (device,) = (line["found"] for what, line in found.items() if what == "device cpu")
    assert re.search(r"matrix peak [\d.e+-]+ TFLOP/s in \w+, as busy as the machine is now", device)
    assert "triton: " in found["gate on cpu"]["found"], "doctor does not say why a kernel is not taken"


def test_doctor_shows_how_bases_are_served_here_and_by_the_server_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INHOUSE_QUANTIZATION", "int8")
    monkeypatch.setenv("INHOUSE_GRAPHS", "plain")
    alone = next(f for f in examine(Settings(data_dir=tmp_path, quantization="int8")) if f.what == "serving")
    assert (alone.state, alone.found) == (
        "good",
        "dtype auto, quantization int8, lookup auto, kernels auto, graphs auto",
    )
    began_with = Settings(data_dir=tmp_path, lookup="off", kernels="reference", port=0)
    with serving_in(began_with):
        same = next(f for f in examine(began_with) if f.what == "serving")
        other = next(
            f for f in examine(Settings(data_dir=tmp_path, quantization="int4")) if f.what == "serving"
        )
    assert (same.state, same.found) == (
        "good",
        "dtype auto, quantization none, lookup off, kernels reference, graphs auto",
    )
    assert other.state == "note"
    assert other.found.startswith(same.found)
    assert other.found.endswith("would have quantization int4, lookup auto, kernels auto")
    assert re.search(r"end it: kill \d+$", other.cure)


def test_doctor_names_the_cure_when_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INHOUSE_DATA_DIR", str(tmp_path / "file" / "data"))
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch here', name='torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {line["what"]: line for line in lines(inhouse("doctor", code=1))}
    assert "INHOUSE_DATA_DIR" in found["data folder"]["cure"]
    assert found["workshop"]["state"] == "bad"
    assert "inhouse[worker]" in found["workshop"]["cure"]
