"""Settings: four layers, each value with its origin, mistakes named with their layer."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from inhouse.errors import InvalidRequest
from inhouse.settings import Settings, load, origins


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder without an inhouse.toml."""
    monkeypatch.chdir(tmp_path)


def source_of(name: str, found: list[Any]) -> str:
    return next(o.source for o in found if o.name == name)


def test_flags_beat_variables_beat_the_file_beat_defaults(tmp_path: Path) -> None:
    (tmp_path / "inhouse.toml").write_text('port = 1\nhost = "a"\nbase = "b"\n')
    environ = {"INHOUSE_PORT": "2", "INHOUSE_HOST": "c"}
    settings = load({"port": 3, "base": None}, environ=environ)
    assert (settings.port, settings.host, settings.base, settings.device) == (3, "c", "b", "auto")
    found = origins({"port": 3}, environ=environ)
    assert source_of("port", found) == "--port"
    assert source_of("host", found) == "INHOUSE_HOST"
    assert source_of("base", found) == "inhouse.toml"
    assert source_of("device", found) == "default"


def test_the_file_may_be_named_or_lie_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inhouse.toml").write_text("port = 5")
    (tmp_path / "named.toml").write_text("port = 6")
    environ = {"INHOUSE_DATA_DIR": str(tmp_path / "data")}
    assert load(environ=environ).port == 5
    assert load(environ={**environ, "INHOUSE_CONFIG": str(tmp_path / "named.toml")}).port == 6
    with pytest.raises(InvalidRequest, match="no file"):
        load(environ={"INHOUSE_CONFIG": str(tmp_path / "nothing.toml")})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"INHOUSE_PORT": "many"}, ["INHOUSE_PORT", "port", "'many'", "whole number"]),
        ({"INHOUSE_WORKER": "perhaps"}, ["INHOUSE_WORKER", "true or false"]),
        ({"INHOUSE_TUNE_SLOTS": "-1"}, ["INHOUSE_TUNE_SLOTS", "-1 is out of range", "0 or more"]),
        ({"INHOUSE_LEASE_S": "nan"}, ["INHOUSE_LEASE_S", "out of range"]),
        ({"INHOUSE_PROT": "1"}, ["INHOUSE_PROT", "no setting 'prot'", "port"]),
    ],
)
def test_a_mistake_names_its_layer_and_value(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load(environ=environ)
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2", "\xff"])
def test_a_broken_file_is_told_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "inhouse.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidRequest, match=r"inhouse\.toml is not valid TOML"):
        load(environ={})


@pytest.mark.parametrize(("text", "value"), [("1", True), ("YES", True), ("false", False), ("0", False)])
def test_truth_is_written_in_the_usual_ways(text: str, value: bool) -> None:
    assert load(environ={"INHOUSE_WORKER": text}).worker is value


def test_the_environment_of_a_child_loads_the_same_settings() -> None:
    settings = Settings(
        data_dir=Path("/x/y z"), worker=False, port=9, lease_s=1.5, database_url="sqlite:///a b"
    )
    assert load(environ=settings.environment()) == settings


def test_where_to_go_and_whose_key_are_no_settings_of_a_server() -> None:
    assert load(environ={"INHOUSE_URL": "http://x", "INHOUSE_API_KEY": "k"}) == Settings()


def test_settings_are_frozen_and_folders_follow_the_data_folder() -> None:
    settings = Settings(data_dir=Path("/d"))
    with pytest.raises(FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]
    assert settings.database == "sqlite:////d/inhouse.db"
    assert {
        p.parent for p in (settings.artifacts_dir, settings.scratch_dir, settings.run_dir, settings.log_dir)
    } == {Path("/d")}


@pytest.mark.parametrize(
    ("name", "wrong"), [("quantization", "int16"), ("lookup", "yes"), ("dtype", "float16"), ("graphs", "1")]
)
def test_a_word_that_a_setting_does_not_know_is_refused_where_it_was_said(name: str, wrong: str) -> None:
    with pytest.raises(InvalidRequest, match=f"INHOUSE_{name.upper()}: {name} = '{wrong}' is not .* or "):
        load(environ={f"INHOUSE_{name.upper()}": wrong})
