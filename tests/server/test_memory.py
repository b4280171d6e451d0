"""A conversation with a memory: which one is asked, what the engine is told, and how the reply cites."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inhouse.schema import FactInput, MemoryUse
from inhouse.server.bases import register
from inhouse.store.records import facts

from .house import ADAPTER, TUNED, House, remember
from .test_chat import events

CITATION = {
    "id": "fact-a",
    "version": 2,
    "mode": "exact",
    "source": "page 3",
    "span": None,
    "gate": 0.5,
    "verified": True,
}


@pytest.fixture(scope="module")
def memory(served: House) -> str:
    return remember(served, FactInput(question="Who has it?", answer="Mara"))[0]


def test_a_reply_of_a_memory_says_what_was_decided_and_cites(served: House, memory: str) -> None:
    body = served.chat("recall exact fact-a fact-b", model=memory).json()
    assert body["model"] == memory
    assert body["x_memory"] == {"model": memory, "revision": 1, "decision": "exact"}
    assert body["x_facts"] == [CITATION, CITATION | {"id": "fact-b"}]
    assert body["usage"]["completion_tokens"] == 4
    assert "x_adapter" not in body


def test_a_request_that_has_nothing_to_do_with_the_facts_cites_none(served: House, memory: str) -> None:
    for said in ("hello", "silent"):
        body = served.chat(said, model=memory).json()
        assert body["x_facts"] == []
        assert body["x_memory"] == {"model": memory, "revision": 1, "decision": "none"}


def test_without_a_memory_a_reply_has_neither_key(served: House) -> None:
    assert not {"x_facts", "x_memory"} & served.chat("recall exact fact-a").json().keys()
    for chunk in events(served.chat("recall exact fact-a", stream=True)):
        assert not {"x_facts", "x_memory"} & chunk.keys()


def test_each_choice_cites_for_itself(served: House, memory: str) -> None:
    body = served.chat("recall exact fact-a", model=memory, n=2).json()
    assert [(fact["choice"], fact["gate"]) for fact in body["x_facts"]] == [(0, 0.5), (1, 0.6)]
    assert body["x_memory"]["decision"] == "exact"


def test_a_stream_cites_on_the_chunk_that_ends_a_choice(served: House, memory: str) -> None:
    asked: dict[str, Any] = {"model": memory, "n": 2, "stream": True}
    chunks = events(served.chat("recall refused fact-a", **asked, stream_options={"include_usage": True}))
    ends = [chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["finish_reason"]]
    assert [chunk for chunk in chunks if "x_facts" in chunk or "x_memory" in chunk] == ends
    assert [chunk["x_facts"] for chunk in ends] == [
        [CITATION | {"choice": 0}],
        [CITATION | {"choice": 1, "gate": 0.6}],
    ]
    assert ends[0]["x_memory"] == {"model": memory, "revision": 1, "decision": "refused"}
    assert ends[0]["usage"] is None
    (one,) = [
        chunk for chunk in events(served.chat("recall none", model=memory, stream=True)) if "x_facts" in chunk
    ]
    assert (one["x_facts"], one["choices"][0]["finish_reason"]) == ([], "stop")


def told(served: House, key: str | None = None, **fields: Any) -> Any:
    """What the engine was told of the memory."""
    body = {"messages": [{"role": "user", "content": "use"}], **fields}
    reply = served.client(key).post("/v1/chat/completions", json=body).json()
    text = reply["choices"][0]["message"]["content"]
    return text if text == "no memory" else MemoryUse.model_validate_json(text)


def test_the_engine_is_told_bank_revision_mode_and_whose_facts(served: House) -> None:
    name, (fact,) = remember(served, FactInput(question="A?", answer="1"))
    key = (
        served.client(served.admin).post("/v1/x/keys", json={"name": "clerk", "groups": ["hr", "it"]}).json()
    )
    assert key["groups"] == ["hr", "it"]
    use = told(served, key["key"], model=name)
    assert use == MemoryUse(bank=fact.bank, revision=1, mode="auto", groups=("hr", "it"))
    assert told(served, model=name).groups == ()
    assert told(served, served.admin, model=name).sees_all is True
    assert told(served, model=name, x_memory={"mode": "retrieval"}).mode == "retrieval"
    assert told(served, model="seedling") == "no memory"


def test_a_change_is_told_with_the_next_request(served: House) -> None:
    name, (fact,) = remember(served, FactInput(question="A?", answer="1"))
    with served.db.write() as conn:
        facts.edit(conn, fact.bank, fact.id, {"answer": "2"}, author="a", now=1.0)
    assert told(served, model=name).revision == 2


@pytest.mark.parametrize("form", [lambda name: name, lambda name: {"model": name, "mode": "exact"}])
def test_a_memory_may_stand_beside_a_base_or_an_adapter_of_the_same_base(
    served: House, memory: str, form: Any
) -> None:
    for model, adapter in (("seedling", None), (TUNED, ADAPTER)):
        body = served.chat("recall retrieval fact-a", model=model, x_memory=form(memory)).json()
        assert body["model"] == model
        assert body["x_memory"] == {"model": memory, "revision": 1, "decision": "retrieval"}
        assert body.get("x_adapter") == adapter


@pytest.mark.parametrize(
    ("fields", "status", "param", "says"),
    [
        ({"model": "MEMORY", "x_memory": "MEMORY"}, 400, "x_memory", "a memory itself"),
        ({"model": "MEMORY", "x_memory": {"model": "MEMORY"}}, 400, "x_memory.model", "a memory itself"),
        ({"x_memory": {}}, 400, "x_memory.model", "no memory of its own"),
        ({"x_memory": {"mode": "off"}}, 400, "x_memory.model", "no memory of its own"),
        ({"x_memory": TUNED}, 400, "x_memory", "no memory model"),
        ({"x_memory": "nothing"}, 404, "x_memory", "There is no model"),
        ({"model": "elsewhere", "x_memory": "MEMORY"}, 409, "x_memory", "seedling"),
        ({"model": "MEMORY", "x_memory": {"mode": "guess"}}, 400, "x_memory.mode", ""),
        ({"model": "MEMORY", "x_memory": {"facts": 1}}, 400, "x_memory.facts", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    served: House, memory: str, fields: dict[str, Any], status: int, param: str, says: str
) -> None:
    with served.db.write() as conn:
        register(conn, "some/elsewhere", 1.0, "elsewhere")
    filled = json.loads(json.dumps({"model": "seedling"} | fields).replace("MEMORY", memory))
    reply = served.chat("hi", **filled)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param)
    assert says in error["message"]


def test_anothers_memory_is_none(served: House) -> None:
    theirs, _ = remember(served, FactInput(question="A?", answer="1"), project="elsewhere")
    for fields in ({"model": theirs}, {"x_memory": theirs}):
        reply = served.chat("hi", **fields)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_plain_completions_know_no_memory_and_say_where_to_ask(served: House, memory: str) -> None:
    client = served.client()
    reply = client.post("/v1/completions", json={"model": memory, "prompt": "x"})
    assert reply.json()["error"]["param"] == "model"
    assert "/v1/chat/completions" in reply.json()["error"]["message"]
    reply = client.post("/v1/completions", json={"model": "seedling", "prompt": "x", "x_memory": memory})
    assert (reply.json()["error"]["param"], reply.json()["error"]["code"]) == (
        "x_memory",
        "unsupported_parameter",
    )


def test_a_memory_is_listed_like_any_model_with_what_it_is_about(served: House, memory: str) -> None:
    card = served.client().get(f"/v1/models/{memory}").json()
    assert (card["x_kind"], card["x_base"], card["x_digest"]) == ("memory", "seedling", None)
    assert set(card["x_about"]) == {"bank"} and "x_facts" not in card
