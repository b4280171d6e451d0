"""One way to send: retries, patience, errors as exceptions, event streams."""

from __future__ import annotations

import email.utils
import io
import json
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse import errors
from inhouse.client.faults import from_wire
from inhouse.client.http import ATTEMPTS, Address, Http, event_data

from .scripted import HANG_UP, Reply, Script, scripted

OK: Reply = (200, {"content-type": "application/json"}, b'{"ok": true}')


def failing(status: int, code: str = "x", **headers: str) -> Reply:
    body = {"error": {"message": "No.", "type": "server_error", "param": None, "code": code}}
    return status, {k.replace("_", "-"): v for k, v in headers.items()}, json.dumps(body).encode()


class Slept(list[float]):
    """Stands where time.sleep stands, and keeps how long it was asked to sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def http(script: Script, slept: Slept | None = None, **options: Any) -> Http:
    return Http(
        Address(script.url, "sk-1", is_local=True), sleep=Slept() if slept is None else slept, **options
    )


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_retried(status: int) -> None:
    with scripted(failing(status), failing(status), OK) as script:
        assert http(script).call("GET", "/v1/models") == {"ok": True}
        assert len(script.asked) == 3


@pytest.mark.parametrize(
    ("reply", "attempts"),
    [
        (failing(409, x_should_retry="false"), 1),
        (failing(429, x_should_retry="false"), 1),
        (failing(400), 1),
        (failing(404), 1),
        (failing(400, x_should_retry="true"), ATTEMPTS),
        (failing(409), ATTEMPTS),
    ],
)
def test_the_server_may_say_whether_to_retry(reply: Reply, attempts: int) -> None:
    with scripted(reply) as script:
        with pytest.raises(errors.InhouseError, match=r"No\."):
            http(script).call("POST", "/v1/x", body={})
        assert len(script.asked) == attempts


def test_retry_after_is_slept_in_seconds_or_until_a_date() -> None:
    date = email.utils.format_datetime(email.utils.localtime().astimezone())
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    slept = Slept()
    with scripted(
        failing(503, retry_after="7"),
        failing(503, retry_after=in_a_minute),
        failing(503, retry_after=date),
        failing(503, retry_after="soon"),
        OK,
    ) as script:
        http(script, slept).call("GET", "/")
    assert slept[0] == 7
    assert 50 < slept[1] <= 60
    assert slept[2] < 2
    assert 0 < slept[3] <= 8


def test_a_server_that_asks_for_too_much_patience_is_not_waited_for() -> None:
    slept = Slept()
    with scripted(failing(429, retry_after="3600")) as script:
        with pytest.raises(errors.RateLimited) as caught:
            http(script, slept).call("GET", "/")
        assert len(script.asked) == 1
    assert caught.value.retry_after_s == 3600
    assert slept == []


def test_waits_grow_and_are_never_in_step() -> None:
    runs = []
    for _ in range(2):
        slept = Slept()
        with scripted(failing(500)) as script, pytest.raises(errors.InhouseError):
            http(script, slept).call("GET", "/")
        runs.append(slept)
    assert runs[0] != runs[1]
    assert all(0.25 <= wait <= 8 for wait in runs[0]) and runs[0][-1] > runs[0][0]


def test_a_connection_cut_before_the_reply_is_tried_again_with_the_same_key_and_the_whole_file() -> None:
    content = io.BytesIO(b"row\n" * 1000)
    with scripted(HANG_UP, failing(503), OK) as script:
        upload = ("facts.jsonl", content, {"purpose": "fine-tune"})
        assert http(script).call("POST", "/v1/files", upload=upload, idempotency_key="k")["ok"]
        assert [a.headers["idempotency-key"] for a in script.asked] == ["k"] * 3
        assert [a.body.count(b"row\n") for a in script.asked] == [1000] * 3
        assert b'name="purpose"' in script.asked[-1].body


def test_the_key_goes_along_and_v1_in_the_address_does_not_double() -> None:
    with scripted(OK) as script:
        Http(Address(script.url + "/v1/", "sk-2", is_local=True)).call(
            "GET", "/v1/models", params={"limit": 2}
        )
        assert script.asked[0].path == "/v1/models?limit=2"
        assert script.asked[0].headers["authorization"] == "Bearer sk-2"


def test_no_server_is_said_with_address_and_cure() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(errors.ServerUnreachable, match=f"{url}.*inhouse up"):
            Http(Address(url, None, is_local=True), sleep=Slept()).call("GET", "/")


@pytest.mark.parametrize("url", ["host:8420", "ftp://host", "", "http://host:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="no server's address"):
        Http(Address(url, None), sleep=Slept()).call("GET", "/")


def test_a_server_that_moved_is_found_once_and_asked_there() -> None:
    with scripted(failing(401, "invalid_api_key")) as old, scripted(OK) as new:
        moved = Address(new.url, "sk-new", is_local=True)
        sender = http(old, relocate=lambda: moved)
        assert sender.call("GET", "/") == {"ok": True}
        assert sender.address == moved
        assert new.asked[0].headers["authorization"] == "Bearer sk-new"
        with pytest.raises(errors.Unauthenticated):  # control: it did not move
            http(old, relocate=lambda: Address(old.url, "sk-1", is_local=True)).call("GET", "/")


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ((200, {}, b"<html>"), "not JSON"),
        ((200, {}, b"[1]"), "no object"),
        ((404, {}, b"<html>nginx</html>"), "is no Inhouse server"),
        ((302, {"location": "https://else.where/"}, b""), "else.where"),
        ((418, {}, b'{"error": "teapot"}'), "is no Inhouse server"),
    ],
)
def test_what_another_server_sends_is_an_error_and_no_crash(reply: Reply, word: str) -> None:
    with scripted(reply) as script, pytest.raises(errors.InhouseError, match=word):
        http(script).call("GET", "/v1/models")


def every_error() -> list[type[errors.InhouseError]]:
    return [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.InhouseError)]


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.__name__)
def test_every_error_survives_the_wire(cls: type[errors.InhouseError]) -> None:
    if cls is errors.BadRows:
        problem = errors.RowProblem(17, "output", "is missing.", "Add it.")
        raised: errors.InhouseError = errors.BadRows("facts.jsonl", [problem])
    else:
        raised = cls("Why.", param="model")
    back = from_wire(raised.to_wire()["error"], status=raised.status)
    assert isinstance(back, cls) or back.code == raised.code  # InternalError shares its code with the root
    assert (back.message, back.param, back.code) == (raised.message, raised.param, raised.code)


def test_an_unknown_code_is_classed_by_its_status_then_its_type() -> None:
    assert type(from_wire({"message": "m", "code": "new"}, status=404)) is errors.NotFound
    assert type(from_wire({"message": "m", "code": "new"}, status=599)) is errors.InternalError
    assert type(from_wire({"message": "m", "type": "invalid_request_error"})) is errors.InvalidRequest
    assert from_wire({}, status=418).message


# ── event streams ─────────────────────────────────────────────────────────────────────────────────────────


def stream(body: bytes) -> Reply:
    return 200, {"content-type": "text/event-stream"}, body


def test_frames_come_until_done() -> None:
    with scripted(stream(b': hi\n\ndata: {"a": 1}\n\ndata:{"a": 2}\r\n\r\ndata: [DONE]\n\n')) as script:
        assert list(http(script).events("/v1/chat/completions", {})) == [{"a": 1}, {"a": 2}]


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(1, 7))
def test_any_text_in_any_chunks_comes_out_whole(texts: list[str], size: int) -> None:
    wire = b"".join(
        b"data: " + json.dumps(t, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n" for t in texts
    )
    chunks = (wire[i : i + size] for i in range(0, len(wire), size))
    expected = [t.encode("utf-8", "replace").decode() for t in texts]
    assert [json.loads(data) for data in event_data(chunks)] == expected


def test_an_error_after_the_200_is_raised_as_what_it_is() -> None:
    body = json.dumps(errors.Draining("Going.").to_wire()).encode()
    with scripted(stream(b'data: {"a": 1}\n\ndata: ' + body + b"\n\n")) as script:
        frames = http(script).events("/", {})
        assert next(frames) == {"a": 1}
        with pytest.raises(errors.Draining, match="Going"):
            next(frames)


@pytest.mark.parametrize(
    "reply", [stream(b'data: {"a": 1}\n\n'), (200, {"content-length": "99"}, b'data: {"a"')]
)
def test_a_stream_that_breaks_off_is_never_taken_for_whole(reply: Reply) -> None:
    with scripted(reply) as script, pytest.raises(errors.ServerUnreachable, match="Ask again"):
        list(http(script).events("/", {}))
