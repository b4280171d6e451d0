"""SIGTERM under load, twice, and SIGKILL: streams end in words, and nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.server.listener import Listener
from inhouse.store.db import Database
from tests.server.house import House, engine, house, until
from tests.server.test_main import Process, ask, ended, started, told


def stream_under_sigterm(
    tmp_path: Path, content: str, drain_s: str, signals: int = 1
) -> tuple[str, int, float]:
    """What a running stream still says after SIGTERM, the server's exit code, and how long it took."""
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")
    with started(tmp_path, "--drain-s", drain_s) as process:
        at = told(tmp_path, process)
        headers = {"authorization": f"Bearer {at['key']}"}
        body = {"model": "seedling", "stream": True, "messages": [{"role": "user", "content": content}]}
        text = ""
        with (
            engine(db, tmp_path),
            httpx2.Client(timeout=30, trust_env=False) as client,
            client.stream("POST", f"{at['url']}/v1/chat/completions", json=body, headers=headers) as reply,
        ):
            with contextlib.suppress(httpx2.HTTPError):
                for i, piece in enumerate(reply.iter_text()):
                    text += piece
                    if i == 2:
                        asked = time.monotonic()
                        process.send_signal(signal.SIGTERM)
                        until(lambda: not is_ready(at), "readiness goes off")
                        if signals == 1:
                            refused = ask(at, "hi")
                            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
                        else:
                            process.send_signal(signal.SIGTERM)
            code, _, err = ended(process)
            assert "Traceback" not in err
        db.dispose()
        return text, code, time.monotonic() - asked


def is_ready(at: dict[str, Any]) -> bool:
    try:
        return bool(httpx2.get(f"{at['url']}/ready", trust_env=False).is_success)
    except httpx2.HTTPError:
        return False


def test_after_sigterm_a_stream_ends_by_itself_and_new_work_is_refused(tmp_path: Path) -> None:
    """Fault 35: readiness goes off, new work is refused, what runs runs to its end, exit 0."""
    text, code, _ = stream_under_sigterm(tmp_path, "count 30 0.05", "20")
    assert code == 0
    assert '"29 "' in text and text.endswith("data: [DONE]\n\n")


def test_a_stream_that_outlasts_the_grace_ends_with_a_terminal_error(tmp_path: Path) -> None:
    """Fault 35: the stream is told why it ends."""
    text, code, _ = stream_under_sigterm(tmp_path, "count 1000 0.05", "0.5")
    assert code == 0
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "draining"


def test_control_a_second_sigterm_waits_for_nobody(tmp_path: Path) -> None:
    """Fault 36, and the control of 35: cut off, the stream ends without a word; exit 0 all the same."""
    text, code, took = stream_under_sigterm(tmp_path, "count 1000 0.05", "20", signals=2)
    assert code == 0
    assert "error" not in text and "[DONE]" not in text
    assert took < 10


def all_under_sigterm(made: House, words: list[int], began: threading.Barrier) -> list[str]:
    """What so many streams are told, of so many words each, when the server is told to end among them."""

    def listen(count: int) -> str:
        asked = {"model": "seedling", "stream": True}
        asked["messages"] = [{"role": "user", "content": f"count {count} 0.05"}]  # type: ignore[assignment]
        headers, text = {"authorization": f"Bearer {made.member}"}, ""
        with (
            httpx2.Client(base_url=made.url, headers=headers, timeout=30, trust_env=False) as client,
            contextlib.suppress(httpx2.HTTPError),
            client.stream("POST", "/v1/chat/completions", json=asked) as reply,
        ):
            for i, piece in enumerate(reply.iter_text()):
                text += piece
                if i == 1:
                    began.wait(20)
        return text

    with ThreadPoolExecutor(len(words)) as threads:
        streams = [threads.submit(listen, count) for count in words]
        began.wait(20)
        made.server.handle_exit()
        return [stream.result(30) for stream in streams]


def endings(texts: list[str]) -> list[str]:
    """How each stream ended: done, the code of its error, or cut."""
    found = []
    for text in texts:
        last = text.strip().split("\n\n")[-1].removeprefix("data: ")
        found.append(
            "done" if last == "[DONE]" else json.loads(last)["error"]["code"] if '"error"' in last else "cut"
        )
    return found


@pytest.mark.parametrize("guarded", [True, False])
def test_sigterm_among_many_streams_cuts_none_of_them(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 35: short ones end by themselves, long ones with a terminal event. The control: the server just stops."""
    if not guarded:

        async def stop(self: Listener) -> None:
            self.should_exit = True

        monkeypatch.setattr(Listener, "_drain_and_exit", stop)
    words = [12] * 6 + [1000] * 6
    with house(tmp_path, drain_s=1.5) as made, engine(made.db, tmp_path):
        began = time.monotonic()
        found = endings(all_under_sigterm(made, words, threading.Barrier(len(words) + 1)))
        until(lambda: not made.server.gateway.work.active, "nothing runs any more", 10)
        assert time.monotonic() - began < 20
    assert (found == ["done"] * 6 + ["draining"] * 6) == guarded
    if not guarded:
        assert "cut" in found


def test_sigkill_under_load_leaves_a_folder_that_serves_again_with_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    """Fault 36: killed among uploads and streams; the database is whole and every acknowledged file is there."""
    acknowledged: list[str] = []
    db = Database(f"sqlite:///{tmp_path / 'inhouse.db'}")
    with started(tmp_path) as process, engine_later(db, tmp_path, process) as at:
        headers = {"authorization": f"Bearer {at['key']}"}

        def upload(writer: int) -> None:
            with (
                contextlib.suppress(httpx2.HTTPError),
                httpx2.Client(base_url=at["url"], headers=headers, timeout=10, trust_env=False) as client,
            ):
                for i in range(10_000):
                    rows = f'{{"input": "{writer} {i}", "output": "b"}}\n'.encode()
                    sent = {"file": (f"{i}.jsonl", rows)}
                    reply = client.post("/v1/files", data={"purpose": "fine-tune"}, files=sent)
                    acknowledged.append(reply.json()["id"])

        with ThreadPoolExecutor(4) as threads:
            for writer in range(4):
                threads.submit(upload, writer)
            threads.submit(ask, at, "count 1000 0.01")
            until(lambda: len(acknowledged) > 40, "files are uploaded", 30)
            process.kill()
    db.dispose()
    with contextlib.closing(sqlite3.connect(tmp_path / "inhouse.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with started(tmp_path) as process:
        at = told(tmp_path, process)
        headers = {"authorization": f"Bearer {at['key']}"}
        with httpx2.Client(base_url=at["url"], headers=headers, timeout=10, trust_env=False) as client:
            assert all(client.get(f"/v1/files/{file}/content").status_code == 200 for file in acknowledged)
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


@contextlib.contextmanager
def engine_later(db: Database, folder: Path, process: Process) -> Iterator[dict[str, Any]]:
    """Where the server is, once it has made its database, with an engine for it."""
    at = told(folder, process)
    with engine(db, folder):
        yield at
