"""`inhouse status`: what a human and a script are told of a server that works, does not, or is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client import conftest as shared
from tests.server.house import House, engine, house
from tests.test_cli import inhouse, lines

bare_environment = shared.bare_environment


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    with house(tmp_path, min_free_bytes=0) as made, engine(made.db, tmp_path):
        monkeypatch.setenv("INHOUSE_URL", made.url)
        monkeypatch.setenv("INHOUSE_API_KEY", made.admin)
        yield made  # type: ignore[misc]


def test_a_server_that_takes_work_is_told_with_its_checks(own: House) -> None:
    (told,) = lines(inhouse("status", "--json"))
    assert (told["url"], told["is_ready"], told["state"]) == (own.url, True, "ready")
    assert all(check["ok"] for check in told["checks"]) and len(told["checks"]) == 7


def test_one_that_does_not_says_why_and_the_command_fails(
    own: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.server.gateway.work.draining = True
    (told,) = lines(inhouse("status", "--json", code=1))
    (failed,) = [check for check in told["checks"] if not check["ok"]]
    assert failed["name"] == "accepting" and "told to stop" in failed["why"] and failed["cure"]
    monkeypatch.setenv("INHOUSE_API_KEY", own.member)
    (told,) = lines(inhouse("status", "--json", code=1))
    assert all(check["why"] == check["cure"] == "" for check in told["checks"])


def test_people_read_it(own: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhouse.cli.status.speaks_json", lambda as_json: False)
    assert "is ready, 1 replicas ready" in inhouse("status").output
    own.server.gateway.work.draining = True
    shown = inhouse("status", code=1).output
    assert "no  accepting: The server drains" in shown and "ok  database" in shown


def test_no_server_is_said_and_none_is_started(
    tmp_path: Path, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHOUSE_DATA_DIR", str(tmp_path / "none"))
    assert "inhouse up" in inhouse("status", code=1).stderr
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("INHOUSE_URL", "http://127.0.0.1:9")
    assert "Nothing answers" in inhouse("status", code=1).stderr
