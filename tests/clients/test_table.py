"""`make clients` takes minutes and installs packages; here, that its parts are all there and tell a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clients import __main__ as runner
from tests.clients.table import CLIENTS, SCRIPTS, Client

PROMISED = (
    "openai-2",
    "openai-3",
    "langchain-openai",
    "llama-index",
    "instructor",
    "pydantic-ai",
    "openai-agents",
    "litellm",
    "lm-eval",
    "guidellm",
)


def test_every_client_that_is_promised_is_tried_in_a_pinned_release() -> None:
    assert tuple(CLIENTS) == PROMISED
    for client in CLIENTS.values():
        assert all("==" in package for package in client.packages)


@pytest.mark.parametrize("name", PROMISED)
def test_every_script_compiles_and_says_what_it_did(name: str) -> None:
    text = CLIENTS[name].path.read_text()
    compile(text, str(CLIENTS[name].path), "exec")
    assert "did(" in text


def test_no_script_is_without_a_client() -> None:
    used = {client.script for client in CLIENTS.values()} | {"walk.py", "things.py"}
    assert {path.name for path in SCRIPTS.glob("*.py")} == used


@pytest.mark.parametrize(
    ("script", "passed", "did"),
    [
        ("print('did: one')", True, ["one"]),
        ("print('did: one'); assert 1 == 2, 'not equal'", False, ["one"]),
        ("print('nothing was tried')", False, []),
    ],
)
def test_a_client_that_fails_or_does_nothing_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, passed: bool, did: list[str]
) -> None:
    path = tmp_path / "script.py"
    path.write_text(f"import os\nassert 'OPENAI_API_KEY' not in os.environ\n{script}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-developer")
    client = Client("pytest", str(path), ())
    made = runner.walk(
        "here", client, Path(sys.executable), {"url": "http://127.0.0.1:9", "key": "k"}, tmp_path / "folder"
    )
    assert (made.passed, made.did) == (passed, did), made.error
    assert ("not equal" in made.error) is (script.count("not equal") > 0)
