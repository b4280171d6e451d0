"""After a fact is forgotten, no file of the data folder holds its words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inhouse.schema import FactInput
from inhouse.server import memory
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import facts, forgetting

from .house import House, house, remember, serve_again, until

CANARY = "zebra-canary"
"""In the question, in both answers and in the wording of what is forgotten."""


def holding(folder: Path, word: str) -> list[str]:
    """Every file below the folder whose bytes hold the word."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(folder)) for path in files if word.encode() in path.read_bytes())


def live(made: House) -> tuple[str, str, str]:
    """A memory whose fact went through upload, idempotency keys, edits and history: model, fact, file."""
    client = made.client()
    lines = [
        {"question": f"What is {CANARY}?", "answer": f"{CANARY} one"},
        {"question": "What is the kept-canary?", "answer": "kept-canary too"},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    uploads = [
        client.post(
            "/v1/files",
            data={"purpose": "fine-tune"},
            files={"file": (name, content)},
            headers={"idempotency-key": f"upload {name}"},
        ).json()["id"]
        for name in ("facts.jsonl", "facts-again.jsonl")
    ]
    model, (fact, _) = remember(made, *(FactInput(**line) for line in lines), files=(uploads[0],))
    body = {"model": model, "question": "Another?", "answer": f"{CANARY} added"}
    added = client.post("/v1/facts", json=body, headers={"idempotency-key": "add"}).json()
    for i in range(30):
        changes = {"answer": f"{CANARY} {'x' * (i * 40)}", "wordings": [f"the {CANARY} {i}"]}
        headers = {"idempotency-key": f"edit {i}"}
        assert client.post(f"/v1/facts/{fact.id}", json=changes, headers=headers).status_code == 200
    assert client.delete(f"/v1/facts/{added['id']}").json()["x_files_deleted"] == []
    assert client.post("/v1/facts", json=body, headers={"idempotency-key": "add"}).status_code == 404
    return model, fact.id, uploads[0]


def test_no_file_of_the_data_folder_holds_what_was_forgotten(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        model, fact, _ = live(made)
        found = holding(tmp_path, CANARY)
        assert any("artifacts" in name for name in found), "control: the upload is found"
        assert any("inhouse.db" in name for name in found), "control: the rows are found"
        reply = made.client().delete(f"/v1/facts/{fact}").json()
        assert (reply["id"], reply["object"], reply["deleted"]) == (fact, "fact", True)
        assert len(reply["x_files_deleted"]) == 2, "the same content, uploaded twice"
        assert reply["x_cleared"] is True
        assert holding(tmp_path, CANARY) == []
        assert made.client().get(f"/v1/files/{reply['x_files_deleted'][0]}").status_code == 404
        assert made.client().get(f"/v1/facts/{fact}").status_code == 404
        (line, *before) = made.client().get(f"/v1/facts/{fact}/history?limit=100").json()["data"]
        assert (line["action"], line["author"], line["fact_then"]) == ("forget", "member", None)
        assert len(before) == 31 and all(one["fact_then"] is None for one in before)
        kept = made.client().get("/v1/facts", params={"model": model}).json()["data"]
        assert [one["answer"] for one in kept] == ["kept-canary too"]
        assert holding(tmp_path, "kept-canary") != []
    assert holding(tmp_path, CANARY) == []


def test_no_file_of_the_data_folder_holds_the_facts_of_a_memory_that_was_deleted(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        model, _, file = live(made)
        assert holding(tmp_path, "kept-canary") != []
        reply = made.client().delete(f"/v1/models/{model}").json()
        assert (reply["id"], reply["deleted"]) == (model, True)
        assert file in reply["x_files_deleted"] and reply["x_cleared"] is True
        assert holding(tmp_path, CANARY) == [] and holding(tmp_path, "kept-canary") == []
        assert made.client().get(f"/v1/models/{model}").status_code == 404
        assert made.client().get("/v1/facts", params={"model": model}).status_code == 404


def leaves_behind(tmp_path: Path) -> list[str]:
    with house(tmp_path) as made:
        _, fact, _ = live(made)
        made.client().delete(f"/v1/facts/{fact}")
        return holding(tmp_path, CANARY)


@pytest.mark.parametrize("guard", ["scrub", "artifacts", "replies"])
def test_control_each_step_of_the_clearing_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    without: dict[str, Callable[[], None]] = {
        "scrub": lambda: monkeypatch.setattr(Database, "scrub", lambda *_: True),
        "artifacts": lambda: monkeypatch.setattr(Artifacts, "delete", lambda *_: None),
        "replies": lambda: monkeypatch.setattr(
            "inhouse.store.records.forgetting.scrub_replies", lambda *_: 0
        ),
    }
    if guard == "replies":
        with house(tmp_path) as made:
            client = made.client()
            model, _ = remember(made)
            body: Any = {"model": model, "question": "A?", "answer": CANARY}
            fact = client.post("/v1/facts", json=body, headers={"idempotency-key": "k"}).json()["id"]
            without[guard]()
            client.delete(f"/v1/facts/{fact}")
            assert holding(tmp_path, CANARY) != []
        return
    without[guard]()
    assert leaves_behind(tmp_path) != []


def test_what_could_not_be_cleared_at_once_is_cleared_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.store.db.SCRUB_S", 0.1)  # how long it waits is a size: the test need not
    monkeypatch.setattr(memory, "CLEAR_AGAIN_S", 0.1)
    with house(tmp_path) as made:
        _, fact, _ = live(made)
        with made.db.read() as conn:
            conn.exec_driver_sql("SELECT * FROM facts").all()
            reply = made.client().delete(f"/v1/facts/{fact}").json()
            assert (reply["deleted"], reply["x_cleared"]) == (True, False)
            assert made.client().get(f"/v1/facts/{fact}").status_code == 404
            assert holding(tmp_path, CANARY) != [], "the open reader still sees it"
        until(lambda: holding(tmp_path, CANARY) == [], "it is cleared when the reader has gone")


def test_what_a_server_that_died_left_uncleared_the_next_one_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(memory.Clearing, "_clear", lambda _: False)
        with house(tmp_path) as made:
            _, fact, _ = live(made)
            assert made.client().delete(f"/v1/facts/{fact}").json()["x_cleared"] is False
    assert any("artifacts" in name for name in holding(tmp_path, CANARY))
    with serve_again(tmp_path):
        until(lambda: holding(tmp_path, CANARY) == [], "the next server clears")


def test_what_a_batch_wrote_and_has_not_named_yet_scrubs_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole database would be written anew where nobody forgot anything."""
    scrubbed: list[object] = []
    monkeypatch.setattr(memory, "CLEAR_AGAIN_S", 0.05)  # a size: the test need not wait
    monkeypatch.setattr(Database, "scrub", lambda self, tables: scrubbed.append(tables) or True)
    with house(tmp_path) as made:
        with made.db.write() as conn:
            forgetting.clear_unless_used(conn, "d" * 64)

        def is_cleared() -> bool:
            with made.db.read() as conn:
                return not forgetting.due(conn)

        until(is_cleared, "the content that nobody named is cleared")
        assert scrubbed == []
        _, fact, _ = live(made)
        made.client().delete(f"/v1/facts/{fact}")
        assert scrubbed != [], "the control: a forgetting does"


def test_an_upload_that_comes_while_its_content_is_forgotten_is_never_a_row_without_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'{"question": "A?", "answer": "B"}\n'
    digest = hashlib.sha256(content).hexdigest()
    kept = Artifacts.put_stream

    def forgotten_meanwhile(self: Artifacts, *asked: Any) -> tuple[str, int]:
        found = kept(self, *asked)
        self.delete(digest)
        return found

    with house(tmp_path) as made:
        form: Any = {"data": {"purpose": "fine-tune"}, "files": {"file": ("f.jsonl", content)}}
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Artifacts, "put_stream", forgotten_meanwhile)
            reply = made.client().post("/v1/files", **form)
            assert reply.status_code == 503 and "again" in reply.json()["error"]["message"]
            assert made.client().get("/v1/files").json()["data"] == []
        assert made.client().post("/v1/files", **form).status_code == 200


def test_an_artifact_that_was_uploaded_again_before_its_clearing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'{"question": "A?", "answer": "B"}\n'
    form: Any = {"data": {"purpose": "fine-tune"}, "files": {"file": ("f.jsonl", content)}}
    with house(tmp_path) as made:
        first = made.client().post("/v1/files", **form).json()["id"]
        _, (fact,) = remember(made, FactInput(question="A?", answer="B"), files=(first,))
        with monkeypatch.context() as later:
            later.setattr(memory.Clearing, "_clear", lambda _: False)
            made.client().delete(f"/v1/facts/{fact.id}")
        again = made.client().post("/v1/files", **form).json()["id"]
        _, (other,) = remember(made, FactInput(question="C?", answer="D"))
        assert made.client().delete(f"/v1/facts/{other.id}").json()["x_cleared"] is True
        assert made.client().get(f"/v1/files/{again}/content").content == content
        made.client().delete(f"/v1/files/{again}")


def test_a_forgetting_that_comes_while_another_is_cleared_is_cleared_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrub = Database.scrub
    with house(tmp_path) as made:
        inputs = [
            FactInput(question=f"What is {word}?", answer=word) for word in ("one-canary", "two-canary")
        ]
        _, (one, two) = remember(made, *inputs)

        def forgotten_meanwhile(self: Database, tables: Any) -> bool:
            is_cleared = scrub(self, tables)
            with self.write() as conn:
                facts.forget(conn, two.bank, two.id, author="other", now=1.0)
            return is_cleared

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Database, "scrub", forgotten_meanwhile)
            assert made.client().delete(f"/v1/facts/{one.id}").json()["x_cleared"] is True
        with made.db.read() as conn:
            assert len(forgetting.due(conn)) == 1, "the second is still due"
        assert holding(tmp_path, "two-canary") != []
        _, (third,) = remember(made, FactInput(question="C?", answer="D"))
        assert made.client().delete(f"/v1/facts/{third.id}").json()["x_cleared"] is True
        assert holding(tmp_path, "two-canary") == []
        with made.db.read() as conn:
            assert forgetting.due(conn) == []
