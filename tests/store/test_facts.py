"""Facts: each change is one revision, versions come back, and what is forgotten is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from inhouse.errors import Conflict, FactConflict, InvalidRequest, NotFound
from inhouse.schema import Bank, Fact, FactInput, File, ModelCard
from inhouse.store.db import Database
from inhouse.store.migrations import NEWEST, migrate
from inhouse.store.records import banks, facts, files, idempotency, keys, models

BANK = "bank-one"


@pytest.fixture
def bank(db: Database) -> str:
    with db.write() as conn:
        banks.add(conn, a_bank())
        banks.add(conn, a_bank(id="bank-other", project="other"))
    return BANK


def a_bank(**changes: Any) -> Bank:
    values = {"id": BANK, "project": "default", "base": "seedling", "base_digest": "b" * 64}
    return Bank.model_validate({**values, "created_at": 1.0, **changes})


def ask(what: str, answer: str = "7", **fields: Any) -> FactInput:
    return FactInput.model_validate({"question": f"What is {what}?", "answer": answer, **fields})


def add(db: Database, bank: str, input: FactInput, **options: Any) -> tuple[Fact, str]:
    with db.write() as conn:
        return facts.add(conn, bank, input, author="ann", now=2.0, **options)


def revision(db: Database, bank: str) -> int:
    with db.read() as conn:
        return banks.revision(conn, bank)


FULL = ask(
    "the pin of Ümläut",
    "0042",
    wordings=("The pin of Ümläut, please", "Ümläut's pin?"),
    subject="Ümläut",
    aliases=("UML",),
    kind="code",
    source="handbook, p. 3",
    span="The pin is 0042.",
    access=("hr", "it"),
    valid_from=1.5,
    valid_until=99.0,
)


def test_a_fact_comes_back_as_it_was(db: Database, bank: str) -> None:
    made, outcome = add(db, bank, FULL)
    assert outcome == "added"
    with db.read() as conn:
        found = facts.get(conn, bank, made.id)
        assert found == made == facts.find(conn, "default", made.id)
        assert list(facts.every(conn, bank)) == [made]
    assert {name: getattr(found, name) for name in FactInput.model_fields} == FULL.model_dump()
    assert (found.version, found.revision, found.author, found.created_at) == (1, 1, "ann", 2.0)


def test_a_thousand_facts_are_one_revision(db: Database, bank: str) -> None:
    inputs = [ask(f"number {i}", str(i)) for i in range(1000)]
    statuses: list[facts.Status] = [("live", None)] * 999 + [("retrieval_only", "too long")]
    with db.write() as conn:
        made = facts.add_many(conn, bank, inputs, author="ann", now=2.0, file="file-a", statuses=statuses)
    assert revision(db, bank) == 1 and {fact.revision for fact in made} == {1}
    assert (made[-1].status, made[-1].reason, made[0].file) == ("retrieval_only", "too long", "file-a")
    with db.read() as conn:
        assert [fact.answer for fact in facts.every(conn, bank)] == [str(i) for i in range(1000)]


def test_the_same_question_with_another_answer_is_a_conflict_that_names_the_other(
    db: Database, bank: str
) -> None:
    made, _ = add(db, bank, ask("the pin", "1"))
    with pytest.raises(FactConflict) as caught:
        add(db, bank, FactInput(question="what is  THE pin", answer="2"))
    assert made.id in caught.value.message and "coexist" in caught.value.message
    assert (caught.value.status, caught.value.code) == (409, "fact_conflict")
    assert isinstance(caught.value, Conflict)
    assert revision(db, bank) == 1, "a refused change raises nothing"


def test_a_conflict_is_settled_as_was_asked(db: Database, bank: str) -> None:
    first, _ = add(db, bank, ask("the pin", "1", span="It is 1.", access=("hr",), wordings=("Pin?",)))
    kept, outcome = add(db, bank, ask("the pin", "2"), on_conflict="replace")
    assert (outcome, kept.id, kept.version, kept.answer) == ("replaced", first.id, 2, "2")
    assert kept.span is None, "the span said the old answer"
    assert (kept.access, kept.wordings) == (("hr",), ("Pin?",)), "who may see it is not widened by the way"
    beside, outcome = add(db, bank, ask("the pin", "3"), on_conflict="coexist")
    assert outcome == "coexists" and beside.id != first.id
    with pytest.raises(FactConflict, match="which fact"):
        add(db, bank, ask("the pin", "4"), on_conflict="replace")
    assert revision(db, bank) == 3


def test_the_same_fact_again_changes_nothing_and_what_is_new_of_it_is_kept(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("the pin", "1", wordings=("Pin?",)))
    assert add(db, bank, ask("the PIN", " 1")) == (made, "unchanged")
    assert revision(db, bank) == 1
    more, outcome = add(db, bank, ask("the pin", "1", wordings=("PIN number?",), source="page 2"))
    assert (outcome, more.wordings, more.source) == ("replaced", ("Pin?", "PIN number?"), "page 2")


def test_a_wording_conflicts_like_a_question(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("the pin", "1", wordings=("Which pin?",)))
    with pytest.raises(FactConflict, match=made.id):
        add(db, bank, FactInput(question="which pin", answer="2"))
    with pytest.raises(FactConflict, match=made.id):
        add(db, bank, FactInput(question="Another thing?", answer="2", wordings=("What is the pin",)))
    with pytest.raises(FactConflict, match=made.id):
        add(db, bank, FactInput(question="which pin", answer="2"), on_conflict="replace")
    other, _ = add(db, bank, FactInput(question="Which number?", answer="2"))
    with pytest.raises(FactConflict, match=made.id), db.write() as conn:
        facts.edit(conn, bank, other.id, {"wordings": ["Which pin?"]}, author="bob", now=3.0)
    with db.write() as conn:
        shared = facts.edit(
            conn, bank, other.id, {"wordings": ["Which pin?"]}, author="b", now=3.0, on_conflict="coexist"
        )
        facts.edit(conn, bank, other.id, {"source": "p. 1"}, author="b", now=4.0)
    assert shared.version == 2, "and what stands beside another already may be edited"


def test_a_batch_is_stored_whole_or_not_at_all(db: Database, bank: str) -> None:
    batch = [ask("a"), ask("b"), ask("a", "another")]
    with pytest.raises(FactConflict), db.write() as conn:
        facts.add_each(conn, bank, batch, author="ann", now=1.0)
    with db.write() as conn:
        assert list(facts.every(conn, bank)) == []
        told = facts.add_each(conn, bank, batch, author="ann", now=1.0, on_conflict="replace")
    assert [outcome for _, outcome in told] == ["added", "added", "replaced"]
    assert revision(db, bank) == 1


def test_an_edit_is_a_version_and_the_same_edit_again_is_none(db: Database, bank: str) -> None:
    made, _ = add(db, bank, FULL)
    with db.write() as conn:
        edited = facts.edit(conn, bank, made.id, {"answer": "0043"}, author="bob", now=5.0)
        again = facts.edit(conn, bank, made.id, {"answer": "0043"}, author="eve", now=6.0)
    assert (edited.version, edited.revision, edited.author, edited.updated_at) == (2, 2, "bob", 5.0)
    assert (edited.created_at, edited.span, edited.subject) == (2.0, None, "Ümläut")
    assert again == edited and revision(db, bank) == 2
    with pytest.raises(NotFound), db.write() as conn:
        facts.edit(conn, "bank-other", made.id, {"answer": "1"}, author="eve", now=6.0)


def test_an_earlier_version_comes_back_as_a_new_one(db: Database, bank: str) -> None:
    made, _ = add(db, bank, FULL)
    with db.write() as conn:
        facts.edit(conn, bank, made.id, {"answer": "1", "question": "Q?"}, author="bob", now=5.0)
        back = facts.rollback(conn, bank, made.id, 1, author="eve", now=6.0)
        lines, has_more = facts.history(conn, bank, fact=made.id, limit=10)
        with pytest.raises(NotFound, match="no version 9"):
            facts.rollback(conn, bank, made.id, 9, author="eve", now=6.0)
    assert {name: getattr(back, name) for name in FactInput.model_fields} == FULL.model_dump()
    assert (back.version, back.revision) == (3, 3)
    assert [(line.version, line.action, line.author) for line in lines] == [
        (3, "rollback", "eve"),
        (2, "edit", "bob"),
        (1, "add", "ann"),
    ]
    assert lines[1].fact_then is not None and lines[1].fact_then["answer"] == "1"
    assert not has_more


def test_after_forgetting_a_line_without_text_is_all_that_is_left(db: Database, bank: str) -> None:
    kept, _ = add(db, bank, ask("kept"))
    made, _ = add(db, bank, ask("the canary", "0", wordings=("Canary?",)))
    with db.write() as conn:
        facts.edit(conn, bank, made.id, {"answer": "canary two"}, author="bob", now=3.0)
        report = {"n": 2, "slow": [made.id, kept.id, {"question": made.question, "loss": 1}], "by": {"x": 3}}
        banks.set_report(conn, bank, report)
        assert facts.put_expert(
            conn, bank, made.id, version=2, base_digest="b", rank=1, weights=b"canary", losses=[1.0]
        )
        gone = facts.forget(conn, bank, made.id, author="eve", now=4.0)
    assert gone == facts.FactForgotten(made.id)
    with db.read() as conn:
        with pytest.raises(NotFound):
            facts.get(conn, bank, made.id)
        lines, _ = facts.history(conn, bank, fact=made.id, limit=10)
        assert [(line.action, line.author, line.fact_then) for line in lines] == [
            ("forget", "eve", None),
            ("edit", "bob", None),
            ("add", "ann", None),
        ]
        assert facts.expert(conn, made.id) is None and facts.experts(conn, bank) == []
        assert facts.bank_of(conn, "default", made.id) == bank
        assert banks.get(conn, "default", bank).report == {"n": 2, "slow": [kept.id], "by": {"x": 3}}
        for table in sa.inspect(conn).get_table_names():
            assert "canary" not in str(conn.execute(sa.text(f"SELECT * FROM {table}")).all()), table
    with pytest.raises(NotFound), db.write() as conn:
        facts.rollback(conn, bank, made.id, 1, author="eve", now=5.0)


def test_forgetting_takes_the_uploads_that_the_fact_came_from(db: Database, bank: str) -> None:
    def a_file(id: str, digest: str, project: str = "default") -> File:
        return File(
            id=id, project=project, filename="f", purpose="p", bytes=1, digest=digest * 64, created_at=1.0
        )

    with db.write() as conn:
        for id, digest in [("file-a", "1"), ("file-again", "1"), ("file-b", "2"), ("file-c", "3")]:
            files.add(conn, a_file(id, digest))
        files.add(conn, a_file("file-theirs", "2", "other"))
        one, two = (
            facts.add_many(conn, bank, [ask(what)], author="ann", now=1.0, file=file)[0]
            for what, file in [("one", "file-a"), ("two", "file-b")]
        )
        first = facts.forget(conn, bank, one.id, author="ann", now=2.0)
        second = facts.forget(conn, bank, two.id, author="ann", now=2.0)
        left, _ = files.page(conn, "default")
    assert (first.files, first.digests) == (("file-a", "file-again"), ("1" * 64,))
    assert (second.files, second.digests) == (("file-b",), ()), "another project's bytes are its own"
    assert [file.id for file in left] == ["file-c"]


def test_a_kept_reply_that_holds_the_fact_is_replaced_so_that_no_retry_brings_it_back(
    db: Database, bank: str
) -> None:
    made, _ = add(db, bank, ask("it"))
    with db.write() as conn:
        for project, key, body in [
            ("default", "k", made.id),
            ("default", "l", "else"),
            ("other", "k", made.id),
        ]:
            assert idempotency.reserve(conn, project, key, "h", 1e10) is None
            idempotency.finish(conn, project, key, 200, b'{"id": "%b"}' % body.encode())
        facts.forget(conn, bank, made.id, author="ann", now=2.0)
        replies = [
            idempotency.reserve(conn, project, key, "h", 1e10)
            for project, key in [("default", "k"), ("default", "l"), ("other", "k")]
        ]
    assert [reply and reply.status for reply in replies] == [404, 200, 200]
    assert replies[0] is not None and made.id.encode() not in replies[0].body


def test_what_changed_since_a_revision_is_told_with_what_was_forgotten(db: Database, bank: str) -> None:
    one, _ = add(db, bank, ask("one"))
    two, _ = add(db, bank, ask("two"))
    three, _ = add(db, bank, ask("three"))
    seen = revision(db, bank)
    with db.write() as conn:
        edited = facts.edit(conn, bank, one.id, {"answer": "8"}, author="ann", now=3.0)
        facts.forget(conn, bank, two.id, author="ann", now=3.0)
        four, _ = facts.add(conn, bank, ask("four"), author="ann", now=3.0)
        facts.forget(conn, bank, four.id, author="ann", now=3.0)
    with db.read() as conn:
        assert facts.changed_since(conn, bank, seen) == ([edited], [two.id, four.id])
        assert facts.changed_since(conn, bank, 0) == ([edited, three], [two.id, four.id])
        assert facts.changed_since(conn, bank, revision(db, bank)) == ([], [])


def test_a_fact_for_some_does_not_exist_for_others(db: Database, bank: str) -> None:
    secret, _ = add(db, bank, ask("the bonus", "9", access=("hr",)))
    public, _ = add(db, bank, ask("the door", "left"))
    nobody, hr = frozenset[str](), frozenset({"hr", "x"})
    with db.write() as conn:
        for groups, seen in [(nobody, [public]), (hr, [secret, public]), (None, [secret, public])]:
            assert facts.page(conn, bank, groups=groups) == (seen, False)
            assert facts.page(conn, bank, groups=groups, search="BONUS")[0] == [
                f for f in seen if f == secret
            ]
        assert facts.get(conn, bank, secret.id, groups=hr) == secret
        options: Any = {"author": "eve", "now": 3.0, "groups": nobody}
        for refused in (
            lambda: facts.get(conn, bank, secret.id, groups=nobody),
            lambda: facts.find(conn, "default", secret.id, groups=nobody),
            lambda: facts.bank_of(conn, "default", secret.id, groups=nobody),
            lambda: facts.edit(conn, bank, secret.id, {"answer": "1"}, **options),
            lambda: facts.forget(conn, bank, secret.id, **options),
            lambda: facts.rollback(conn, bank, secret.id, 1, **options),
        ):
            with pytest.raises(NotFound, match=r"There is no fact"):
                refused()
        own, outcome = facts.add(conn, bank, ask("the bonus", "mine"), **options)
        assert outcome == "added", "a conflict would tell of the other"
        lines, _ = facts.history(conn, bank, groups=nobody)
        assert {line.fact for line in lines} == {own.id, public.id}


def test_a_version_from_before_a_fact_was_opened_stays_closed(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("the bonus", "9", access=("hr",)))
    with db.write() as conn:
        facts.edit(conn, bank, made.id, {"access": [], "answer": "public"}, author="ann", now=3.0)
        lines, _ = facts.history(conn, bank, fact=made.id, groups=frozenset())
        assert [line.version for line in lines] == [2]
        with pytest.raises(NotFound, match="no version 1"):
            facts.rollback(conn, bank, made.id, 1, author="eve", now=4.0, groups=frozenset())


@pytest.mark.parametrize("groups", [None, frozenset({"a"})])
def test_pages_show_every_fact_once(
    db: Database, bank: str, groups: frozenset[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "CHUNK", 3)
    inputs = [ask(f"n {i}", access=("a",) if i % 3 else ("b",) if groups else ()) for i in range(20)]
    with db.write() as conn:
        made = facts.add_many(conn, bank, inputs, author="ann", now=1.0)
        expected = [fact for i, fact in enumerate(made) if groups is None or i % 3]
        for limit in (1, 2, 5, len(expected), 50):
            seen: list[Fact] = []
            more = True
            while more:
                after = seen[-1].id if seen else None
                piece, more = facts.page(conn, bank, groups=groups, after=after, limit=limit)
                assert 0 < len(piece) <= limit
                seen += piece
            assert seen == expected
        with pytest.raises(InvalidRequest):
            facts.page(conn, bank, groups=groups, after="fact-none")


def test_searching_looks_at_every_text_and_at_no_case(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("x", "STRASSE", wordings=("a Wording",), subject="Öl", aliases=("Nick",)))
    add(db, bank, ask("y", "other"))
    with db.read() as conn:
        for words in ("straße", "wording", "öl", "NICK", "what is X"):
            assert facts.page(conn, bank, groups=None, search=words)[0] == [made], words
        assert facts.page(conn, bank, groups=None, search="nowhere")[0] == []


def test_an_expert_is_for_one_version_and_goes_when_what_it_learned_changes(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("it"))

    def put(conn: sa.Connection, version: int) -> bool:
        return facts.put_expert(
            conn,
            bank,
            made.id,
            version=version,
            base_digest="b",
            rank=1,
            weights=b"\0w",
            losses={"worst": 0.1},
        )

    with db.write() as conn:
        assert not put(conn, 2) and put(conn, 1) and put(conn, 1)
        assert facts.expert(conn, made.id) == b"\0w"
        facts.edit(conn, bank, made.id, {"source": "p. 2"}, author="ann", now=3.0)
        (found,) = facts.experts(conn, bank)
        assert (found.fact, found.version, found.rank, found.losses) == (made.id, 2, 1, {"worst": 0.1})
        facts.edit(conn, bank, made.id, {"answer": "8"}, author="ann", now=3.0)
        assert facts.experts(conn, bank) == [] and not put(conn, 2)


def test_a_bank_is_found_through_its_model_and_deleted_with_all_it_holds(db: Database, bank: str) -> None:
    card = ModelCard(
        name="ft:m", project="default", kind="memory", base="seedling", created_at=1.0, about={"bank": bank}
    )
    add(db, bank, ask("canary"))
    add(db, "bank-other", ask("theirs"))
    with db.write() as conn:
        assert banks.of_model(conn, card) == banks.get(conn, "default", bank) == banks.get(conn, None, bank)
        with pytest.raises(InvalidRequest, match="no memory model"):
            banks.of_model(conn, card.model_copy(update={"kind": "adapter"}))
        with pytest.raises(NotFound):
            banks.get(conn, "other", bank)
        banks.delete(conn, bank)
        for call in (banks.revision, banks.bump, banks.hold):
            with pytest.raises(NotFound):
                call(conn, bank)
        for table in sa.inspect(conn).get_table_names():
            assert "canary" not in str(conn.execute(sa.text(f"SELECT * FROM {table}")).all()), table
        assert len(list(facts.every(conn, "bank-other"))) == 1


def test_deleting_a_bank_takes_its_files(db: Database, bank: str) -> None:
    with db.write() as conn:
        for id in ("file-a", "file-b", "file-c"):
            digest = id[-1] * 64
            files.add(
                conn,
                File(
                    id=id,
                    project="default",
                    filename="f",
                    purpose="p",
                    bytes=1,
                    digest=digest,
                    created_at=1.0,
                ),
            )
        banks.add(conn, a_bank(id="bank-x", files=("file-a",)))
        facts.add_many(conn, "bank-x", [ask("it")], author="a", now=1.0, file="file-b")
        purged = banks.delete(conn, "bank-x")
    assert (purged.files, purged.digests) == (("file-a", "file-b"), ("a" * 64, "b" * 64))


def test_changes_at_the_same_time_are_revisions_of_their_own_and_conflicts_are_seen(
    db: Database, bank: str
) -> None:
    told: list[str] = []

    def work(i: int) -> None:
        for j in range(5):
            try:
                told.append(add(db, bank, ask(f"shared {j}", str(i)))[1])
            except FactConflict:
                told.append("conflict")
            add(db, bank, ask(f"own {i} {j}"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["added"] * 5 + ["conflict"] * 15
    with db.read() as conn:
        found = list(facts.every(conn, bank))
        assert sorted(fact.revision for fact in found) == list(range(1, 26)) and revision(db, bank) == 25


def test_a_keys_groups_come_back(db: Database) -> None:
    with db.write() as conn:
        keys.add(conn, project="a", name="n", secret_hash="1", role="member", now=1.0, groups=["hr", "it"])
        keys.add(conn, project="a", name="m", secret_hash="2", role="member", now=1.0)
        found = keys.by_hash(conn, "1")
        assert found is not None and found.groups == ("hr", "it")
        assert [key.groups for key in keys.list(conn, "a")] == [("hr", "it"), ()]


def test_rows_of_the_schema_before_facts_come_along(database_url: str) -> None:
    db = Database(database_url)
    migrate(db, to="0001")
    with db.write() as conn:
        conn.exec_driver_sql(
            "INSERT INTO keys (id, project, name, secret_hash, role, created_at) "
            "VALUES ('key_1', 'a', 'n', 'h', 'member', 1.0)"
        )
        conn.exec_driver_sql(
            "INSERT INTO models (project, name, kind, base, created_at, facts) "
            "VALUES ('a', 'm', 'adapter', 'seedling', 1.0, '{\"rank\": 8}')"
        )
    assert migrate(db) == NEWEST
    with db.read() as conn:
        assert models.get(conn, "a", "m").about == {"rank": 8}
        assert [key.groups for key in keys.list(conn, "a")] == [()]
    db.dispose()


def test_lines_of_a_hidden_fact_stay_hidden_when_it_is_forgotten(db: Database, bank: str) -> None:
    was_open, _ = add(db, bank, ask("the bonus", "9"))
    public, _ = add(db, bank, ask("the door"))
    nobody, hr = frozenset[str](), frozenset({"hr"})
    with db.write() as conn:
        facts.edit(conn, bank, was_open.id, {"access": ["hr"]}, author="ann", now=3.0)
        for fact in (was_open, public):
            facts.forget(conn, bank, fact.id, author="ann", now=4.0)
        seen = {line.fact for line in facts.history(conn, bank, groups=nobody)[0]}
        assert seen == {public.id}, "control: what was open still has its lines"
        with pytest.raises(NotFound):
            facts.bank_of(conn, "default", was_open.id, groups=nobody)
        assert len(facts.history(conn, bank, fact=was_open.id, groups=hr)[0]) == 3
        assert facts.bank_of(conn, "default", was_open.id, groups=hr) == bank


def test_the_same_fact_with_another_access_list_is_asked_about(db: Database, bank: str) -> None:
    made, _ = add(db, bank, ask("it"))
    restricted = ask("it", access=("hr",))
    with pytest.raises(FactConflict, match=f"{made.id} .*access list"):
        add(db, bank, restricted)
    beside, outcome = add(db, bank, restricted, on_conflict="coexist")
    assert (outcome, beside.id != made.id) == ("coexists", True)
    assert add(db, bank, restricted) == (beside, "unchanged"), "control: the same list is no conflict"
    closed, outcome = add(db, bank, ask("it", access=("it",)), on_conflict="replace")
    assert (closed.id, closed.access, outcome) == (made.id, ("it",), "replaced")
