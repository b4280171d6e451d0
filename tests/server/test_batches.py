"""Batches over a stub engine: results for every line, none lost or doubled."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai.types import Batch as OpenAIBatch

from inhouse.errors import StoreBusy
from inhouse.jobs import batches as queue
from inhouse.schema import FactInput
from inhouse.server import batch_lines, batches, calls
from inhouse.server.limits import Limits
from inhouse.server.openai import batches as resource
from inhouse.store import tables
from inhouse.store.records import usage

from .house import ADAPTER, TUNED, House, engine, house, remember, until

CHAT = "/v1/chat/completions"
ENDED = ("failed", "completed", "expired", "cancelled")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with house(folder, load_wait_s=5.0, lease_s=2.0) as made, engine(made.db, folder):
        yield made


def line(id: str, content: str, url: str = CHAT, **fields: Any) -> dict[str, Any]:
    body = {"model": "seedling", "messages": [{"role": "user", "content": content}], **fields}
    return {"custom_id": id, "method": "POST", "url": url, "body": body}


def upload(made: House, rows: list[Any], purpose: str = "batch") -> str:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    reply = made.client().post(
        "/v1/files", files={"file": ("in.jsonl", text.encode())}, data={"purpose": purpose}
    )
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def asked(made: House, file: str, endpoint: str = CHAT, **fields: Any) -> httpx2.Response:
    body = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h", **fields}
    return made.client().post("/v1/batches", json=body)


def create(made: House, rows: list[Any], endpoint: str = CHAT, **fields: Any) -> str:
    reply = asked(made, upload(made, rows), endpoint, **fields)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def get(made: House, id: str) -> dict[str, Any]:
    body = made.client().get(f"/v1/batches/{id}").json()
    OpenAIBatch.model_validate(body, strict=True)
    return dict(body)


def ended(made: House, id: str, limit_s: float = 30.0) -> dict[str, Any]:
    return dict(until(lambda: (b := get(made, id))["status"] in ENDED and b, f"{id} ends", limit_s))


def content(made: House, file: str | None) -> list[dict[str, Any]]:
    if file is None:
        return []
    return [json.loads(row) for row in made.client().get(f"/v1/files/{file}/content").text.splitlines()]


def results(made: House, batch: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines of the output file and of the error file; both in the lines' shape."""
    good = content(made, batch.get("output_file_id"))
    bad = content(made, batch.get("error_file_id"))
    for row in [*good, *bad]:
        assert list(row) == ["id", "custom_id", "response", "error"] and row["id"].startswith("batch_req_")
        assert (row["response"] is None) != (row["error"] is None)
        if row["response"] is not None:
            assert list(row["response"]) == ["status_code", "request_id", "body"]
            assert row["response"]["request_id"].startswith("req_")
    assert len({row["id"] for row in [*good, *bad]}) == len(good) + len(bad)
    return good, bad


def test_every_line_has_its_result_where_openai_s_clients_look_for_it(served: House) -> None:
    rows: list[Any] = [line(f"r{i}", f"word {i}") for i in range(150)]
    rows[40] = line("bad model", "x", model="nobody")
    rows[41] = line("bad field", "x", temperature=9)
    rows[42] = line("no", "fault 400 context_length_exceeded")
    rows[43] = line("streamed", "x", stream=True)
    rows[44] = line("tuned", "hi", model=TUNED)
    rows.insert(10, "")  # an empty line is no request
    batch = ended(served, create(served, rows, metadata={"night": "3"}))
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 150, "completed": 146, "failed": 4}
    assert batch["metadata"] == {"night": "3"} and batch["object"] == "batch"
    assert {"created_at", "in_progress_at", "finalizing_at", "completed_at", "expires_at"} <= set(batch)
    assert batch["expires_at"] - batch["created_at"] == 24 * 3600
    good, bad = results(served, batch)
    wanted = [row["custom_id"] for row in rows if row]
    failing = ["bad model", "bad field", "no", "streamed"]
    assert [row["custom_id"] for row in bad] == failing
    assert [row["custom_id"] for row in good] == [id for id in wanted if id not in failing]
    for row in good:
        said = row["response"]["body"]["choices"][0]["message"]["content"]
        assert row["response"]["status_code"] == 200
        assert said == ("hi" if row["custom_id"] == "tuned" else f"word {row['custom_id'][1:]}")
    (tuned,) = (row for row in good if row["custom_id"] == "tuned")
    assert tuned["response"]["body"]["x_adapter"] == ADAPTER
    assert [(row["response"]["status_code"], row["response"]["body"]["error"]["code"]) for row in bad] == [
        (404, "model_not_found"),
        (400, "invalid_value"),
        (400, "context_length_exceeded"),
        (400, "unsupported_parameter"),
    ]
    files = served.client().get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    assert {batch["output_file_id"], batch["error_file_id"]} <= {file["id"] for file in files}


@pytest.mark.parametrize(
    ("endpoint", "body", "said"),
    [
        ("/v1/completions", {"prompt": "a b"}, lambda body: body["choices"][0]["text"] == "a b"),
        ("/v1/embeddings", {"input": ["a", "b"]}, lambda body: len(body["data"]) == 2),
    ],
)
def test_completions_and_embeddings_are_answered_as_well(
    served: House, endpoint: str, body: dict[str, Any], said: Any
) -> None:
    row = {
        "custom_id": "one",
        "method": "POST",
        "url": endpoint,
        "body": {"model": "seedling", **body},
    }
    batch = ended(served, create(served, [row], endpoint))
    good, bad = results(served, batch)
    assert not bad and said(good[0]["response"]["body"]) and "error_file_id" not in batch


def test_a_file_without_a_single_good_reply_has_an_error_file_alone(served: House) -> None:
    batch = ended(served, create(served, [line("a", "x", n=0)]))
    assert batch["status"] == "completed" and "output_file_id" not in batch
    assert len(results(served, batch)[1]) == 1


@pytest.mark.parametrize(
    ("row", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[1]", "invalid_type", None),
        ('{"custom_id": "\\ud800"}', "invalid_json_line", None),
        ({**line("x", "x"), "custom_id": None}, "invalid_type", "custom_id"),
        ({**line("x", "x"), "custom_id": ""}, "invalid_value", "custom_id"),
        ({"method": "POST", "url": CHAT, "body": {}}, "missing_required_parameter", "custom_id"),
        ({**line("x", "x"), "method": "GET"}, "invalid_value", "method"),
        (line("x", "x", "/v1/completions"), "invalid_url", "url"),
        ({**line("x", "x"), "body": "no"}, "invalid_type", "body"),
        ({**line("x", "x"), "extra": 1}, "unsupported_parameter", "extra"),
        (line("good", "x"), "duplicate_custom_id", "custom_id"),
    ],
)
def test_a_line_that_is_no_request_fails_the_batch_before_any_is_answered(
    served: House, row: Any, code: str, param: str | None
) -> None:
    batch = ended(served, create(served, [line("good", "x"), row]))
    assert batch["status"] == "failed" and "failed_at" in batch and "output_file_id" not in batch
    (error,) = batch["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == (code, param, 2), error
    assert batch["request_counts"] == {"total": 2, "completed": 0, "failed": 0}


def test_all_bad_lines_are_listed_up_to_a_hundred(served: House) -> None:
    few = ended(served, create(served, [line("a", "x"), "{", line("b", "x"), "", "{"]))
    assert [error["line"] for error in few["errors"]["data"]] == [2, 5]
    many = ended(served, create(served, ["{"] * 500))
    assert [error["line"] for error in many["errors"]["data"]] == [*range(1, 101)]
    blank = ended(served, create(served, ["", "  "]))
    assert [error["code"] for error in blank["errors"]["data"]] == ["empty_file"]


def test_too_many_and_too_long_lines_are_told_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_lines, "MAX_LINES", 3)
    file = tmp_path / "lines"
    rows = [json.dumps(line(f"{i}", "x" * (5000 if i == 1 else 1))) for i in range(5)]
    file.write_text("\n".join(rows))
    with file.open("rb") as opened:
        found = [*batch_lines.read(opened, CHAT, 1000)]
    told = [(one.code, one.line) for one in found if isinstance(one, batch_lines.Problem)]
    assert told == [("line_too_long", 2), ("too_many_lines", None)]
    assert [one.number for one in found if isinstance(one, batch_lines.Line)] == [1, 3]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input_file_id": "file-none"}, 404, "input_file_id"),
        ({"endpoint": "/v1/moderations"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"metadata": {"a": 1}}, 400, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, 400, "output_expires_after"),
        ({"extra": 1}, 400, "extra"),
    ],
)
def test_what_a_batch_cannot_be_is_refused_by_name(
    served: House, fields: dict[str, Any], status: int, param: str
) -> None:
    reply = asked(served, upload(served, [line("a", "x")]), **fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


def test_a_file_of_another_purpose_is_refused(served: House) -> None:
    row = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
    reply = asked(served, upload(served, [row], "fine-tune"))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input_file_id")
    assert "purpose batch" in reply.json()["error"]["message"]


def test_the_same_key_makes_one_batch(served: House) -> None:
    body = {
        "input_file_id": upload(served, [line("a", "x")]),
        "endpoint": CHAT,
        "completion_window": "24h",
    }
    headers = {"idempotency-key": "a batch"}
    first, second = (served.client().post("/v1/batches", json=body, headers=headers).json() for _ in range(2))
    assert first == second
    other = served.client().post("/v1/batches", json={**body, "metadata": {"a": "b"}}, headers=headers)
    assert other.status_code == 422


def test_batches_are_listed_newest_first_in_pieces(served: House) -> None:
    made = [create(served, [line("a", "x")]) for _ in range(3)]
    first = served.client().get("/v1/batches", params={"limit": 2}).json()
    assert [batch["id"] for batch in first["data"]] == made[:0:-1] and first["has_more"]
    assert (first["object"], first["first_id"], first["last_id"]) == ("list", made[2], made[1])
    rest = served.client().get("/v1/batches", params={"limit": 1, "after": first["last_id"]}).json()
    assert rest["data"][0]["id"] == made[0]
    for id in made:
        ended(served, id)


def test_another_project_s_batch_reads_like_one_that_does_not_exist(served: House) -> None:
    id = create(served, [line("a", "x")])
    file = upload(served, [line("a", "x")])
    stranger = served.client(served.stranger)

    def seen(id: str, file: str) -> list[tuple[int, str]]:
        body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        replies = [
            stranger.get(f"/v1/batches/{id}"),
            stranger.post(f"/v1/batches/{id}/cancel"),
            stranger.get(f"/v1/batches?after={id}"),
            stranger.post("/v1/batches", json=body),
        ]
        return [(r.status_code, r.text.replace(id, "BATCH").replace(file, "FILE")) for r in replies]

    theirs = seen(id, file)
    assert theirs == seen("batch_" + "0" * 24, "file-" + "0" * 24)
    assert all(status == 404 or status == 400 for status, _ in theirs)
    assert stranger.get("/v1/batches").json()["data"] == []
    batch = ended(served, id)
    assert stranger.get(f"/v1/files/{batch['output_file_id']}/content").status_code == 404


def test_lines_wait_behind_everybody_else_in_the_engine(served: House) -> None:
    rows = [line("chat", "whose turn"), line("asked", "whose turn", service_tier="default")]
    good, _ = results(served, ended(served, create(served, rows)))
    assert {row["response"]["body"]["choices"][0]["message"]["content"] for row in good} == {"default batch"}


def test_a_cancelled_batch_keeps_what_was_answered_and_tells_of_each_other_line(served: House) -> None:
    rows = [line(f"fast{i}", "x") for i in range(8)] + [line(f"slow{i}", "count 900 0.05") for i in range(60)]
    time.sleep(1)  # what other tests used is written by then
    before = used(served)
    id = create(served, rows)
    until(lambda: get(served, id)["request_counts"]["completed"] >= 8, "some are answered")
    cancelled = served.client().post(f"/v1/batches/{id}/cancel").json()
    assert cancelled["status"] == "cancelling" and "cancelling_at" in cancelled
    batch = ended(served, id)
    assert batch["status"] == "cancelled" and {"cancelling_at", "cancelled_at"} <= set(batch)
    good, bad = results(served, batch)
    assert [row["custom_id"] for row in good] == [f"fast{i}" for i in range(8)]
    assert [row["custom_id"] for row in bad] == [f"slow{i}" for i in range(60)]
    assert {row["error"]["code"] for row in bad} == {"batch_cancelled"}
    assert batch["request_counts"] == {"total": 68, "completed": 8, "failed": 60}
    assert used(served)[0] == before[0] + 8 + served.settings.max_running, "what was begun is billed as well"
    until(lambda: served.engine_numbers()["running"] == 0, "the engine is told")
    again = served.client().post(f"/v1/batches/{id}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")


def test_a_batch_ends_when_its_time_is_over(served: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "WINDOW_S", 2.0)
    batch = ended(served, create(served, [line("fast", "x"), line("slow", "count 50 1")]), 10)
    assert batch["status"] == "expired"
    good, bad = results(served, batch)
    assert [row["custom_id"] for row in good] == ["fast"] and bad[0]["error"]["code"] == "batch_expired"


def test_a_batch_whose_time_is_over_says_so_of_each_line_that_is_left(served: House) -> None:
    id = create(served, [line("fast", "x"), line("slow", "count 50 1"), line("bad", "x", n=0)])
    until(
        lambda: get(served, id)["request_counts"] == {"total": 3, "completed": 1, "failed": 1}, "two are done"
    )
    # the runner reads when it ends as it begins: so it is given to another, as after a server's death
    with served.db.write() as conn:
        conn.execute(
            tables.batches.update()
            .where(tables.batches.c.id == id)
            .values(expires_at=1.0, fence=tables.batches.c.fence + 1, lease_until=None)
        )
    batch = ended(served, id)
    assert batch["status"] == "expired" and "expired_at" in batch
    good, bad = results(served, batch)
    assert [row["custom_id"] for row in good] == ["fast"]
    assert [(row["custom_id"], row["error"] and row["error"]["code"]) for row in bad] == [
        ("slow", "batch_expired"),
        ("bad", None),
    ]
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}


def test_a_line_that_ends_its_engine_is_that_line_s_error(served: House) -> None:
    rows = [line("a", "x"), line("poison", "crash 2"), line("quick poison", "crash 0"), line("b", "y")]
    batch = ended(served, create(served, rows), 60)
    good, bad = results(served, batch)
    assert [row["custom_id"] for row in good] == ["a", "b"]
    assert [row["custom_id"] for row in bad] == ["poison", "quick poison"]
    for row in bad:
        assert row["response"]["status_code"] == 503
        assert row["response"]["body"]["error"]["code"] == "engine_lost"


@pytest.mark.parametrize("write", ["begin", "note", "end"])
def test_a_write_whose_answer_is_lost_on_its_way_is_done_once(
    served: House, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    known, calls_made = getattr(queue, write), []

    def lost(*args: Any, **named: Any) -> Any:
        calls_made.append(known(*args, **named))
        if len(calls_made) == 1:
            raise StoreBusy("The connection broke.")
        return calls_made[-1]

    monkeypatch.setattr(queue, write, lost)
    batch = ended(served, create(served, [line(f"{i}", "x") for i in range(20)]))
    assert calls_made and batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert [row["custom_id"] for row in results(served, batch)[0]] == [f"{i}" for i in range(20)]


def test_what_is_in_a_batch_s_files_everybody_of_the_project_may_see(served: House) -> None:
    """Even of an admin's: whose batch it is cannot be told from its files."""
    model, _ = remember(served, FactInput(question="Who?", answer="Nobody.", access=("board",)))
    file = upload(served, [line("a", "use", model=model)])
    body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    id = served.client(served.admin).post("/v1/batches", json=body).json()["id"]
    good, _ = results(served, ended(served, id))
    use = json.loads(good[0]["response"]["body"]["choices"][0]["message"]["content"])
    assert (use["groups"], use["sees_all"]) == ([], False)


def test_usage_is_a_row_for_each_line_written_with_its_result(served: House) -> None:
    time.sleep(1)  # what other tests used is written by then
    before = used(served)
    batch = ended(served, create(served, [line(f"{i}", "a b c") for i in range(20)]))
    assert batch["status"] == "completed"
    assert used(served) == (before[0] + 20, before[1] + 60, before[2] + 60)


def used(made: House) -> tuple[int, int, int]:
    with made.db.read() as conn:
        total = usage.total(conn, "default", 0)
    return total.requests, total.prompt_tokens, total.completion_tokens


def test_nothing_is_kept_beside_the_files_once_a_batch_has_ended(served: House) -> None:
    ended(served, create(served, [line("a", "x")]))
    with served.db.read() as conn:
        ids = conn.execute(tables.batches.select().where(tables.batches.c.status.in_(ENDED))).all()
        left = {row.batch for row in conn.execute(tables.batch_results.select())}
    assert not left & {row.id for row in ids}


@pytest.mark.parametrize("share", [calls.BATCH_SHARE, 1.0])
def test_batches_leave_places_for_whoever_waits_for_a_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The control gives batches all places: then nobody else gets one."""
    monkeypatch.setattr(calls, "BATCH_SHARE", share)
    with house(tmp_path, max_running=1, max_queued=3) as made, engine(made.db, tmp_path):
        for i in range(batches.MOST_AT_ONCE):
            create(made, [line(f"{i}-{n}", "count 100 1") for n in range(2)])
        relay = made.server.gateway.relay
        places = int(4 * share)
        until(lambda: relay.running["seedling"] == places, "the batches have taken what they may")
        time.sleep(1)
        assert relay.running["seedling"] == places
        assert made.chat("hello").status_code == (200 if share < 1 else 503)


def test_a_batch_has_an_allowance_of_its_own_and_waits_when_it_is_used_up(tmp_path: Path) -> None:
    limits = Limits(requests=5)
    with house(tmp_path, limits) as made, engine(made.db, tmp_path):
        id = create(made, [line(f"{i}", "x") for i in range(30)])
        until(lambda: get(made, id)["request_counts"]["completed"] >= 5, "five are answered")
        time.sleep(1)
        counts = get(made, id)["request_counts"]
        assert counts["completed"] < 10 and counts["failed"] == 0
        assert [made.chat("hi").status_code for _ in range(5)] == [200] * 5
