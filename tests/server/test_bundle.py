"""Many rows in one request: each answered, refused, counted and limited as if it came alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.server.limits import Limits
from inhouse.store.records import usage

from .house import TUNED, House, engine, house, until
from .test_chat import events

ROWS = "/v1/x/rows"
LINES = {"content-type": "application/jsonl"}


def row(content: str, **fields: Any) -> dict[str, Any]:
    return {"model": "seedling", "messages": [{"role": "user", "content": content}], **fields}


def post(served: House, *rows: dict[str, Any] | bytes, headers: dict[str, str] = LINES) -> httpx2.Response:
    lines = [made if isinstance(made, bytes) else json.dumps(made).encode() for made in rows]
    return served.client().post(ROWS, content=b"\n".join(lines), headers=headers)


def answers(served: House, *rows: dict[str, Any] | bytes) -> list[dict[str, Any]]:
    """Each row's event, in the order of the rows; there is one for each."""
    found = events(post(served, *rows))
    assert sorted(event["row"] for event in found) == list(range(len(rows)))
    return sorted(found, key=lambda event: event["row"])


def texts(found: list[dict[str, Any]]) -> list[str | None]:
    return [e["reply"]["choices"][0]["message"]["content"] if "reply" in e else None for e in found]


def without_its_own(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key not in ("id", "created")}


@pytest.mark.parametrize("content", ["hello there friend", "cached 2", "whose turn", "count 5 0"])
def test_a_row_gets_the_reply_that_it_gets_alone(served: House, content: str) -> None:
    fields = {"service_tier": "flex", "max_tokens": 4, "logprobs": True, "top_logprobs": 1}
    event, _ = answers(served, row(content, **fields), row("another"))
    assert without_its_own(event["reply"]) == without_its_own(served.chat(content, **fields).json())


def test_a_row_s_event_leaves_when_it_ends_whatever_the_others_do(served: House) -> None:
    body = b"\n".join(json.dumps(made).encode() for made in (row("count 40 0.1"), row("at once")))
    started = time.monotonic()
    with served.client().stream("POST", ROWS, content=body, headers=LINES) as reply:
        first = next(line for line in reply.iter_lines() if line)
        assert time.monotonic() - started < 3.0, "the other takes 4 s"
    assert json.loads(first.removeprefix("data: "))["row"] == 1


BAD: list[tuple[dict[str, Any] | bytes, int, str]] = [
    (b'{"model": "seedling", ', 400, "invalid_json"),
    (row("x", colour="red"), 400, "unsupported_parameter"),
    (row("x", stream=True), 400, "invalid_value"),
    (row("x", n=2), 400, "invalid_value"),
    (row("x", logprobs=False, top_logprobs=3), 400, "invalid_value"),
    (row("x", x_memory="nobody"), 404, "model_not_found"),
    (row("fault 400 context_length_exceeded"), 400, "context_length_exceeded"),
    (row("fault 503 engine_overloaded"), 503, "engine_overloaded"),
    (row("wrong adapter"), 500, "internal_error"),
]


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(("bad", "status", "code"), BAD)
def test_a_row_that_cannot_be_answered_harms_no_other(
    served: House, bad: dict[str, Any] | bytes, status: int, code: str, is_last: bool
) -> None:
    rows = [row("one"), bad, row("two words")]
    found = answers(served, *(rows[:1] + rows[2:] + [bad] if is_last else rows))
    refused = found.pop(2 if is_last else 1)
    assert (refused["status"], refused["refused"]["code"]) == (status, code)
    assert texts(found) == ["one", "two words"]


def test_a_bundle_of_broken_rows_only_refuses_each(served: House) -> None:
    assert [event["status"] for event in answers(served, b"{", b"[]")] == [400, 400]


@pytest.mark.parametrize(
    ("rows", "headers", "status", "words"),
    [
        ([row("x"), row("y", model=TUNED)], LINES, 400, "2 models"),
        ([row("x", model="nobody")], LINES, 404, "nobody"),
        ([], LINES, 400, "0 lines"),
        ([row("x")] * 65, LINES, 400, "65 lines"),
        ([row("x")], {"content-type": "application/json"}, 415, "application/jsonl"),
    ],
)
def test_what_is_no_bundle_is_refused_whole(
    served: House, rows: list[dict[str, Any]], headers: dict[str, str], status: int, words: str
) -> None:
    reply = post(served, *rows, headers=headers)
    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]


def test_an_engine_that_dies_midway_keeps_what_has_ended_and_refuses_the_rest(served: House) -> None:
    rows = [row("at once"), row("crash 30"), row("count 100 0.1")]
    found = answers(served, *rows)
    assert {(e["status"], e["refused"]["code"]) for e in found[1:]} == {(503, "engine_lost")}
    assert texts(found)[0] in ("at once", None)


# ── counting ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, max_running=2, max_queued=2, load_wait_s=5.0) as made, engine(made.db, tmp_path):
        yield made


def used(made: House) -> tuple[int, int, int]:
    with made.db.read() as conn:
        total = usage.total(conn, "default", 0.0)
    return total.requests, total.prompt_tokens, total.completion_tokens


def test_usage_is_written_row_by_row_and_places_are_given_back(own: House) -> None:
    answers(own, row("one"), row("two words"), row("fault 400 invalid_value"))
    until(lambda: used(own) == (2, 3, 3), "two requests are counted, three tokens in and three out")
    assert own.server.gateway.relay.running["seedling"] == 0


def test_rows_beyond_the_places_are_refused_by_themselves(own: House) -> None:
    found = answers(own, *[row("count 3 0.05")] * 6)
    assert [e.get("status") for e in found] == [None] * 4 + [503, 503]
    assert all(e["retry_after_s"] == 1 for e in found[4:])


def test_each_row_counts_against_the_project_s_limit(tmp_path: Path) -> None:
    with house(tmp_path, Limits(requests=3), load_wait_s=5.0) as made, engine(made.db, tmp_path):
        found = answers(made, *[row("x")] * 4)
    assert [e.get("status") for e in found] == [None, None, None, 429]
    assert found[3]["retry_after_s"] > 0


def test_a_caller_that_leaves_cancels_every_row_and_what_was_made_is_counted(own: House) -> None:
    body = b"\n".join(json.dumps(row("count 200 0.05")).encode() for _ in range(3))
    with own.client().stream("POST", ROWS, content=body, headers=LINES):
        until(lambda: own.engine_numbers().get("running") == 3, "all three run")
        time.sleep(0.3)
    until(lambda: own.engine_numbers()["running"] == 0, "none runs")
    assert own.server.gateway.relay.running["seedling"] == 0
    until(lambda: used(own)[0] == 3 and used(own)[2] >= 3, "what they had made is counted")


def test_a_server_that_ends_refuses_the_rows_that_still_run(own: House) -> None:
    from inhouse.errors import Draining

    body = b"\n".join(json.dumps(made).encode() for made in (row("at once"), row("count 200 0.05")))
    with own.client().stream("POST", ROWS, content=body, headers=LINES) as reply:
        lines = (line.removeprefix("data: ") for line in reply.iter_lines() if line)
        assert json.loads(next(lines))["row"] == 0
        relay = own.server.gateway.relay
        own.server._loop.call_soon_threadsafe(relay.end_all, Draining("Ending."))  # type: ignore[union-attr]
        refused = json.loads(next(lines))
        assert (refused["row"], refused["status"], refused["refused"]["code"]) == (1, 503, "draining")
        assert next(lines) == "[DONE]"
