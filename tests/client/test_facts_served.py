"""Facts through the client, against a real server and its database; the engine is stubbed at its socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhouse import Client, FactConflict, Facts, InvalidRequest, NotFound, rows
from inhouse.rows.facts import from_rows
from inhouse.schema import FactInput
from tests.server.house import House, remember


@pytest.fixture
def facts(served: House, client: Client) -> Facts:
    """A memory of three facts, one of them for finance alone; asked with a member's key."""
    name, _ = remember(
        served,
        FactInput(question="Who signs off travel?", answer="Nadia Brandt", wordings=("Who approves trips?",)),
        FactInput(question="When does the first ferry leave?", answer="07:40", source="timetable.pdf"),
        FactInput(question="What does Mara earn?", answer="80,000", access=("finance",)),
    )
    return client.model(name).facts


def test_a_fact_lives_through_all_its_changes(facts: Facts) -> None:
    made = facts.add("Who runs the café?", "Ida", wordings=["Whose is the café?"], aliases=["the bar"])
    assert (made.outcome, made.version, made.author) == ("added", 1, "member")
    assert facts.add("Who runs the café?", "Ida").outcome == "unchanged"
    edited = facts.edit(made.id, answer="Ole", aliases=None)
    assert (edited.answer, edited.aliases, edited.version) == ("Ole", (), 2)
    back = facts.rollback(made.id, 1)
    assert (back.answer, back.aliases, back.version) == ("Ida", ("the bar",), 3)
    assert [c.action for c in facts.history(made.id)] == ["rollback", "edit", "add"]
    assert facts.history(made.id)[1].fact_then["answer"] == "Ole"  # type: ignore[index]
    facts.forget(made.id)
    with pytest.raises(NotFound):
        facts.get(made.id)
    assert facts.history(limit=1)[0].action == "forget"
    assert not any(c.fact_then for c in facts.history(made.id))


def test_another_answer_raises_until_it_is_said_what_is_meant(facts: Facts) -> None:
    with pytest.raises(FactConflict, match="Replace or coexist"):
        facts.add("Who signs off travel?", "Pavel Stern")
    assert facts.add("who signs off travel", "Pavel Stern", on_conflict="replace").outcome == "replaced"
    assert facts.add("Who signs off travel?", "Ida Holm", on_conflict="coexist").outcome == "coexists"
    found = facts.search("signs off")
    assert [f.answer for f in found] == ["Pavel Stern", "Ida Holm"]


def test_many_facts_are_listed_once_each_and_in_order(facts: Facts) -> None:
    facts.add_many([(f"What is code {i}?", f"QX-{i}") for i in range(600)])
    codes = [f.answer for f in facts if f.answer.startswith("QX-")]
    assert codes == [f"QX-{i}" for i in range(600)]
    assert len(facts.list(limit=120)) == 120


def test_an_export_comes_back_as_the_same_facts(facts: Facts, served: House, tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    assert facts.export(file) == len(facts.list())
    read = from_rows(rows.read(file), name="facts.jsonl")
    assert not read.problems
    assert [(f.question, f.answer, f.wordings) for f in read.facts] == [
        (f.question, f.answer, f.wordings) for f in facts
    ]
    again, _ = remember(served)
    with Client(served.url, served.member) as client:
        made = client.model(again).facts.add_many(file)
    assert [f.source for f in made] == ["facts.jsonl line 1", "timetable.pdf"]


def test_a_fact_with_an_access_list_is_for_its_groups_alone(facts: Facts, served: House) -> None:
    assert not facts.search("Mara")
    with Client(served.url, served.admin) as admin:
        key = admin.create_key("payroll", groups=["finance"])
        assert len(admin.model(facts.model).facts.search("Mara")) == 1
    with Client(served.url, key) as client:
        (found,) = client.model(facts.model).facts.search("Mara")
    assert found.access == ("finance",)
    with pytest.raises(NotFound):
        facts.get(found.id)


def test_a_field_the_server_does_not_know_is_refused_by_name(facts: Facts) -> None:
    fact = facts.list(limit=1)[0]
    with pytest.raises(InvalidRequest, match="colour"):
        facts.edit(fact.id, colour="red")
    with pytest.raises(InvalidRequest, match="colour"):
        facts.add_many([{"question": "a?", "answer": "b", "colour": "red"}])


def test_the_method_is_the_servers_choice_until_the_rows_are_checked(client: Client) -> None:
    job = client.tune([("Who signs off travel?", "Nadia Brandt"), ("When?", "07:40")])
    said = [event.message for event in job.events(follow=False)]
    while not any("Files validated" in message for message in said):
        said = [event.message for event in job.events(follow=False)]
    assert any(message.startswith("Chose method = memory: ") for message in said)
    assert job.refresh().details["method"]["type"] == "memory"
    job.cancel()
