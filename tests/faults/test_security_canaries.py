"""Canaries: words and keys that must be in no log, no error, no event and no figure, planted on every route."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from inhouse import logs
from inhouse.engine.intake import Intake
from inhouse.server.app import routes
from tests.engine.test_reliability_gateway import Whole, whole
from tests.engine.world import World
from tests.house.house import House, rows
from tests.server.house import until
from tests.tiny import base_folder

WORD = "canary-5f2c-of-a-prompt"
MESSAGES = [{"role": "user", "content": WORD}]
ROWS = "".join(json.dumps({"input": f"{WORD} {i}", "output": f"{WORD} b"}) + "\n" for i in range(3))
BAD_ROWS = ROWS + json.dumps({"messages": MESSAGES}) + "\n" + f'{{"input": "{WORD}", "output": 3}}\n{{"{WORD}'


@pytest.fixture
def there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Whole]:
    """Gateway and engine in this process, saying all that they can say."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)  # the test's own client
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    with whole(tmp_path, World(tmp_path / "world")) as made:
        yield made


def planted(made: Any) -> tuple[str, ...]:
    return (WORD, made.admin, made.member, made.stranger)


def walk(there: Whole) -> list[httpx2.Response]:
    """Every route and method with the canary in whatever a body may hold: well, badly and not at all as meant."""
    app = there.made.server.config.app
    assert isinstance(app, FastAPI)
    bodies: list[dict[str, Any]] = [
        {"model": "seedling", "messages": MESSAGES, "max_tokens": 2, "temperature": 0},
        {"model": "seedling", "messages": MESSAGES, "temperature": WORD, "n": [WORD], "stream": {"a": WORD}},
        {"model": "seedling", "messages": [{"role": WORD, "content": WORD}]},
        {"model": "seedling", "prompt": WORD, "max_tokens": 2, "stop": WORD, "user": WORD},
        {"model": "seedling", "input": WORD, "instructions": WORD, "max_output_tokens": 16},
        {"model": "seedling", "input": [{"role": "user", "content": [{"type": WORD, "text": WORD}]}]},
        {"question": WORD, "answer": [WORD], "name": 3},
        {"model": "seedling", "messages": MESSAGES * 200},
    ]
    raws = [json.dumps(body).encode() for body in bodies]
    raws += [b'{"messages": "' + WORD.encode(), WORD.encode(), b"\xff" + WORD.encode()]
    found = []
    for route in routes(app):
        path = getattr(route, "path", "").replace("{", "").replace("}", "").replace(":path", "")
        for method in sorted(getattr(route, "methods", None) or ()):
            for raw in raws if method != "GET" else raws[:1]:
                for kind in (
                    "application/json",
                    "application/jsonl",
                    f"multipart/form-data; boundary={WORD}",
                ):
                    headers = {
                        "content-type": kind,
                        "x-canary": WORD,
                        "idempotency-key": WORD,
                        "cookie": WORD,
                    }
                    client = there.made.client(there.made.admin)
                    found.append(client.request(method, path, content=raw, headers=headers))
    for key in (f"Bearer {WORD}", f"Basic {WORD}", WORD, f"Bearer {there.made.admin}{WORD}"):
        found.append(there.made.client("").get("/v1/models", headers={"authorization": key}))
    return found


def job_on(there: Whole, content: str) -> str:
    """A tuning job on these rows, its files checked."""
    client = there.made.client()
    sent = {"file": ("f.jsonl", content.encode())}
    file = client.post("/v1/files", data={"purpose": "fine-tune"}, files=sent).json()["id"]
    asked = {"model": "seedling", "training_file": file}
    job: str = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
    until(
        lambda: client.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] != "validating_files",
        "it is checked",
    )
    return job


def test_no_log_error_event_or_figure_holds_a_prompt_or_a_key(
    there: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 42: at the level debug, with an engine that answers, on every route."""
    admin, member = there.made.client(there.made.admin), there.made.client()
    replies = walk(there)
    events = "".join(
        member.get(f"/v1/fine_tuning/jobs/{job}{part}").text
        for job in (job_on(there, ROWS), job_on(there, BAD_ROWS))
        for part in ("", "/events")
    )
    errors = "".join(reply.text for reply in replies if reply.status_code >= 400)
    assert sum(reply.status_code == 200 for reply in replies) > 10, "some of it was taken, and answered"
    assert len(errors) > 10_000
    assert max(reply.status_code for reply in replies) < 500, [
        r.text for r in replies if r.status_code >= 500
    ]
    audited = admin.get("/v1/organization/audit_logs", params={"limit": 100}).text
    figures = admin.get("/metrics").text + member.get("/ready").text
    for name, told in {
        "log": caplog.text,
        "errors": errors,
        "events": events,
        "audit": audited,
        "figures": figures,
    }.items():
        assert told, name
        for secret in planted(there.made):
            where = told.find(secret)
            assert where < 0, f"{name}: ...{told[max(0, where - 300) : where + 50]}"


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("where", ["server", "engine"])
def test_a_fault_of_ours_is_logged_without_the_words_that_it_quotes(
    there: Whole, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, where: str, guarded: bool
) -> None:
    """Fault 42: an exception's message may quote anything. The control logs it as it is."""

    def break_(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot read {WORD}")

    if where == "server":
        monkeypatch.setattr("inhouse.server.bases.find", break_)
        if not guarded:
            monkeypatch.setattr(logs, "place", repr)
    else:
        monkeypatch.setattr(Intake, "_prompt", break_)
        if not guarded:
            monkeypatch.setattr(
                "inhouse.engine.faults.traceback.format_tb", lambda _: [repr(sys.exception())]
            )
    reply = there.post(there.body("q"))
    assert reply.status_code == 500 and WORD not in reply.text
    assert (WORD not in caplog.text) is guarded
    assert "RuntimeError" in caplog.text


def test_no_process_of_a_house_writes_a_prompt_or_a_key_down(tmp_path: Path) -> None:
    """Fault 42: server, worker, tuning and engine as processes, at the level debug; what they wrote is searched."""
    made = House(tmp_path / "data", [base_folder(tmp_path / "tiny")], log_level="debug")
    made.start()
    try:
        tuned = made.ended(made.submit("tiny", rows(8, WORD), n_epochs=1, x_rank=4))["fine_tuned_model"]
        assert tuned and made.chat(tuned, WORD, max_tokens=2).status_code == 200
        assert made.chat("tiny", WORD * 50, max_tokens=2).status_code == 400
    finally:
        assert made.stop() == 0
    said = made.output()
    assert "worker" in said and len(said) > 500
    first = next(line.split()[-1] for line in said.splitlines() if line.startswith("Admin key"))
    assert said.count(first) == 1, "it was shown once, to whoever started the server"
    assert made.key not in said and WORD not in said
