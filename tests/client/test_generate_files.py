"""A file of replies: whole lines, taken up again, never mixed with another run's."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inhouse import Client, Conflict, InvalidRequest, Summary
from inhouse.client import generate as generating
from inhouse.errors import InhouseError, ServerUnreachable
from inhouse.schema import Replica
from inhouse.server.relay import REPLICA_CACHE_S
from inhouse.store.records import replicas
from tests.client.test_generate import lines, write_rows
from tests.server.house import TUNED, House


def test_a_file_of_replies_has_a_line_a_row_and_a_summary(client: Client, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", *({"prompt": f"row {i}", "id": f"r{i}"} for i in range(20)))
    told: list[Summary] = []
    made = client.model(TUNED).generate(source, out=str(tmp_path / "out.jsonl"), on_progress=told.append)
    found = lines(tmp_path / "out.jsonl")
    assert [(line["index"], line["id"], line["text"]) for line in found] == [
        (i, f"r{i}", f"row {i}") for i in range(20)
    ]
    assert found[3]["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert (made.rows, made.errors, made.resumed) == (20, 0, 0)
    assert (made.prompt_tokens, made.completion_tokens) == (40, 40)
    assert made.tokens_per_second == pytest.approx(40 / made.seconds)
    assert told[0].rows == 0 and told[-1] == made


def test_the_input_is_repeated_where_it_is_asked_for(client: Client, tmp_path: Path) -> None:
    row = {"question": "Who?", "answer": "Mara.", "id": "x"}
    client.generate([row], model=TUNED, out=tmp_path / "out.jsonl", keep_input=True)
    (line,) = lines(tmp_path / "out.jsonl")
    assert line["input"] == row
    assert line["expected"] == "Mara."


def test_log_probabilities_that_were_asked_for_are_kept(client: Client) -> None:
    (reply,) = client.generate(["one"], model=TUNED, logprobs=True)
    assert reply.more["logprobs"]["content"][0]["token"] == "one"


def resumed(client: Client, out: Path, rows: list[Any], **how: Any) -> Summary:
    return client.generate(rows, model=TUNED, out=out, **how)


def test_a_run_goes_on_behind_the_last_whole_line(client: Client, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    rows = [f"row {i}" for i in range(12)]
    resumed(client, whole, rows)
    kept = whole.read_bytes().splitlines(keepends=True)
    for length in (0, 1, 5, 12):
        for torn in (b"", kept[0][:10], b'{"index":'):
            out.write_bytes(b"".join(kept[:length]) + torn)
            made = resumed(client, out, rows)
            assert out.read_bytes() == whole.read_bytes()
            assert (made.rows, made.resumed) == (12, length)


@pytest.mark.parametrize("torn", [b"", b'{"index":'], ids=["whole", "torn"])
def test_replies_of_a_base_that_is_served_in_other_numbers_are_told(
    client: Client, served: House, tmp_path: Path, caplog: pytest.LogCaptureFixture, torn: bytes
) -> None:
    out = tmp_path / "out.jsonl"
    rows = ["a", "b", "c", "d"]
    resumed(client, out, rows[:2])
    out.write_bytes(out.read_bytes() + torn)
    with fingerprint(served, "fp_bbbbbbbbbbbb_float32_int8"):
        resumed(client, out, rows)
    assert [line["fingerprint"].rpartition("_")[2] for line in lines(out)] == ["float32"] * 2 + ["int8"] * 2
    (told,) = [record.message for record in caplog.records if "served as" in record.message]
    assert "from row 3 on" in told and "float32_int8" in told and "--restart" in told


def test_replies_of_a_base_that_is_served_as_before_are_no_news(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resumed(client, tmp_path / "out", ["a"])
    resumed(client, tmp_path / "out", ["a", "fault 400 invalid_value", "b"])
    assert not [record for record in caplog.records if "served as" in record.message]


@contextmanager
def fingerprint(served: House, other: str) -> Iterator[None]:
    """The engine says meanwhile that it serves in other numbers."""

    def announce(replica: Replica) -> None:
        with served.db.write() as conn:
            replicas.put(conn, replica, served.db.clock(conn))
        time.sleep(2 * REPLICA_CACHE_S)

    with served.db.read() as conn:
        (replica,) = replicas.alive(conn)
    announce(replica.model_copy(update={"fingerprint": other}))
    try:
        yield
    finally:
        announce(replica)


def test_what_is_answered_is_not_asked_again(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    resumed(client, out, ["a", "b"])
    monkeypatch.setattr(generating._Asking, "replies", lambda self, rows: pytest.fail("asked again"))
    assert resumed(client, out, ["a", "b"]).resumed == 2


def test_more_rows_may_be_added_behind_those_that_are_answered(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    resumed(client, out, ["a", "fault 400 invalid_value"])
    made = resumed(client, out, ["a", "fault 400 invalid_value", "c"])
    assert (made.rows, made.resumed, made.errors) == (3, 2, 1)


@pytest.mark.parametrize(
    ("rows", "how", "words"),
    [
        (["a", "B", "c"], {}, "line 2 answers another request than row 2 is now"),
        (["a"], {}, "line 2 answers a row that the input no longer has"),
        (["a", "b", "c"], {"max_tokens": 1}, "line 1 answers another request"),
        (["a", "b", "c"], {"keep_input": True}, "an option has changed"),
    ],
)
def test_a_file_of_other_rows_or_options_is_refused_and_left_as_it_is(
    client: Client, tmp_path: Path, rows: list[str], how: dict[str, Any], words: str
) -> None:
    out = tmp_path / "out.jsonl"
    resumed(client, out, ["a", "b"])
    before = out.read_bytes()
    with pytest.raises(Conflict, match=words) as caught:
        resumed(client, out, rows, **how)
    assert "--restart" in caught.value.message
    assert out.read_bytes() == before
    assert resumed(client, out, rows, restart=True, **how).rows == len(rows)


def test_a_file_of_something_else_is_refused_and_left_as_it_is(client: Client, tmp_path: Path) -> None:
    for content in ("my diary\n", "[1]\n", '{"a": 1}\n'):
        (tmp_path / "out").write_text(content)
        with pytest.raises(Conflict, match="is no reply"):
            resumed(client, tmp_path / "out", ["a"])
        assert (tmp_path / "out").read_text() == content
    source = write_rows(tmp_path / "in.jsonl", {"prompt": "a"})
    with pytest.raises(InvalidRequest, match="is the input itself"):
        client.generate(source, model=TUNED, out=source)
    with pytest.raises(InvalidRequest, match="cannot be written"):
        resumed(client, tmp_path / "no folder" / "out", ["a"])


def test_two_runs_never_write_one_file(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    begun = threading.Event()

    def slow() -> Iterator[str]:
        yield "a"
        begun.set()
        yield "count 2 0.5"

    first = threading.Thread(target=lambda: client.generate(slow(), model=TUNED, out=out))
    first.start()
    assert begun.wait(10)
    try:
        with pytest.raises(Conflict, match="being written by another run"):
            resumed(client, out, ["a"])
    finally:
        first.join()
    assert len(lines(out)) == 2


def test_a_full_disk_says_how_to_go_on(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fileno: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("inhouse.client.replies.SYNC_EVERY_S", 0.0)  # each line meets the full disk
    with monkeypatch.context() as patch:
        patch.setattr("inhouse.client.replies.os.fsync", full)
        with pytest.raises(InhouseError, match="goes on behind the last whole line") as caught:
            resumed(client, tmp_path / "out", ["a"] * 3)
    assert caught.value.code == "disk_full"
    assert resumed(client, tmp_path / "out", ["a"] * 3).rows == 3


def test_what_is_no_file_is_no_place_for_replies(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="no file that a run could take up again"):
        resumed(client, Path("/dev/zero"), ["a"])


def test_a_server_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhouse.client.http._backoff_s", lambda attempt: 0.0)  # its waits do not matter
    with Client("http://127.0.0.1:9", "k") as client, pytest.raises(ServerUnreachable):
        client.generate(["a"], model="m")
