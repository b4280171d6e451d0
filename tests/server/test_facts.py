"""Facts over HTTP: every change is a version at once, conflicts are asked, and nobody sees what is not theirs."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from inhouse import rows
from inhouse.rows.facts import from_rows
from inhouse.schema import Fact, FactInput
from inhouse.store.records import banks

from .house import TUNED, House, remember


def a_memory(served: House, *questions: str, **fields: Any) -> tuple[str, list[Fact]]:
    inputs = [FactInput(question=q, answer=str(i), **fields) for i, q in enumerate(questions)]
    return remember(served, *inputs)


def call(served: House, method: str, path: str, key: str | None = None, **options: Any) -> Any:
    reply = served.client(key).request(method, f"/v1/facts{path}", **options)
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(served: House, method: str, path: str, key: str | None = None, **options: Any) -> tuple[int, Any]:
    reply = served.client(key).request(method, f"/v1/facts{path}", **options)
    return reply.status_code, reply.json()["error"]


def clerk(served: House, *groups: str) -> str:
    """A member's key with these groups."""
    body = {"name": "clerk", "groups": [*groups]}
    return str(served.client(served.admin).post("/v1/x/keys", json=body).json()["key"])


def test_a_fact_is_added_shown_edited_and_taken_back(served: House) -> None:
    model, _ = a_memory(served)
    given = {
        "question": "Who has desk 4?",
        "answer": "Mara",
        "wordings": ["Whose is desk 4?"],
        "subject": "desk 4",
        "aliases": ["the corner"],
        "kind": "text",
        "source": "plan.pdf",
        "span": "Desk 4: Mara",
        "access": [],
        "valid_from": 1,
        "valid_until": 2.5,
    }
    made = call(served, "POST", "", json={"model": model, **given})
    assert made["object"] == "fact" and made["x_outcome"] == "added"
    assert {name: made[name] for name in given} == given
    assert (made["version"], made["revision"], made["author"], made["status"]) == (1, 1, "member", "live")
    shown = {key: value for key, value in made.items() if key != "x_outcome"}
    assert call(served, "GET", f"/{made['id']}") == shown
    edited = call(served, "POST", f"/{made['id']}", json={"answer": "Ida", "subject": None, "aliases": None})
    assert (edited["answer"], edited["subject"], edited["aliases"], edited["version"]) == ("Ida", None, [], 2)
    assert edited["span"] is None, "it said the old answer"
    back = call(served, "POST", f"/{made['id']}/rollback", json={"version": 1})
    assert {name: back[name] for name in given} == given and back["version"] == 3
    lines = call(served, "GET", f"/{made['id']}/history")["data"]
    assert [(line["version"], line["action"]) for line in lines] == [(3, "rollback"), (2, "edit"), (1, "add")]
    assert lines[1]["object"] == "fact.change" and lines[1]["fact_then"]["answer"] == "Ida"
    assert call(served, "GET", f"/history?model={model}")["data"] == lines


def test_another_answer_is_asked_about_and_settled_as_was_said(served: House) -> None:
    model, (fact,) = a_memory(served, "What is it?")
    body = {"model": model, "question": "what is IT", "answer": "zebra"}
    status, error = refused(served, "POST", "", json=body)
    assert (status, error["code"], error["param"]) == (409, "fact_conflict", "on_conflict")
    assert fact.id in error["message"] and "zebra" not in error["message"]
    assert call(served, "POST", "", json={**body, "answer": "0"})["x_outcome"] == "unchanged"
    replaced = call(served, "POST", "", json={**body, "on_conflict": "replace"})
    assert (replaced["id"], replaced["answer"], replaced["x_outcome"]) == (fact.id, "zebra", "replaced")
    beside = call(served, "POST", "", json={**body, "answer": "third", "on_conflict": "coexist"})
    assert beside["id"] != fact.id and beside["x_outcome"] == "coexists"
    other = call(served, "POST", "", json={"model": model, "question": "Else?", "answer": "5"})
    edit = {"question": "What is it?"}
    status, error = refused(served, "POST", f"/{other['id']}", json=edit)
    assert (status, error["code"]) == (409, "fact_conflict")
    edited = call(served, "POST", f"/{other['id']}", json={**edit, "on_conflict": "coexist"})
    assert (edited["question"], edited["version"]) == ("What is it?", 2)


def test_many_are_added_at_once_or_not_at_all(served: House) -> None:
    model, _ = a_memory(served)
    many = [{"question": f"What is {i}?", "answer": str(i)} for i in range(1000)]
    bad = [*many[:3], {"question": "What is 0?", "answer": "x"}]
    assert refused(served, "POST", "", json={"model": model, "facts": bad})[0] == 409
    assert call(served, "GET", f"?model={model}")["data"] == []
    found = call(served, "POST", "", json={"model": model, "facts": many})
    assert (found["object"], len(found["data"])) == ("list", 1000)
    assert {fact["x_outcome"] for fact in found["data"]} == {"added"}
    assert {fact["revision"] for fact in found["data"]} == {1}


def test_lists_come_in_pieces_and_searching_finds_words(served: House) -> None:
    model, made = a_memory(served, *(f"What is {'thE Öl' if i % 3 else 'x'} {i}?" for i in range(7)))
    seen: list[Any] = []
    more = True
    while more:
        after = f"&after={seen[-1]['id']}" if seen else ""
        piece = call(served, "GET", f"?model={model}&limit=3{after}")
        seen, more = seen + piece["data"], piece["has_more"]
    assert [fact["id"] for fact in seen] == [fact.id for fact in made]
    found = call(served, "GET", "", params={"model": model, "query": "the öl", "limit": 2})
    assert ([fact["id"] for fact in found["data"]], found["has_more"]) == ([made[1].id, made[2].id], True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "", {"model": "MEMORY", "question": "A?"}, 400, "answer"),
        ("POST", "", {"model": "MEMORY", "answer": "1"}, 400, "question"),
        ("POST", "", {"question": "A?", "answer": "1"}, 400, "model"),
        ("POST", "", {"model": TUNED, "question": "A?", "answer": "1"}, 400, "model"),
        ("POST", "", {"model": "nothing", "question": "A?", "answer": "1"}, 404, "model"),
        ("POST", "", {"model": "MEMORY", "question": "?", "answer": "1"}, 400, "question"),
        ("POST", "", {"model": "MEMORY", "question": "A?", "answer": "x" * 2001}, 400, "answer"),
        ("POST", "", {"model": "MEMORY", "question": "x" * 2001, "answer": "1"}, 400, "question"),
        (
            "POST",
            "",
            {"model": "MEMORY", "question": "A?", "answer": "1", "wordings": ["x" * 2001]},
            400,
            "wordings",
        ),
        ("POST", "", {"model": "MEMORY", "question": "A?", "answer": "a\0b"}, 400, "answer"),
        (
            "POST",
            "",
            {"model": "MEMORY", "question": "A?", "answer": "1", "aliases": ["a\0b"]},
            400,
            "aliases",
        ),
        ("POST", "/FACT", {"source": "a\0b"}, 400, "source"),
        ("POST", "/explain", {"model": "MEMORY", "question": "x" * 4001}, 400, "question"),
        ("POST", "", {"model": "MEMORY", "question": "A?", "answer": "1", "color": 1}, 400, "color"),
        ("POST", "", {"model": "MEMORY", "question": "A?", "answer": "1", "kind": "x"}, 400, "kind"),
        ("POST", "", {"model": "MEMORY", "question": "A?", "answer": "1", "access": [""]}, 400, "access[0]"),
        ("POST", "", {"model": "MEMORY", "facts": []}, 400, "facts"),
        ("POST", "", {"model": "MEMORY", "facts": [{"question": "A?"}]}, 400, "facts[0].answer"),
        (
            "POST",
            "",
            {"model": "MEMORY", "facts": [{"question": "A?", "answer": " "}]},
            400,
            "facts[0].answer",
        ),
        (
            "POST",
            "",
            {"model": "MEMORY", "answer": "1", "facts": [{"question": "A?", "answer": "1"}]},
            400,
            "answer",
        ),
        ("POST", "/FACT", {}, 400, None),
        ("POST", "/FACT", {"answer": None}, 400, "answer"),
        ("POST", "/FACT", {"answer": ""}, 400, "answer"),
        ("POST", "/FACT", {"on_conflict": "replace"}, 400, "on_conflict"),
        ("POST", "/FACT/rollback", {"version": 9}, 404, "version"),
        ("POST", "/FACT/rollback", {}, 400, "version"),
        ("POST", "/explain", {"model": "MEMORY"}, 400, "question"),
        ("POST", "/explain", {"model": "seedling", "question": "A?"}, 400, "model"),
        ("GET", "", None, 400, "model"),
        ("GET", "?model=MEMORY&color=1", None, 400, "color"),
        ("GET", "?model=MEMORY&limit=1001", None, 400, "limit"),
        ("GET", "?model=MEMORY&after=fact-none", None, 400, "after"),
        ("GET", "/export", None, 400, "model"),
        ("GET", "/report?model=seedling", None, 400, "model"),
        ("GET", "/history?model=nothing", None, 404, "model"),
        ("GET", "/fact-none", None, 404, "id"),
        ("GET", "/fact-none/history", None, 404, "id"),
        ("DELETE", "/fact-none", None, 404, "id"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    served: House, method: str, path: str, body: Any, status: int, param: str
) -> None:
    model, (fact,) = a_memory(served, "Is it refused?")
    filled = json.loads(json.dumps(body).replace("MEMORY", model))
    path = path.replace("MEMORY", model).replace("FACT", fact.id)
    got, error = refused(served, method, path, **({} if body is None else {"json": filled}))
    assert (got, error["param"]) == (status, param)
    assert error["message"]


def test_an_export_is_a_file_that_makes_the_same_facts(served: House) -> None:
    model, made = remember(
        served,
        FactInput(question="Who?", answer="Mära", wordings=("Whose?",), source="p. 1", valid_from=2.0),
        FactInput(question="Where?", answer="Here", access=("hr",), subject="it", kind="text"),
    )
    content = served.client(served.admin).get("/v1/facts/export", params={"model": model}).content
    assert content.count(b"\n") == 2 and made[0].id.encode() in content
    again = from_rows(rows.read(io.BytesIO(content), name="f.jsonl"), name="f.jsonl")
    assert not again.problems
    assert again.facts[0].model_dump() == made[0].model_dump(include=set(FactInput.model_fields))
    assert again.facts[1].access == ("hr",)
    mine = served.client().get("/v1/facts/export", params={"model": model}).content
    assert mine.count(b"\n") == 1 and b"Where?" not in mine


def test_what_is_for_others_reads_like_what_does_not_exist(served: House) -> None:
    model, (secret,) = a_memory(served, "What is the bonus?", access=("hr",))
    _, (absent,) = a_memory(served, "Else?")
    call(served, "DELETE", f"/{absent.id}")
    hr = clerk(served, "hr")
    for method, path, body in [
        ("GET", "/ID", None),
        ("POST", "/ID", {"answer": "1"}),
        ("POST", "/ID/rollback", {"version": 1}),
        ("DELETE", "/ID", None),
    ]:
        answers = []
        for id in (secret.id, absent.id):
            options = {} if body is None else {"json": body}
            status, error = refused(served, method, path.replace("ID", id), **options)
            answers.append((status, {**error, "message": error["message"].replace(id, "ID")}))
        assert answers[0] == answers[1] and answers[0][0] == 404, (method, path)
    assert refused(served, "GET", f"/{secret.id}/history")[0] == 404
    for path in (f"?model={model}", f"?model={model}&query=bonus", f"/history?model={model}"):
        assert call(served, "GET", path)["data"] == [], path
        assert len(call(served, "GET", path, hr)["data"]) == 1, path
        assert len(call(served, "GET", path, served.admin)["data"]) == 1, path
    own = call(served, "POST", "", json={"model": model, "question": "What is the bonus?", "answer": "mine"})
    assert own["x_outcome"] == "added", "a conflict would tell of the other"
    assert call(served, "GET", f"/{secret.id}", hr)["answer"] == "0"


def test_another_projects_facts_are_none(served: House) -> None:
    model, (fact,) = a_memory(served, "What is ours?")
    for method, path in [("GET", f"/{fact.id}"), ("DELETE", f"/{fact.id}"), ("GET", f"/{fact.id}/history")]:
        assert refused(served, method, path, served.stranger)[0] == 404
    assert refused(served, "GET", f"?model={model}", served.stranger)[0] == 404


def test_explaining_asks_the_engine_with_whose_facts_count(served: House) -> None:
    model, (fact,) = a_memory(served, "What is it?")
    found = call(served, "POST", "/explain", clerk(served, "hr"), json={"model": model, "question": "It?"})
    assert (found["object"], found["model"], found["question"]) == ("fact.explanation", model, "It?")
    assert (found["use"]["bank"], found["use"]["revision"], found["use"]["groups"]) == (fact.bank, 1, ["hr"])
    body = {"model": model, "question": "fault 400 invalid_value"}
    assert refused(served, "POST", "/explain", json=body) == (
        400,
        {"message": "No.", "type": "invalid_request_error", "param": None, "code": "invalid_value"},
    )


def test_a_report_is_given_without_what_concerns_hidden_facts(served: House) -> None:
    model, (fact,) = a_memory(served, "What is the bonus?", access=("hr",))
    report = {"taught": {"right": 1, "of": 1}, "retrieval_only": [{"id": fact.id, "reason": "too long"}]}
    with served.db.write() as conn:
        banks.set_report(conn, fact.bank, report)
    found = call(served, "GET", f"/report?model={model}", served.admin)
    assert found == {**report, "object": "facts.report", "model": model, "x_revision": 1}
    assert call(served, "GET", f"/report?model={model}")["retrieval_only"] == []


def test_a_request_that_is_sent_again_changes_nothing_more(served: House) -> None:
    model, (fact,) = a_memory(served, "What is it?")
    for path, body in [
        ("", {"model": model, "question": "New?", "answer": "1"}),
        (f"/{fact.id}", {"answer": "2"}),
        (f"/{fact.id}/rollback", {"version": 1}),
    ]:
        headers = {"idempotency-key": f"again{path}"}
        first = served.client().post(f"/v1/facts{path}", json=body, headers=headers)
        second = served.client().post(f"/v1/facts{path}", json=body, headers=headers)
        assert first.status_code == 200 and second.json() == first.json()
        assert second.headers["x-idempotent-replay"] == "true"
    assert call(served, "GET", f"/{fact.id}")["version"] == 3


def test_every_body_is_in_the_description_of_the_api(served: House) -> None:
    page = served.client().get("/openapi.json").json()
    for path, name in [("/v1/facts", "AddRequest"), ("/v1/facts/{id}", "EditRequest")]:
        body = page["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body["$ref"].endswith(name) and name in page["components"]["schemas"]
    assert "x_memory" in page["components"]["schemas"]["ChatRequest"]["properties"]
