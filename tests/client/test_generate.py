"""Many rows through one model: in order, in bounded memory, each with its reply or its own error."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inhouse import Client, InvalidRequest, ModelNotFound, Reply, Summary, Unauthenticated
from inhouse.client import generate as generating
from inhouse.client.http import Http
from inhouse.client.progress import rows_bar
from inhouse.errors import InhouseError
from tests.client.scripted import scripted
from tests.server.house import TUNED, House, engine, house, until


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def write_rows(file: Path, *rows: Any) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# ── order, and what a row may be ──────────────────────────────────────────────────────────────────────────


def test_replies_come_in_the_rows_order_however_long_each_takes(client: Client) -> None:
    rows = [f"count {i} {0.02 * (i % 5 == 0)}" for i in range(40)]
    replies = list(client.generate(rows, model=TUNED, concurrency=3))
    assert [r.index for r in replies] == list(range(40))
    assert [r.text for r in replies] == ["".join(f"{n} " for n in range(i)) for i in range(40)]
    assert {r.finish_reason for r in replies} == {"stop"}
    assert [r.usage["completion_tokens"] for r in replies] == list(range(40))


ROWS: list[tuple[Any, str | None, str, str | None]] = [  # row, its id, the reply, what it expects
    ("as text", None, "as text", None),
    ({"prompt": "as prompt", "id": 7}, "7", "as prompt", None),
    ({"question": "q", "answer": "a", "source": "page 3", "id": "x"}, "x", "q", "a"),
    ({"input": "i", "output": "o"}, None, "i", "o"),
    ({"prompt": "p", "answer": "of another shape"}, None, "p", "of another shape"),
    (("pair", "known"), None, "pair", "known"),
    ({"messages": [{"role": "user", "content": "m"}]}, None, "m", None),
    (
        {"messages": [{"role": "user", "content": "m"}, {"role": "assistant", "content": "r"}]},
        None,
        "m",
        "r",
    ),
    (
        {
            "custom_id": "c",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gone", "messages": [{"role": "user", "content": "b"}]},
        },
        "c",
        "b",
        None,
    ),
    ({"custom_id": "d", "url": "/v1/completions", "body": {"prompt": "one two"}}, "d", "one two", None),
]


def test_every_shape_of_row_is_asked_and_training_rows_without_their_replies(client: Client) -> None:
    replies = list(client.generate([row for row, *_ in ROWS], model="seedling"))
    assert [(r.id, r.text, r.expected) for r in replies] == [tuple(rest) for _, *rest in ROWS]
    assert not any(r.error for r in replies)


def test_csv_and_parquet_are_read_too(client: Client, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "in.csv").write_text('id,prompt\n1,"one, two"\n2,three\n')
    parquet.write_table(pyarrow.table({"question": ["Who?"], "answer": ["Mara."]}), tmp_path / "in.parquet")
    assert [(r.id, r.text) for r in client.generate(tmp_path / "in.csv")] == [
        ("1", "one, two"),
        ("2", "three"),
    ]
    assert [(r.text, r.expected) for r in client.generate(tmp_path / "in.parquet")] == [("Who?", "Mara.")]


def test_a_row_s_own_words_go_before_the_run_s_and_a_named_model_before_both(client: Client) -> None:
    body = {"model": "nobody", "messages": [{"role": "user", "content": "a b c"}], "max_tokens": 2}
    rows = ["a b c", {"body": body}, {"body": {**body, "max_tokens": None}}]
    assert [r.text for r in client.generate(rows[:2], model=TUNED, max_tokens=1)] == ["a ", "a b "]
    ok, unknown = client.generate(rows[:2], max_tokens=1)
    assert ok.text == "a "
    assert unknown.error is not None and unknown.error.code == "model_not_found"


def test_a_system_message_is_for_rows_without_one(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    call = Http.call

    def hear(self: Http, method: str, path: str, **rest: Any) -> dict[str, Any]:
        sent.append(rest.get("body"))
        return call(self, method, path, **rest)

    monkeypatch.setattr(Http, "call", hear)
    rows = ["a", {"prompt": "b", "system": "own"}]
    assert [r.text for r in client.generate(rows, model=TUNED, system="Be brief.", concurrency=1)] == [
        "a",
        "b",
    ]
    systems = [body["messages"][0]["content"] for body in sent if body]
    assert systems == ["Be brief.", "own"]


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────

BAD: list[tuple[Any, str]] = [
    ({"prompt": ""}, "Write what is asked"),
    ({"prompt": 3}, "Give a string"),
    ({"promt": "x"}, "asks nothing"),
    ({"prompt": "x", "completion": "a", "answer": "b"}, "second reply"),
    ({"prompt": "x", "temprature": 1}, "unknown here"),
    ({"messages": []}, "Give at least one"),
    (17, "not a row"),
    ({"prompt": "\ud800"}, "surrogate"),
    ({"body": {"messages": [], "stream": True}}, "asks for a stream"),
    ({"body": {"messages": [], "n": 2}}, "several replies"),
    ({"url": "/v1/completions", "body": {"prompt": ["a", "b"]}}, "several replies"),
    ({"url": "/v1/embeddings", "body": {}}, "/v1/completions"),
    ({"method": "GET", "body": {}}, "Write POST"),
    ({"body": {"messages": [{"role": "user", "content": "x"}], "colour": "red"}}, "colour"),
    ({"body": {"messages": [{"role": "user", "content": "x"}], "top_p": float("nan")}}, "not JSON"),
    ("fault 400 context_length_exceeded", "No."),
    ("fault 500 internal_error", "No."),
]


def test_a_row_that_cannot_be_answered_has_its_error_and_the_others_their_replies(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.client.http._backoff_s", lambda attempt: 0.01)  # its waits do not matter
    rows = [piece for bad, _ in BAD for piece in (bad, "well")]
    replies = list(client.generate(rows, model=TUNED))
    assert [r.text for r in replies[1::2]] == ["well"] * len(BAD)
    for (bad, words), reply in zip(BAD, replies[::2], strict=True):
        assert reply.text is None
        assert reply.error is not None and words in reply.error.message, bad


@pytest.mark.parametrize(
    ("row", "known"),
    [
        (
            {"prompt": "x", "zzz": 1},
            "answer, completion, custom_id, id, metadata, output, prompt, source, system",
        ),
        ({"messages": [], "zzz": 1}, "custom_id, id, messages, metadata, parallel_tool_calls, source, tools"),
        ({"body": {}, "zzz": 1}, "body, custom_id, method, url"),
    ],
)
def test_an_unknown_key_s_message_lists_every_key_that_is_taken(
    client: Client, row: dict[str, Any], known: str
) -> None:
    (reply,) = client.generate([row], model=TUNED)
    assert reply.error is not None
    assert reply.error.message.endswith(f"Known: {known}.")


def test_a_bad_line_of_a_file_is_an_error_in_its_place(client: Client, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(
        b'{"prompt": "a"}\n\n{"prompt": \n{"prompt": "\xff"}\n{"prompt": "b"}\n'
    )
    made = client.generate(tmp_path / "in.jsonl", model=TUNED, out=tmp_path / "out.jsonl")
    a, broken, bytes_, b = lines(tmp_path / "out.jsonl")
    assert (a["text"], b["text"], b["index"]) == ("a", "b", 3)
    assert broken["error"]["message"].startswith("line 3: is not valid JSON")
    assert broken["error"]["code"] == "invalid_row"
    assert bytes_["error"]["message"].startswith("line 4: is not valid UTF-8")
    assert (made.rows, made.errors) == (4, 2)


def test_a_strict_run_ends_at_the_first_error_and_keeps_what_was_before(
    client: Client, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    rows = ["a", "b", "fault 400 invalid_value", "c"]
    with pytest.raises(InvalidRequest, match=r"^Row 3: No\.") as caught:
        client.generate(rows, model=TUNED, out=out, strict=True)
    assert [line["text"] for line in lines(out)] == ["a", "b"]
    assert "Mend that row first" in caught.value.__notes__[0]
    assert "goes on from there" in caught.value.__notes__[1]
    assert client.generate(rows, model=TUNED, out=out).rows == 4


@pytest.mark.parametrize("wrong", [{"stream": True}, {"n": 2}, {"concurrency": 0}, {"restart": True}])
def test_what_makes_no_sense_is_refused_before_a_row_is_read(client: Client, wrong: dict[str, Any]) -> None:
    read = []
    with pytest.raises(InvalidRequest):
        client.generate((read.append(i) or "x" for i in range(9)), model=TUNED, **wrong)
    with pytest.raises(ModelNotFound):
        client.generate((read.append(i) or "x" for i in range(9)), model="nobody")
    assert read == []


def test_a_key_that_is_revoked_ends_the_run_and_no_row_is_called_bad(
    served: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    with Client(served.url, served.member) as client:
        call = Http.call

        def revoked(self: Http, method: str, path: str, **rest: Any) -> dict[str, Any]:
            if method == "POST" and "five" in str(rest["body"]):
                raise Unauthenticated("This API key is revoked.")
            return call(self, method, path, **rest)

        monkeypatch.setattr(Http, "call", revoked)
        with pytest.raises(Unauthenticated):
            client.generate(["three", "four", "five", "six"], model=TUNED, out=out, concurrency=1)
    assert [line["text"] for line in lines(out)] == ["three", "four"]


# ── patience ──────────────────────────────────────────────────────────────────────────────────────────────

CARD = json.dumps({"id": "m", "x_places": {"running": 2, "waiting": 1}}).encode()
ANSWER = json.dumps(
    {
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


def busy(code: str, status: int, wait: str) -> tuple[int, dict[str, str], bytes]:
    error = {"error": {"message": "Busy.", "type": "server_error", "code": code, "param": None}}
    return status, {"retry-after": wait}, json.dumps(error).encode()


@pytest.mark.parametrize(("code", "status"), [("engine_overloaded", 503), ("rate_limit_exceeded", 429)])
def test_a_busy_server_is_waited_for_as_long_as_it_says(
    code: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: waited.append(seconds))
    many = [busy(code, status, "3")] * 12  # more often than a single request is tried
    with scripted((200, {}, CARD), *many, (200, {}, ANSWER)) as script, Client(script.url, "k") as client:
        (reply,) = client.generate(["x"], model="m", concurrency=1)
    assert reply.text == "yes"
    assert waited == [3.0] * 12


def test_a_server_that_never_answers_ends_the_run_instead_of_failing_every_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generating, "PATIENCE_S", 0.0)
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: None)
    with scripted((200, {}, CARD), busy("engine_overloaded", 503, "1")) as script:  # noqa: SIM117
        with Client(script.url, "k") as client:
            with pytest.raises(InhouseError, match=r"Busy\."):
                list(client.generate(["x", "y"], model="m"))


def test_a_slow_source_s_pause_does_not_count_as_the_server_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "PATIENCE_S", 0.3)
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: None)
    many = [busy("engine_overloaded", 503, "1")] * 7
    replies = [(200, {}, CARD), (200, {}, ANSWER), *many, (200, {}, ANSWER)]

    def slow() -> Iterator[str]:
        yield "x"
        time.sleep(0.6)
        yield "y"

    with scripted(*replies) as script, Client(script.url, "k") as client:
        assert [r.text for r in client.generate(slow(), model="m", concurrency=1)] == ["yes", "yes"]


def test_a_row_that_ends_the_engine_each_time_is_that_row_s_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: None)
    lost = busy("engine_lost", 503, "0")
    with (
        scripted((200, {}, CARD), *[lost] * 5, (200, {}, ANSWER)) as script,
        Client(script.url, "k") as client,
    ):
        poison, next_one = client.generate(["x", "y"], model="m", concurrency=1)
    assert poison.error is not None and poison.error.code == "engine_lost"
    assert next_one.text == "yes"


# ── memory and places ─────────────────────────────────────────────────────────────────────────────────────


def test_an_iterator_reads_no_further_ahead_than_its_window(client: Client) -> None:
    read = itertools.count()
    furthest = 0

    def endless() -> Iterator[str]:
        nonlocal furthest
        for i in read:
            furthest = i + 1
            yield f"row {i}"

    replies = client.generate(endless(), model=TUNED, concurrency=2)
    assert furthest == 0
    for taken in range(1, 101):
        assert next(replies).text == f"row {taken - 1}"
        assert furthest <= taken + 8, "four for each that is under way"
    replies.close()  # type: ignore[attr-defined]
    time.sleep(0.1)
    assert furthest <= 108


def test_a_slow_row_holds_back_no_more_than_the_window(client: Client) -> None:
    """Behind it the others are answered meanwhile, and kept; not all of them are read."""
    read = []
    rows = (read.append(i) or ("count 2 0.4" if i == 0 else f"row {i}") for i in range(1000))
    replies = client.generate(rows, model=TUNED, concurrency=3)
    assert next(replies).text == "0 1 "
    assert len(read) == 12
    replies.close()  # type: ignore[attr-defined]


def peak_of(made: House, ask: Callable[[], object]) -> int:
    """The most choices that were under way at once while `ask` ran."""
    is_over = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not is_over.is_set():
            peak = max(peak, made.server.gateway.relay.running["seedling"])
            time.sleep(0.001)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        ask()
    finally:
        is_over.set()
        watching.join()
    return peak


@pytest.mark.parametrize(("asked", "expected"), [(None, 4), (2, 2), (50, 5)])
def test_no_more_are_under_way_than_fill_the_engine_or_than_the_server_takes(
    asked: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: waited.append(seconds))
    with house(tmp_path, max_running=2, max_queued=3) as made, engine(made.db, tmp_path):  # noqa: SIM117
        with Client(made.url, made.member) as client:
            rows = ["count 3 0.02"] * 60
            peak = peak_of(made, lambda: list(client.generate(rows, model="seedling", concurrency=asked)))
    assert peak == expected
    assert waited == [], "a request was turned away"


def test_control_without_the_server_s_word_requests_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "_places", lambda http, model: (50, 50))
    waited = []
    monkeypatch.setattr(generating, "_wait", lambda stop, seconds: waited.append(seconds) or time.sleep(0.01))
    with house(tmp_path, max_running=2, max_queued=3) as made, engine(made.db, tmp_path):  # noqa: SIM117
        with Client(made.url, made.member) as client:
            replies = list(client.generate(["count 3 0.02"] * 60, model="seedling"))
    assert all(r.text == "0 1 2 " for r in replies)
    assert waited


def test_closing_the_iterator_ends_the_run(client: Client, served: House) -> None:
    replies = client.generate(("count 2 0.01" for _ in itertools.count()), model=TUNED, concurrency=2)
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    until(lambda: not [t for t in threading.enumerate() if t.name == "generate"], "its threads are gone")


def test_a_script_that_ends_in_the_middle_ends_at_once(served: House) -> None:
    """Even while the server keeps it waiting: nothing joins what is under way."""
    program = (
        "from inhouse import Client\n"
        "replies = Client().generate(['one', *['count 100 0.5'] * 20], model='seedling', concurrency=4)\n"
        "print(next(replies).text)"
    )
    environment = {**os.environ, "INHOUSE_URL": served.url, "INHOUSE_API_KEY": served.member}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")
    until(lambda: served.engine_numbers()["running"] == 0, "what was under way is cancelled")


# ── progress ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_terminal_sees_rows_speed_and_errors_and_a_pipe_sees_nothing() -> None:
    for is_terminal in (True, False):
        page = io.StringIO()
        console = Console(file=page, force_terminal=is_terminal, width=120)
        with rows_bar(lambda: 1200, console=console) as show:
            show(Summary(rows=700, errors=2, completion_tokens=9000, seconds=4.5))
        seen = page.getvalue()
        if is_terminal:
            assert all(word in seen for word in ("700/1200", "2,000 tokens/s", "2 without a reply"))
        else:
            assert seen == ""


def test_a_reply_says_what_it_holds() -> None:
    error = InvalidRequest("No.", param="messages")
    line = json.loads(Reply(index=3, id="x", error=error, digest="d").to_line())
    assert line == {"index": 3, "id": "x", "error": error.to_wire()["error"], "digest": "d"}
