"""Responses that are stored: read again, listed, deleted, walled off, and forgotten with the facts they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inhouse.schema import Fact, FactInput
from inhouse.server import auth
from inhouse.store.records import facts, forgetting, keys
from inhouse.store.records.batch_answers import Outputs

from .house import House, engine, house, remember, until
from .test_batches import create, ended
from .test_batches import line as batch_line
from .test_forgetting import holding
from .test_responses import ask, count, told

CANARY = "zebra-canary"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made, engine(made.db, tmp_path):
        yield made


def get(made: House, id: str, key: str | None = None, path: str = "") -> httpx2.Response:
    return made.client(key).get(f"/v1/responses/{id}{path}")


# ── read, list, delete ────────────────────────────────────────────────────────────────────────────────────


def test_a_stored_response_is_read_again_as_it_was_answered(served: House) -> None:
    whole = ask(served, "one two", metadata={"a": "b"}).json()
    assert get(served, whole["id"]).json() == whole
    streamed = told(ask(served, "one two", stream=True))[-1]["response"]
    assert get(served, streamed["id"]).json() == streamed


def test_what_does_not_exist_and_what_is_another_project_s_read_the_same(served: House) -> None:
    theirs = ask(served, "one", served.stranger).json()["id"]
    gone = ask(served, "one").json()["id"]
    assert served.client().delete(f"/v1/responses/{gone}").json() == {
        "id": gone,
        "object": "response",
        "deleted": True,
    }
    assert get(served, theirs, served.stranger).status_code == 200

    def answers(id: str) -> list[tuple[int, str]]:
        client = served.client()
        replies = [
            client.get(f"/v1/responses/{id}"),
            client.get(f"/v1/responses/{id}/input_items"),
            client.post(f"/v1/responses/{id}/cancel"),
            client.delete(f"/v1/responses/{id}"),
            ask(served, "x", previous_response_id=id),
            ask(served, "x", previous_response_id=id, stream=True),
        ]
        return [(r.status_code, r.text.replace(id, "ID")) for r in replies]

    assert answers(theirs) == answers(gone) == answers("resp_" + "0" * 24)
    assert {status for status, _ in answers(gone)} == {404}
    assert get(served, theirs, served.stranger).status_code == 200, "nothing was deleted"


def test_a_conversation_of_which_a_turn_was_deleted_is_not_gone_on_from(served: House) -> None:
    first = ask(served, "one").json()["id"]
    second = ask(served, "two", previous_response_id=first).json()["id"]
    assert ask(served, "three", previous_response_id=second).status_code == 200
    served.client().delete(f"/v1/responses/{first}")
    reply = ask(served, "three", previous_response_id=second)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (404, "previous_response_id")
    assert first in error["message"]
    assert get(served, second).status_code == 200


def test_items_are_listed_in_pieces_newest_first(served: House) -> None:
    input = [{"role": "user", "content": str(i)} for i in range(5)] + [
        {"role": "user", "content": "last", "id": "msg_mine"}
    ]
    first = ask(served, "before").json()["id"]
    id = ask(served, input, previous_response_id=first).json()["id"]

    def listed(**query: Any) -> Any:
        return served.client().get(f"/v1/responses/{id}/input_items", params=query).json()

    whole = listed()
    texts = [item["content"][0]["text"] for item in whole["data"]]
    assert texts == ["last", "4", "3", "2", "1", "0"] and whole["has_more"] is False
    assert whole["data"][0]["id"] == whole["first_id"] == "msg_mine"
    pieces, after = [], {}
    while True:
        piece = listed(limit=4, order="asc", **after)
        pieces += piece["data"]
        if not piece["has_more"]:
            break
        after = {"after": piece["last_id"]}
    assert pieces == whole["data"][::-1]
    for query in ({"after": "msg_other"}, {"limit": 0}, {"limit": 101}, {"order": "up"}, {"before": "x"}):
        assert listed(**query)["error"]["param"] == next(iter(query))


def test_nothing_that_ran_in_the_foreground_can_be_cancelled(served: House) -> None:
    id = ask(served, "one").json()["id"]
    reply = served.client().post(f"/v1/responses/{id}/cancel")
    assert reply.status_code == 400 and "background" in reply.json()["error"]["message"]
    assert get(served, id).json()["status"] == "completed"


def test_reading_asks_for_nothing_that_is_not_there(served: House) -> None:
    id = ask(served, "one").json()["id"]
    for query in ("stream=true", "include=message.output_text.logprobs", "starting_after=1"):
        error = get(served, id, path=f"?{query}").json()["error"]
        assert (error["param"], error["code"]) == (query.partition("=")[0], "unsupported_parameter")


@pytest.mark.parametrize("stream", [False, True])
def test_store_false_keeps_nothing(own: House, tmp_path: Path, stream: bool) -> None:
    kept = ask(own, "kept-canary", stream=stream)
    assert kept.status_code == 200
    reply = ask(own, CANARY, instructions=f"{CANARY} too", store=False, stream=stream)
    body = told(reply)[-1]["response"] if stream else reply.json()
    assert body["store"] is False and CANARY in json.dumps(body["output"])
    assert get(own, body["id"]).status_code == 404
    assert ask(own, "x", previous_response_id=body["id"]).status_code == 404
    assert holding(tmp_path, "kept-canary") != [], "control: what is stored is found"
    assert holding(tmp_path, CANARY) == []


def test_a_project_that_goes_takes_its_responses_along(own: House) -> None:
    ask(own, "one", own.stranger)
    ask(own, "two")
    assert count(own, "responses") == 2
    with own.db.write() as conn:
        conn.exec_driver_sql("DELETE FROM projects WHERE name = 'other'")
    assert count(own, "responses") == 1


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────


def bank_of(made: House) -> tuple[str, Fact, Fact]:
    """A memory model of two facts."""
    inputs = [
        FactInput(
            question=f"What is the {CANARY}?", answer=f"{CANARY} one", wordings=(f"Tell me {CANARY}!",)
        ),
        FactInput(question="What is the kept-canary?", answer="yes"),
    ]
    model, (gone, kept) = remember(made, *inputs)
    return model, gone, kept


def forget(made: House, fact: Fact) -> int:
    reply = made.client().delete(f"/v1/facts/{fact.id}").json()
    assert reply["x_cleared"] is True
    return int(reply["x_responses_deleted"])


def test_forgetting_a_fact_forgets_what_cites_it_says_it_and_goes_on_from_it(
    own: House, tmp_path: Path
) -> None:
    model, fact, other = bank_of(own)
    made = [
        ask(own, f"recall exact {fact.id}", model=model),
        ask(own, f"the  {CANARY.upper()} one,", headers={"idempotency-key": "k"}),
        ask(own, "hello", instructions=f"If asked, what is the {CANARY}"),
        told(ask(own, f"Please: tell me ({CANARY}).", stream=True))[-1],
        ask(own, [{"role": "assistant", "content": json.dumps({"a": f"{CANARY} one"})}]),
    ]
    gone = [(r["response"] if isinstance(r, dict) else r.json())["id"] for r in made]
    gone.append(ask(own, "and then", previous_response_id=gone[0]).json()["id"])
    gone.append(ask(own, "and then", previous_response_id=gone[-1]).json()["id"])
    said = get(own, gone[-1]).json()["output"][0]
    for again in ({"type": "item_reference", "id": said["id"]}, said):
        gone.append(ask(own, [again, {"role": "user", "content": "and then"}]).json()["id"])
    kept = [
        ask(own, f"recall exact {other.id}", model=model).json()["id"],
        ask(own, "kept-canary").json()["id"],
        ask(own, "one", own.stranger).json()["id"],
    ]
    assert any("inhouse.db" in name for name in holding(tmp_path, CANARY)), "control: it is found"
    assert forget(own, fact) == len(gone) == 9
    assert {get(own, id).status_code for id in gone} == {404}
    assert {get(own, id).status_code for id in kept[:2]} == {200}
    assert get(own, kept[2], own.stranger).status_code == 200, "another project's is its own"
    assert holding(tmp_path, CANARY) == [] and holding(tmp_path, "kept-canary") != []
    again = ask(own, f"the  {CANARY.upper()} one,", headers={"idempotency-key": "k"})
    assert again.status_code == 404 and "forgotten" in again.json()["error"]["message"]


def test_a_short_answer_means_the_fact_only_where_its_bank_answered(own: House) -> None:
    model, _, fact = bank_of(own)
    elsewhere = ask(own, "yes").json()["id"]
    inside = ask(own, "oh, yes!", model=model).json()["id"]
    another = ask(own, "yesterday", model=model).json()["id"]
    assert forget(own, fact) == 1
    assert [get(own, id).status_code for id in (elsewhere, inside, another)] == [200, 404, 200]


def test_deleting_a_memory_forgets_what_answered_from_it(own: House, tmp_path: Path) -> None:
    model, fact, _ = bank_of(own)
    first = ask(own, f"recall exact {fact.id}", model=model, user=CANARY).json()["id"]
    second = ask(own, "and then", previous_response_id=first).json()["id"]
    beside = ask(own, f"{CANARY} beside", x_memory=model).json()["id"]
    kept = ask(own, "else").json()["id"]
    reply = own.client().delete(f"/v1/models/{model}").json()
    assert (reply["x_responses_deleted"], reply["x_cleared"]) == (3, True)
    assert [get(own, id).status_code for id in (first, second, beside, kept)] == [404, 404, 404, 200]
    assert holding(tmp_path, CANARY) == []


@pytest.mark.parametrize("guard", [None, "have"])
@pytest.mark.parametrize("gone", ["fact", "memory"])
def test_files_of_batches_that_answered_from_a_fact_go_with_it(
    own: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, guard: str | None
) -> None:
    model, fact, _ = bank_of(own)
    asked = batch_line("q", f"recall exact {fact.id}", model=model)
    says = ended(own, create(own, [asked]))["output_file_id"]
    kept = ended(own, create(own, [batch_line("q", "else")]))["output_file_id"]
    assert fact.id in own.client().get(f"/v1/files/{says}/content").text
    if guard is not None:
        monkeypatch.setattr(Outputs, guard, lambda *_: False)
    path = f"/v1/facts/{fact.id}" if gone == "fact" else f"/v1/models/{model}"
    reply = own.client().delete(path).json()
    assert reply["x_cleared"] is True
    assert reply["x_files_deleted"] == ([says] if guard is None else [])
    statuses = [own.client().get(f"/v1/files/{id}/content").status_code for id in (says, kept)]
    assert statuses == [404 if guard is None else 200, 200], "control: without the search it is served"


def leaves_behind(made: House, folder: Path, fact: Fact) -> list[str]:
    ask(made, f"{CANARY} one", headers={"idempotency-key": "k"})
    made.client().delete(f"/v1/facts/{fact.id}")
    return holding(folder, CANARY)


@pytest.mark.parametrize("guard", [None, "purge_saying", "scrub_replies"])
def test_control_each_step_of_forgetting_responses_is_needed(
    own: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str | None
) -> None:
    _, fact, _ = bank_of(own)
    if guard is not None:
        monkeypatch.setattr(forgetting, guard, lambda *_: 0)
    assert (leaves_behind(own, tmp_path, fact) == []) is (guard is None)


@pytest.mark.parametrize("is_guarded", [True, False])
@pytest.mark.parametrize("gone", ["fact", "bank"])
def test_what_was_forgotten_while_a_response_was_made_is_not_stored(
    own: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, is_guarded: bool
) -> None:
    model, fact, _ = bank_of(own)
    if not is_guarded:
        monkeypatch.setattr(forgetting, "has_forgotten", lambda *_: False)
    body = {"model": "seedling", "input": f"count 100 0.03 {CANARY} one", "stream": True}
    key = {"idempotency-key": "k"}
    with own.client().stream("POST", "/v1/responses", json=body, headers=key) as reply:
        lines = reply.iter_lines()
        next(lines)
        until(lambda: own.server.gateway.relay.running["seedling"] == 1, "it is under way")
        path = f"/v1/facts/{fact.id}" if gone == "fact" else f"/v1/models/{model}"
        with httpx2.Client(base_url=own.url, trust_env=False) as other:
            other.delete(path, headers={"authorization": f"Bearer {own.member}"}, timeout=30)
        assert own.server.gateway.relay.running["seedling"] == 1, "it is under way still"
        last = [line for line in lines if line.startswith("data: ")][-1]
    response = json.loads(last.removeprefix("data: "))["response"]
    assert response["status"] == "completed"
    assert response["store"] is not is_guarded
    assert get(own, response["id"]).status_code == (404 if is_guarded else 200)
    assert (holding(tmp_path, CANARY) == []) is is_guarded, "control: without the guard its words are stored"
    assert count(own, "idempotency") == (0 if is_guarded else 1)


def test_a_response_that_cites_a_fact_that_is_gone_is_not_stored(own: House) -> None:
    model, _, _ = bank_of(own)
    body = ask(own, "recall exact fact-gone", model=model).json()
    assert body["x_facts"][0]["id"] == "fact-gone" and body["store"] is False
    assert get(own, body["id"]).status_code == 404


def test_a_response_tells_what_its_memory_did(own: House) -> None:
    model, fact, _ = bank_of(own)
    body = ask(own, f"recall exact {fact.id}", model=model).json()
    assert body["x_memory"] == {"model": model, "revision": 1, "decision": "exact"}
    assert [cited["id"] for cited in body["x_facts"]] == [fact.id]
    events = told(ask(own, f"recall exact {fact.id}", x_memory=model, stream=True))
    assert [cited["id"] for cited in events[-1]["response"]["x_facts"]] == [fact.id]
    assert "x_facts" not in events[0]["response"]


def test_who_may_not_see_a_fact_does_not_see_the_responses_that_cite_it(own: House) -> None:
    board, nobody = auth.new_secret(), own.member
    with own.db.write() as conn:
        now = own.db.clock(conn)
        hashed = auth.hash_of(board)
        keys.add(
            conn,
            project="default",
            name="board",
            secret_hash=hashed,
            role="member",
            now=now,
            groups=("board",),
        )
    model, (secret, open_to_all) = remember(
        own,
        FactInput(question="Who leaves?", answer="Somebody we know", access=("board",)),
        FactInput(question="Who stays?", answer="All the others"),
    )
    first = ask(own, f"recall exact {secret.id}", board, model=model).json()["id"]
    second = ask(own, "and then", board, previous_response_id=first).json()["id"]
    said = get(own, first, board).json()["output"][0]["id"]
    reference = [{"type": "item_reference", "id": said}, {"role": "user", "content": "and then"}]
    third = ask(own, reference, board).json()["id"]
    assert ask(own, reference, nobody).status_code == 404
    public = ask(own, f"recall exact {open_to_all.id}", board, model=model).json()["id"]
    for id in (first, second, third):
        assert [get(own, id, key).status_code for key in (board, own.admin)] == [200, 200]
        missing = get(own, "resp_none", nobody).text.replace("resp_none", id)
        assert (get(own, id, nobody).status_code, get(own, id, nobody).text) == (404, missing)
        assert ask(own, "x", nobody, previous_response_id=id).status_code == 404
        assert own.client(nobody).delete(f"/v1/responses/{id}").status_code == 404
    assert get(own, public, nobody).status_code == 200
    with own.db.write() as conn:
        facts.edit(conn, open_to_all.bank, secret.id, {"access": ()}, author="a", now=now)
    assert get(own, first, nobody).status_code == 404, "it was said when it was a secret"
