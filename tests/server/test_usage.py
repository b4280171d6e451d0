"""Usage rows: what replies say they cost is what is counted, to the token, whoever asks and however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.server import calls
from inhouse.server.threads import STORE_THREADS, StoreThreads
from inhouse.server.usage import WRITE_EVERY_S, UsageLog
from inhouse.store.db import Database
from inhouse.store.migrations import migrate
from inhouse.store.records import usage as records
from inhouse.store.records.usage import UsageRow

from .house import TUNED, House, engine, house, until

COMPLETIONS = "/v1/organization/usage/completions"
DAY = 86_400


@pytest.fixture
def made(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url=database_url, load_wait_s=5.0) as made, engine(made.db, tmp_path):
        yield made


def asked(made: House, path: str = COMPLETIONS, **params: Any) -> dict[str, Any]:
    reply = made.client(made.admin).get(path, params={"start_time": int(time.time()) - DAY, **params})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def results(made: House, **params: Any) -> list[dict[str, Any]]:
    return [one for bucket in asked(made, **params)["data"] for one in bucket["results"]]


def said_of(reply: httpx2.Response) -> Counter[str]:
    """What a reply says it used."""
    if reply.status_code != 200:
        return Counter()
    if "event-stream" in reply.headers["content-type"]:
        frames = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        told = [frame["usage"] for frame in frames if frame.get("usage")]
        told += [frame["reply"]["usage"] for frame in frames if "reply" in frame]
    else:
        told = [reply.json()["usage"]]
    return Counter(
        {"in": sum(u["prompt_tokens"] for u in told), "out": sum(u["completion_tokens"] for u in told)}
    )


def ask(made: House, key: str, model: str, number: int) -> httpx2.Response:
    """One of many kinds of request."""
    words = " ".join(["word"] * (number % 7 + 1))
    chat: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": words}]}
    streamed = chat | {"stream": True, "stream_options": {"include_usage": True}}
    fault = chat | {"messages": [{"role": "user", "content": "fault 400 invalid_value"}]}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", streamed),
        ("/v1/chat/completions", chat | {"n": 3, "max_tokens": 2}),
        ("/v1/chat/completions", fault),
        ("/v1/completions", {"model": model, "prompt": [words, "another one"], "max_tokens": 3}),
    ]
    path, body = kinds[number % len(kinds)]
    with httpx2.Client(base_url=made.url, timeout=30, trust_env=False) as client:
        return client.post(path, json=body, headers={"authorization": f"Bearer {key}"})


def sums(found: list[dict[str, Any]], *by: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    told: dict[tuple[Any, ...], tuple[int, int]] = {}
    for one in found:
        who = tuple(one[name] for name in by)
        before = told.get(who, (0, 0))
        told[who] = (before[0] + one["input_tokens"], before[1] + one["output_tokens"])
    return told


def test_what_is_counted_is_what_the_replies_said_by_project_key_and_model(made: House) -> None:
    with made.db.read() as conn:
        names = records.key_names(conn)
    ids = {name: id for id, name in names.items() if list(names.values()).count(name) == 1}
    work = [
        (key, model, number)
        for number in range(10)
        for key, model in (
            (made.admin, "seedling"),
            (made.admin, TUNED),
            (made.member, "seedling"),
            (made.stranger, "seedling"),
        )
    ]
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda one: ask(made, *one), work))
    expected: dict[tuple[str, str], Counter[str]] = {}
    for (key, model, _), reply in zip(work, replies, strict=True):
        expected.setdefault((key, model), Counter()).update(said_of(reply))
    assert all(count["in"] > 0 and count["out"] > 0 for count in expected.values())

    def total(*who: tuple[str, str]) -> tuple[int, int]:
        return sum(expected[one]["in"] for one in who), sum(expected[one]["out"] for one in who)

    mine, tuned = (made.admin, "seedling"), (made.admin, TUNED)
    members, strangers = (made.member, "seedling"), (made.stranger, "seedling")
    assert sums(results(made)) == {(): total(mine, tuned, members, strangers)}
    by_model = sums(results(made, **{"group_by[]": "model"}), "model")
    assert by_model == {("seedling",): total(mine, members, strangers), (TUNED,): total(tuned)}
    by_project = sums(results(made, group_by=["project_id"]), "project_id")
    assert by_project["default",] == total(mine, tuned, members) and len(by_project) == 2
    by_key = sums(results(made, group_by=["api_key_id", "model"]), "api_key_id", "model")
    assert by_key[ids["admin"], TUNED] == total(tuned)
    assert len(by_key) == 4
    only = results(made, project_ids=["default"], models=[TUNED], **{"api_key_ids[]": [ids["admin"]]})
    assert sums(only) == {(): total(tuned)}


def test_rows_that_share_a_request_are_counted_one_by_one(made: House) -> None:
    rows = [
        {"model": "seedling", "messages": [{"role": "user", "content": c}]} for c in ("a", "b c", "cached 2")
    ]
    body = b"\n".join(json.dumps(row).encode() for row in rows)
    reply = made.client().post("/v1/x/rows", content=body, headers={"content-type": "application/jsonl"})
    (told,) = results(made)
    assert (told["input_tokens"], told["output_tokens"]) == tuple(
        said_of(reply)[name] for name in ("in", "out")
    )
    assert told["num_model_requests"] == 3
    assert told["input_cached_tokens"] == 2


def test_what_was_made_before_a_caller_left_is_counted(made: House) -> None:
    body = {"model": "seedling", "messages": [{"role": "user", "content": "count 200 0.02"}], "stream": True}
    heard = 0
    with made.client().stream("POST", "/v1/chat/completions", json=body) as reply:
        for line in reply.iter_lines():
            heard += '"content":"' in line and '"content":""' not in line
            if heard == 5:
                break
    (told,) = until(lambda: results(made), "the row is written")
    assert 5 <= told["output_tokens"] < 200


def test_a_page_holds_whole_days_and_says_where_the_next_begins(made: House) -> None:
    today = time.time() // DAY * DAY
    with made.db.write() as conn:
        rows = [UsageRow("default", "k", "m", f"r{i}", 1, 2, today - i * DAY + 1) for i in range(5)]
        records.add_many(conn, rows)
    first = asked(made, start_time=int(today - 4 * DAY), limit=2)
    assert [b["start_time"] for b in first["data"]] == [today - 4 * DAY, today - 3 * DAY]
    assert all(b["end_time"] - b["start_time"] == DAY for b in first["data"])
    assert (first["object"], first["has_more"], first["next_page"]) == (
        "page",
        True,
        str(int(today - 2 * DAY)),
    )
    seen, page = [], None
    while True:
        told = asked(made, start_time=int(today - 4 * DAY), limit=2, **({"page": page} if page else {}))
        seen += [one["num_model_requests"] for b in told["data"] for one in b["results"]]
        if not told["has_more"]:
            break
        page = told["next_page"]
    assert seen == [1] * 5
    hours = asked(made, start_time=int(today), end_time=int(today + 7200), bucket_width="1h")
    assert [len(b["results"]) for b in hours["data"]] == [1, 0]
    cut = asked(made, start_time=int(today) + 2, end_time=int(today + DAY))
    assert [b["results"] for b in cut["data"]] == [[]]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"bucket_width": "1w"}, "bucket_width"),
        ({"group_by": "user_id"}, "group_by"),
        ({"limit": "0"}, "limit"),
        ({"limit": "32"}, "limit"),
        ({"start_time": "-1"}, "start_time"),
        ({"end_time": "9" * 30}, "end_time"),
        ({"page": "x"}, "page"),
        ({"batch": "true"}, "batch"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(made: House, params: dict[str, str], param: str) -> None:
    reply = made.client(made.admin).get(COMPLETIONS, params={"start_time": "0", **params})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_embeddings_are_counted_apart(made: House) -> None:
    with made.db.write() as conn:
        records.add_many(conn, [UsageRow("default", "k", "m", "r", 7, 0, time.time(), kind="embeddings")])
    assert results(made) == []
    page = asked(made, "/v1/organization/usage/embeddings")
    (told,) = [one for bucket in page["data"] for one in bucket["results"]]
    assert (told["object"], told["input_tokens"]) == ("organization.usage.embeddings.result", 7)


def test_control_a_log_that_forgets_a_row_is_seen(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    append, seen = UsageLog.append, []

    def forgetful(self: UsageLog, row: UsageRow) -> None:
        seen.append(row)
        if len(seen) != 2:
            append(self, row)

    monkeypatch.setattr(UsageLog, "append", forgetful)
    said: Counter[str] = Counter()
    for number in range(3):
        said.update(said_of(ask(made, made.member, "seedling", number)))
    assert sums(results(made)) != {(): (said["in"], said["out"])}
    assert calls.UsageRow is UsageRow


def test_a_stop_while_rows_wait_for_a_thread_loses_none_and_counts_none_twice(tmp_path: Path) -> None:
    """Cut off before a thread had the rows, and cut off while one wrote them."""
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")
    migrate(db)

    async def stopped(busy_threads: int) -> None:
        store = StoreThreads(db)
        log = UsageLog(store)
        go = threading.Event()
        busy = [asyncio.create_task(store.run(go.wait)) for _ in range(busy_threads)]
        run = asyncio.create_task(log.run())
        log.append(UsageRow("p", "k", "m", "r", 5, 5, time.time()))
        with db.write() if busy_threads < STORE_THREADS else contextlib.nullcontext():
            await asyncio.sleep(WRITE_EVERY_S + 0.3)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        go.set()
        await log.flush()
        await asyncio.gather(*busy)
        assert log.waiting == 0
        store.close()

    for number, busy_threads in enumerate((STORE_THREADS, 0), 1):
        asyncio.run(stopped(busy_threads))
        with db.read() as conn:
            assert records.total(conn, "p", 0).requests == number
    db.dispose()
