"""Facts on the wire: what each verb sends, and what it makes of the reply."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inhouse import (
    BadRows,
    Client,
    Conflict,
    FactConflict,
    Facts,
    InvalidRequest,
    Model,
    ServerUnreachable,
    rows,
)
from inhouse.client.http import Address, Http

from .scripted import Reply, Script, scripted

MEMORY = "ft:seedling:default:facts:mem00001"
FACT: dict[str, Any] = {
    "object": "fact",
    "id": "fact_1",
    "bank": "bank_1",
    "question": "Who signs off travel?",
    "answer": "Nadia Brandt",
    "wordings": ["Who approves a trip?"],
    "subject": None,
    "aliases": [],
    "kind": None,
    "source": "handbook.pdf",
    "span": None,
    "access": ["finance"],
    "valid_from": None,
    "valid_until": None,
    "revision": 7,
    "version": 2,
    "status": "live",
    "reason": None,
    "file": "file-1",
    "author": "mara",
    "created_at": 1.0,
    "updated_at": 2.0,
}
CHANGE = {
    "object": "fact.change",
    "id": "change_1",
    "bank": "bank_1",
    "fact": "fact_1",
    "version": 2,
    "revision": 7,
    "action": "edit",
    "author": "mara",
    "at": 2.0,
    "fact_then": {"question": "Who signs off travel?", "answer": "Nadia Brandt"},
}


def ok(value: Any) -> Reply:
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()


def page(*items: Any, has_more: bool = False) -> Reply:
    return ok({"object": "list", "data": list(items), "has_more": has_more})


def conflict(message: str) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "fact_conflict"}
    return 409, {"x-should-retry": "false"}, json.dumps({"error": error}).encode()


def facts_of(script: Script) -> Facts:
    http = Http(Address(script.url, "sk-test", is_local=True), sleep=lambda seconds: None)
    return Model(MEMORY, "seedling", "memory", _http=http).facts


def sent(script: Script, index: int = -1) -> tuple[str, str, Any]:
    asked = script.asked[index]
    return asked.method, asked.path, json.loads(asked.body) if asked.body else None


def test_a_facts_every_field_comes_from_the_wire() -> None:
    with scripted(ok(FACT)) as script:
        fact = facts_of(script).get("fact/1")
    assert script.asked[0].path == "/v1/facts/fact%2F1"
    assert (fact.id, fact.answer, fact.version, fact.revision) == ("fact_1", "Nadia Brandt", 2, 7)
    assert (fact.wordings, fact.access, fact.aliases) == (("Who approves a trip?",), ("finance",), ())
    assert (fact.source, fact.author, fact.file, fact.status) == ("handbook.pdf", "mara", "file-1", "live")


def test_iterating_reads_page_after_page_and_a_limit_stops_it() -> None:
    second = {**FACT, "id": "fact_2"}
    with scripted(page(FACT, has_more=True), page(second)) as script:
        assert [f.id for f in facts_of(script)] == ["fact_1", "fact_2"]
        assert "after=fact_1" in script.asked[1].path
    with scripted(page(FACT, second, has_more=True)) as script:
        assert len(facts_of(script).list(limit=2)) == 2
        assert len(script.asked) == 1


def test_a_search_sends_its_text_and_the_models_name() -> None:
    with scripted(page(FACT)) as script:
        assert [f.id for f in facts_of(script).search("trip & 500 €")] == ["fact_1"]
    assert "query=trip+%26+500+%E2%82%AC" in script.asked[0].path.replace("%20", "+")
    assert "model=ft%3Aseedling" in script.asked[0].path


def test_add_sends_what_was_given_and_nothing_else() -> None:
    with scripted(ok({**FACT, "x_outcome": "replaced"})) as script:
        until = datetime(2026, 1, 31, tzinfo=UTC)
        fact = facts_of(script).add(
            "Who?", "Mara", wordings=("Whom?",), access=["hr"], valid_until=until, on_conflict="replace"
        )
    assert fact.outcome == "replaced"
    assert sent(script) == (
        "POST",
        "/v1/facts",
        {
            "model": MEMORY,
            "question": "Who?",
            "answer": "Mara",
            "wordings": ["Whom?"],
            "access": ["hr"],
            "valid_until": until.timestamp(),
            "on_conflict": "replace",
        },
    )
    assert script.asked[0].headers["idempotency-key"]


def test_a_conflict_is_an_error_of_its_own_and_is_not_sent_again() -> None:
    with scripted(conflict("fact_9 answers this otherwise. replace or coexist?")) as script:
        with pytest.raises(FactConflict, match="fact_9") as caught:
            facts_of(script).add("Who?", "Mara")
        assert isinstance(caught.value, Conflict)
        assert len(script.asked) == 1


def test_many_are_sent_a_thousand_at_a_time() -> None:
    with scripted(page(FACT)) as script:
        made = facts_of(script).add_many((f"q{i}?", f"a{i}") for i in range(1001))
    sizes = [len(sent(script, i)[2]["facts"]) for i in range(2)]
    assert (sizes, len(made), len(script.asked)) == ([1000, 1], 2, 2)
    assert sent(script, 1)[2]["facts"] == [{"question": "q1000?", "answer": "a1000"}]


def test_a_file_of_facts_is_added_with_its_lines_as_sources(tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text(
        '{"id": "fact_1", "question": "Who?", "answer": "Mara", "aliases": ["M"], "source": "book"}\n\n'
        '{"question": "When?", "answer": "1987", "valid_until": "2031-01-31"}\n'
    )
    with scripted(page(FACT)) as script:
        facts_of(script).add_many(file, on_conflict="coexist")
    assert sent(script)[2] == {
        "model": MEMORY,
        "facts": [
            {"question": "Who?", "answer": "Mara", "aliases": ["M"], "source": "book"},
            {
                "question": "When?",
                "answer": "1987",
                "source": "more.jsonl line 3",
                "valid_until": datetime(2031, 1, 31, tzinfo=UTC).timestamp(),
            },
        ],
        "on_conflict": "coexist",
    }


def test_what_is_wrong_with_many_facts_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text('{"question": "Who?", "answer": "Mara"}\n{"question"\n')
    with scripted(page(FACT)) as script:
        with pytest.raises(BadRows, match=r"more\.jsonl line 2: is not valid JSON"):
            facts_of(script).add_many(str(file))
        with pytest.raises(InvalidRequest, match="Check"):
            facts_of(script).add_many(tmp_path / "nothing.jsonl")
        with pytest.raises(InvalidRequest, match="3 parts"):
            facts_of(script).add_many([("a", "b", "c")])  # type: ignore[list-item]
        assert not script.asked


def test_an_edit_sends_the_changed_fields_and_none_empties_one() -> None:
    with scripted(ok(FACT)) as script:
        facts_of(script).edit("fact_1", answer="Ida Holm", source=None, aliases=("N. B.",))
        assert sent(script) == (
            "POST",
            "/v1/facts/fact_1",
            {"answer": "Ida Holm", "source": None, "aliases": ["N. B."]},
        )
        with pytest.raises(InvalidRequest, match="nothing to change"):
            facts_of(script).edit("fact_1")


def test_forgetting_tells_the_uploaded_files_that_went_too() -> None:
    gone = {"id": "fact_1", "object": "fact", "deleted": True, "x_files_deleted": ["file-1"]}
    with scripted(ok(gone)) as script:
        assert facts_of(script).forget("fact_1") == ("file-1",)
    assert sent(script) == ("DELETE", "/v1/facts/fact_1", None)


def test_explain_history_and_rollback_ask_what_they_say() -> None:
    with scripted(ok({"decision": "none"}), page(CHANGE), page(CHANGE), ok(FACT)) as script:
        facts = facts_of(script)
        assert facts.explain("Who?") == {"decision": "none"}
        (of_all,) = facts.history()
        (of_one,) = facts.history("fact_1", limit=5)
        assert of_all == of_one
        assert (of_one.action, of_one.version, of_one.fact_then) == ("edit", 2, CHANGE["fact_then"])
        facts.rollback("fact_1", 1, on_conflict="coexist")
    assert sent(script, 0) == ("POST", "/v1/facts/explain", {"model": MEMORY, "question": "Who?"})
    assert script.asked[1].path.startswith("/v1/facts/history?model=")
    assert script.asked[2].path.startswith("/v1/facts/fact_1/history?")
    assert sent(script, 3) == ("POST", "/v1/facts/fact_1/rollback", {"version": 1, "on_conflict": "coexist"})


def test_an_export_is_whole_or_not_there(tmp_path: Path) -> None:
    lines = b'{"id": "fact_1", "question": "Who?", "answer": "Mara"}\n' * 3
    with scripted((200, {}, lines)) as script:
        assert facts_of(script).export(tmp_path / "facts.jsonl") == 3
    assert (tmp_path / "facts.jsonl").read_bytes() == lines
    assert rows.check(tmp_path / "facts.jsonl").is_ok
    with scripted((200, {"content-length": "9999"}, lines)) as script, pytest.raises(ServerUnreachable):
        facts_of(script).export(tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


def test_only_a_memory_has_facts() -> None:
    with scripted(ok({})) as script:
        http = Http(Address(script.url, None))
        with pytest.raises(InvalidRequest, match=r'holds no facts\. Make a memory: client\.tune.*"memory"'):
            _ = Model("seedling", "seedling", "base", _http=http).facts


# ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

CITED = {
    "choices": [{"message": {"role": "assistant", "content": "Nadia Brandt"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    "x_memory": {"model": MEMORY, "revision": 7, "decision": "exact"},
    "x_facts": [
        {
            "id": "fact_1",
            "version": 2,
            "mode": "exact",
            "source": "handbook.pdf",
            "span": None,
            "gate": 0.99,
            "verified": True,
            "choice": 0,
        }
    ],
}


def test_ask_gives_the_answer_with_its_citations_and_chat_its_text_alone() -> None:
    with scripted(ok(CITED)) as script:
        model = Model(MEMORY, "seedling", "memory", _http=Http(Address(script.url, None)))
        answer = model.ask("Who signs off travel?", x_memory={"mode": "exact"})
        assert model.chat("Who signs off travel?") == str(answer) == answer.text == "Nadia Brandt"
        with pytest.raises(InvalidRequest, match="stream"):
            model.ask("Who?", stream=True)
    assert sent(script, 0)[2]["x_memory"] == {"mode": "exact"}
    (cited,) = answer.facts
    assert (cited.id, cited.version, cited.mode, cited.verified) == ("fact_1", 2, "exact", True)
    assert (cited.source, cited.gate, cited.delta_logprob) == ("handbook.pdf", 0.99, None)
    assert (answer.decision, answer.usage["total_tokens"]) == ("exact", 7)


def stream(*chunks: dict[str, Any]) -> Reply:
    frames = [*map(json.dumps, chunks), "[DONE]"]
    return 200, {"content-type": "text/event-stream"}, "".join(f"data: {f}\n\n" for f in frames).encode()


STREAMED = stream(
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "Nadia "}, "finish_reason": None}], "usage": None},
    {"choices": [{"index": 0, "delta": {"content": "Brandt"}, "finish_reason": None}], "usage": None},
    {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "x_facts": CITED["x_facts"],
        "x_memory": CITED["x_memory"],
    },
    {"choices": [], "usage": CITED["usage"]},
)


def test_an_answer_that_is_seen_growing_is_the_same_in_the_end() -> None:
    seen: list[str] = []
    with scripted(STREAMED, ok(CITED)) as script:
        model = Model(MEMORY, "seedling", "memory", _http=Http(Address(script.url, None)))
        growing = model.ask("Who signs off travel?", on_piece=seen.append)
        whole = model.ask("Who signs off travel?")
    assert seen == ["Nadia ", "Brandt"]
    assert growing == whole and growing.usage == whole.usage


def test_a_reply_without_a_memory_has_no_facts_and_no_decision() -> None:
    with scripted(ok({"choices": CITED["choices"]})) as script:
        answer = Model("seedling", _http=Http(Address(script.url, None))).ask("Who?")
    assert (answer.facts, answer.decision) == ((), None)


# ── making one ────────────────────────────────────────────────────────────────────────────────────────────

MODELS = page({"id": "seedling", "x_kind": "base", "x_default": True})
JOB = ok({"id": "ftjob-1", "status": "queued", "model": "seedling", "created_at": 1})
UPLOADED = ok({"id": "file-1", "bytes": 10})


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({}, {"type": "auto", "auto": {"hyperparameters": {}}}),
        (
            {"unknown": "base", "on_conflict": "coexist"},
            {"type": "auto", "auto": {"hyperparameters": {"x_unknown": "base", "x_on_conflict": "coexist"}}},
        ),
        ({"epochs": 3}, {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}),
        (
            {"method": "lora", "rank": 4},
            {"type": "supervised", "supervised": {"hyperparameters": {"x_rank": 4, "x_method": "lora"}}},
        ),
        ({"method": "memory"}, {"type": "memory", "memory": {"hyperparameters": {}}}),
        (
            {"method": "memory", "experts": True},
            {"type": "memory", "memory": {"hyperparameters": {"x_experts": True}}},
        ),
    ],
)
def test_the_method_goes_as_it_was_chosen(given: dict[str, Any], method: dict[str, Any]) -> None:
    with scripted(UPLOADED, MODELS, JOB) as script, Client(script.url, "sk-test") as client:
        client.tune([("Who?", "Mara")], **given)
    assert sent(script)[2]["method"] == method


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "memory", "epochs": 3}, "epochs is of no use to a memory"),
        ({"method": "lora", "experts": True}, "experts is of use to a memory only"),
        ({"rank": 4, "unknown": "base"}, "unknown is of use to a memory only"),
        ({"method": "memory", "validation": [("Who?", "Mara")]}, "validation is of no use to a memory"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_before_anything_is_sent(
    given: dict[str, Any], words: str
) -> None:
    with scripted(UPLOADED, MODELS, JOB) as script, Client(script.url, "sk-test") as client:
        with pytest.raises(InvalidRequest, match=words):
            client.tune([("Who?", "Mara")], **given)
        assert not script.asked


@pytest.mark.parametrize("kind", ["jsonl", "csv", "python"])
def test_two_answers_to_one_question_are_told_with_their_lines_before_an_upload(
    tmp_path: Path, kind: str
) -> None:
    pairs = [("Who signs?", "Mara"), ("When?", "1987"), ("who signs", "Ida")]
    file = tmp_path / f"facts.{kind}"
    if kind == "csv":
        file.write_text("question,answer\n" + "".join(f"{q},{a}\n" for q, a in pairs))
    else:
        file.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs))
    source = pairs if kind == "python" else file
    first, third = (2, 4) if kind == "csv" else (1, 3)
    with scripted(UPLOADED, MODELS, JOB) as script, Client(script.url, "sk-test") as client:
        with pytest.raises(BadRows, match=f"line {third}, .*line {first} has to the same question"):
            client.tune(source, method="memory")
        assert not script.asked
        client.tune(source, method="memory", on_conflict="replace")
    assert sent(script)[2]["method"]["memory"]["hyperparameters"] == {"x_on_conflict": "replace"}


def test_a_file_with_facts_fields_goes_as_it_is(tmp_path: Path) -> None:
    line = (
        b'{"question": "Who?", "answer": "Mara", "wordings": ["Whom?"], "subject": "Mara", "aliases": []}\n'
    )
    (tmp_path / "facts.jsonl").write_bytes(line)
    with scripted(UPLOADED, MODELS, JOB) as script, Client(script.url, "sk-test") as client:
        client.tune(tmp_path / "facts.jsonl", method="memory")
    assert line in script.asked[0].body


def test_rows_from_python_keep_their_facts_fields() -> None:
    row = {"question": "Who?", "answer": "Mara", "wordings": ["Whom?"], "access": ["hr"]}
    with scripted(UPLOADED, MODELS, JOB) as script, Client(script.url, "sk-test") as client:
        client.tune([row], method="memory")
    (line,) = [line for line in script.asked[0].body.splitlines() if line.startswith(b"{")]
    assert {k: v for k, v in json.loads(line).items() if v} == row


def test_a_keys_groups_are_sent_with_it() -> None:
    with scripted(ok({"key": "sk-new"})) as script, Client(script.url, "sk-test") as client:
        assert client.create_key("payroll", groups=["finance"]) == "sk-new"
    assert sent(script)[2] == {"name": "payroll", "role": "member", "groups": ["finance"]}
