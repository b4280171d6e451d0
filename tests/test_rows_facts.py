"""Facts out of rows: duplicates are one fact, contradictions are told with both lines, and nothing is guessed."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse import rows
from inhouse.rows import facts
from inhouse.rows.facts import FactRows, from_rows, looks_like_facts, normal_question
from inhouse.schema import FactInput


def read(*items: Any, **options: Any) -> FactRows:
    return from_rows(rows.read(items), name="facts.jsonl", **options)


def qa(question: str, answer: str = "7", **labels: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **labels}


SIX = [
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": " Mara "}]},
    {"input": "Who?", "output": "Mara"},
    {"prompt": "Who?", "completion": " Mara"},
    {"question": "Who?", "answer": "Mara"},
    {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Mara"}]},
    {"instruction": "Who?", "output": "Mara"},
]


@pytest.mark.parametrize("item", SIX)
def test_every_format_with_one_question_and_one_reply_is_a_fact(item: dict[str, Any]) -> None:
    found = read(item)
    assert found.facts == (FactInput(question="Who?", answer="Mara", source="facts.jsonl line 1"),)
    assert (found.lines, found.duplicates, found.problems) == ((1,), 0, ())


def test_all_that_a_row_says_of_its_fact_comes_along() -> None:
    labels = {
        "wordings": ["Whose is it?", "Who has it?"],
        "subject": "the desk",
        "aliases": ["desk 4"],
        "kind": "text",
        "source": "plan.pdf, p. 2",
        "span": "Desk 4: Mara",
        "access": ["hr"],
        "valid_from": 10,
        "valid_until": "2031-01-31",
    }
    (fact,) = read(qa("Who?", "Mara", **labels, id="x", metadata={"a": 1})).facts
    given = {**labels, "valid_from": 10.0, "valid_until": 1927584000.0}
    assert fact == FactInput.model_validate({"question": "Who?", "answer": "Mara", **given})


def test_labels_survive_being_written_and_are_no_part_of_what_is_trained(tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text(
        "question,answer,wordings,aliases,valid_from,source\n"
        "Who?,Mara,Whose? | Who has it?,,2030-01-01T00:00+01:00,plan\n"
        "Where?,Here,,,,\n"
    )
    loaded = rows.load(tmp_path / "facts.csv")
    assert all([m.role for m in row.messages] == ["user", "assistant"] for row in loaded)
    again = rows.load(io.BytesIO(b"".join(row.to_line() for row in loaded)))
    found, same = (from_rows(each, name="facts.csv") for each in (loaded, again))
    assert found.facts[0] == same.facts[0]
    assert found.facts[0].wordings == ("Whose?", "Who has it?")
    assert (found.facts[0].source, found.facts[0].valid_from) == ("plan", 1893452400.0)
    assert found.facts[1] == FactInput(question="Where?", answer="Here", source="facts.csv line 3")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (qa("Q?", wordings="a", wordngs="b"), "wordngs"),
        (qa("Q?", wordings={"a": 1}), "wordings"),
        (qa("Q?", wordings=["a", 3]), "wordings[1]"),
        (qa("Q?", aliases=["a", " "]), "aliases[1]"),
        (qa("Q?", subject=3), "subject"),
        (qa("Q?", kind="colour"), "kind"),
        (qa("Q?", valid_from="soon"), "valid_from"),
        (qa("Q?", valid_from=True), "valid_from"),
        (qa("Q?", valid_until=float("inf")), "valid_until"),
        ({"input": "Q?", "output": "A", "wordings": ["a"]}, "wordings"),
        ({**SIX[0], "subject": "a"}, "subject"),
    ],
)
def test_a_label_that_would_be_ignored_is_refused_by_name(row: dict[str, Any], field: str) -> None:
    report = rows.check([row])
    assert [problem.field for problem in report.problems] == [field]
    assert report.problems[0].cure


def test_the_same_fact_twice_is_one_fact_that_knows_all_that_was_said() -> None:
    found = read(
        qa("Who has Desk 4?", "Mara", wordings=["Whose is desk 4?"]),
        qa("Where is it?", "Here"),
        qa("who has  desk-4", "Mara ", wordings=["Who sits at 4?"], source="plan"),
    )
    assert [fact.question for fact in found.facts] == ["Who has Desk 4?", "Where is it?"]
    assert found.facts[0].wordings == ("Whose is desk 4?", "Who sits at 4?")
    assert found.facts[0].source == "plan"
    assert (found.lines, found.duplicates, found.problems) == ((1, 2), 1, ())


def test_two_answers_to_one_question_are_told_with_both_lines_and_what_to_pass() -> None:
    found = read(qa("What is A?", "1"), qa("What is B?", "2"), qa("what is a", "3"))
    (problem,) = found.problems
    assert (problem.line, problem.field) == (3, "answer")
    assert "line 1" in problem.reason
    assert "replace" in problem.cure and "coexist" in problem.cure
    assert "3" not in problem.reason.replace("line 1", ""), "no answer is quoted"


def test_two_answers_are_settled_as_was_asked() -> None:
    given = [qa("A?", "1", span="it is 1", wordings=["a"], access=["hr"]), qa("B?", "2"), qa("a?", "3")]
    replaced = read(*given, on_conflict="replace")
    assert [(fact.question, fact.answer) for fact in replaced.facts] == [("A?", "3"), ("B?", "2")]
    assert (replaced.facts[0].span, replaced.facts[0].access) == (None, ("hr",))
    assert (replaced.lines, replaced.problems) == ((3, 2), ())
    both = read(*given, on_conflict="coexist")
    assert [fact.answer for fact in both.facts] == ["1", "2", "3"] and not both.problems


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        (qa("?!"), "question", "no letter"),
        (qa("one\n\ntwo"), "question", "paragraphs"),
        (qa("word " * 61), "question", "61 words"),
        (qa("Q?", "x" * 21), "answer", "over the limit of 20"),
        (qa("Q?", wordings=["..."]), "wordings", "no letter"),
        (qa("Q?", wordings=[f"w {i}" for i in range(101)]), "wordings", "101"),
        (qa("Q?", subject="x" * 2001), "subject", "longer"),
        (qa("Q?", valid_from=2, valid_until=1), "valid_until", "not after"),
        ({"instruction": "Q?", "output": "x" * 21}, "output", "limit"),
        (qa("Q?", system="Be brief."), None, "system message"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2},
            None,
            "4 messages",
        ),
        (qa("Q?", " "), "answer", "is empty"),
        ("nonsense", None, "not a row"),
    ],
)
def test_what_is_no_fact_is_told_with_line_and_cure(row: Any, field: str | None, says: str) -> None:
    found = read(qa("First?"), row, most_answer_characters=20)
    (problem,) = found.problems
    assert (problem.line, problem.field) == (2, field)
    assert says in problem.reason and problem.cure


def test_a_wording_that_is_another_facts_question_is_told_with_both_lines() -> None:
    (problem,) = read(qa("A?", "1", wordings=["B"]), qa("B?", "2")).problems
    assert (problem.line, problem.field) == (1, "wordings") and "line 2" in problem.reason
    (problem,) = read(qa("A?", "1", wordings=["C?"]), qa("B?", "2", wordings=["c"])).problems
    assert problem.line == 2 and "line 1" in problem.reason
    assert not read(qa("A?", "1", wordings=["a", "C?"]), qa("B?", "1", wordings=["c"])).problems
    assert not read(qa("A?", "1", wordings=["B"]), qa("B?", "2"), on_conflict="coexist").problems


def test_the_same_fact_for_others_is_asked_about_and_never_opened_by_the_way() -> None:
    (problem,) = read(qa("A?", access=["hr"]), qa("A?")).problems
    assert (problem.line, problem.field) == (2, "access") and "line 1" in problem.reason


def test_problems_are_in_line_order_and_a_hundred_at_most() -> None:
    bad = [qa("A?", str(i)) for i in range(300)]
    found = read(*bad)
    assert [problem.line for problem in found.problems] == list(range(2, 102))
    mixed = read(qa("A?", "1", wordings=["B"]), qa("B?", "2"), qa("!"))
    assert [problem.line for problem in mixed.problems] == [1, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is Mara's PIN?", "what is  mara’s pin"),
        ("¿Dónde está?", "Dónde está"),
        ("The ＡＢＣ-code?", "the abc code"),
        ("STRASSE", "straße"),
    ],
)
def test_questions_that_differ_in_writing_only_are_one(one: str, other: str) -> None:
    assert normal_question(one) == normal_question(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C?", "What is C#?"),
        ("A-1?", "A1?"),
        ("5 €?", "5 $?"),
        ("कि?", "की?"),
        ("Is it 15?", "Is it 1.5?"),
    ],
)
def test_questions_that_differ_in_more_stay_apart(one: str, other: str) -> None:
    assert normal_question(one) != normal_question(other)


def looks(*items: Any) -> tuple[bool, str]:
    return looks_like_facts(rows.read(items))


def test_short_questions_with_short_answers_look_like_facts_and_it_says_why() -> None:
    short = [qa(f"What is {i}?", str(i)) for i in range(18)]
    long = qa("Why?", "word " * 31)
    assert looks(*short, long, long) == (
        True,
        "18 of 20 rows are short questions with short answers",
    )
    assert looks(*short[:17], long, long)[0] is False
    assert looks(*short[:8], *[qa("word " * 41, "a")] * 2)[0] is False
    assert looks(*short[:8], *[qa("Q?", "a", system="s")] * 2)[0] is False
    assert looks("nonsense")[0] is False


def test_many_rows_with_few_answers_are_a_task() -> None:
    labels = [qa(f"Is review {i} good?", "yes" if i % 2 else "no") for i in range(40)]
    is_facts, reason = looks(*labels)
    assert not is_facts and "2 answers" in reason
    worded = [qa(f"Wording {i % 8} of {i // 8}?", str(i // 8)) for i in range(400)]
    assert looks(*worded)[0], "eight wordings a fact, each on a line of its own"


@pytest.mark.timeout(60)
def test_a_hundred_thousand_rows_are_read_quickly_and_the_index_stays_small(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    with file.open("w") as out:
        for i in range(100_000):
            row = qa(f"What is the code of part {i}?", f"{i:08}", wordings=[f"Part {i}'s code?"])
            out.write(json.dumps(row) + "\n")

    def lines() -> Iterator[Any]:
        yield from rows.read(file)

    started = time.process_time()
    found = from_rows(lines(), name="facts.jsonl")
    taken_s = time.process_time() - started
    assert (len(found.facts), found.problems) == (100_000, ())
    assert taken_s < 30, "about 5 s on a shared core; far more means that something is no longer linear"


def test_control_the_hundred_problems_stop_the_reading() -> None:
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield qa("A?", str(taken))

    assert len(from_rows(rows.read(endless()), name="f").problems) == facts.MOST_PROBLEMS
    assert taken == 101
