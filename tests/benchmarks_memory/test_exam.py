"""The memory's examination: what it asks is what it claims to ask."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from benchmarks.memory import measure, names, rivals, uses, weights, wordings, world
from benchmarks.memory.general import general
from benchmarks.memory.noise import FAULTS, noisy
from benchmarks.memory.unknowns import unknowns

FACTS = world.make_facts(300, 5)


def test_the_world_is_a_pure_function_of_its_seed() -> None:
    assert world.make_facts(300, 5) == FACTS
    assert world.make_facts(300, 6) != FACTS
    assert [fact.row() for fact in world.make_facts(300, 5)] == [fact.row() for fact in FACTS]


def test_every_subject_has_its_own_name_and_something_that_is_not_taught() -> None:
    subjects = world.subjects(FACTS)
    assert len({names.squashed(subject.text) for subject in subjects}) == len(subjects)
    assert {subject.text for subject, _ in world.untaught(FACTS)} == {subject.text for subject in subjects}


def test_every_relation_has_four_taught_wordings_and_eight_unseen_ones() -> None:
    assert {k: set(v) for k, v in world.RELATIONS.items()} == {k: set(v) for k, v in wordings.BY_KIND.items()}
    assert sum(len(relations) for relations in wordings.BY_KIND.values()) >= 40
    for relations in wordings.BY_KIND.values():
        for taught, unseen in relations.values():
            assert len(set(taught)) == 4
            assert len(set(unseen)) >= 8
            assert not set(taught) & set(unseen)
            assert all(frame.count("{s}") == 1 for frame in (*taught, *unseen))


def test_an_unseen_wording_is_none_that_a_router_may_have_learnt() -> None:
    asked = {
        wordings.shape(text, "Zorvex A17")
        for kind, relations in wordings.BY_KIND.items()
        for name in relations
        for text in wordings.unseen(kind, name, "Zorvex A17")
    }
    written = {
        wordings.shape(frame, "{s}")
        for rows in wordings.BY_KIND.values()
        for _, unseen in rows.values()
        for frame in unseen
    }
    assert len(asked) > 450 and not asked & wordings.learnt()
    assert written & wordings.learnt(), "some were written that it may have learnt: they are left out"


def test_an_unseen_wording_hardly_ever_uses_the_key_words_of_the_taught_four() -> None:
    """Words that stand in half of the four and belong to this relation, not to asking."""
    shared = total = 0
    for kind, relations in wordings.BY_KIND.items():
        for name, (taught, unseen) in relations.items():
            key_words = {
                word for word in re.findall(r"[a-z]+", world.RELATIONS[kind][name].noun) if len(word) > 4
            }
            assert any(word in " ".join(taught).lower() for word in key_words) or not key_words
            for frame in unseen:
                total += 1
                shared += any(word in frame.lower() for word in key_words)
    assert shared / total < 0.05


def test_no_unknown_is_taught() -> None:
    taken = names.Index(subject.text for subject in world.subjects(FACTS))
    taught = {(fact.subject.text, fact.relation.name) for fact in FACTS}
    found = unknowns(FACTS, 3, 60)
    assert {unknown.group for unknown in found} == {"far", "near", "look-alike"}
    for unknown in found:
        assert unknown.subject in unknown.text
        assert (unknown.subject, unknown.relation.name) not in taught
        assert (unknown.subject in taken) == (unknown.group == "near")
    assert {unknown.change for unknown in found if unknown.group == "look-alike"} == set(names.CHANGES)


def test_noise_never_makes_a_name_that_is_anothers() -> None:
    mine, other, frame = "Lamelo", "Lamello Uno", "{s}?"
    near = names.Index([mine, "Lameelox"])
    drawn = [
        noisy(frame, mine, names.Index([mine]), random.Random(i), "doubling in name")[0] for i in range(200)
    ]
    assert "Lameelo?" in drawn  # the control: this is what the guard keeps out
    drawn = [noisy(frame, mine, near, random.Random(i), "doubling in name")[0] for i in range(200)]
    assert "Lameelo?" not in drawn
    assert "Llamelo?" in drawn
    alone = names.Index([mine, other])
    for each in FAULTS:
        text, made = noisy("Please tell me the price of {s}.", "Kelmira Pump", alone, random.Random(1), each)
        assert made == each
        assert text != "Please tell me the price of Kelmira Pump."


def test_digits_are_never_misspelt() -> None:
    taken = names.Index(())
    for i in range(300):
        text, _ = noisy("Who operates {s}?", "Packing Line 7-B42", taken, random.Random(i))
        assert re.sub(r"\D", "", re.sub(r"^1\)|meeting at 3", "", text)) == "742"


def test_there_are_enough_general_prompts_and_all_differ() -> None:
    prompts = general(FACTS, 1, 400)
    assert len({prompt.text for prompt in prompts}) == 400
    assert any(fact.subject.text in p.text for p in prompts if p.sort == "passage" for fact in FACTS)


@pytest.mark.parametrize("tasks", [uses.training(200, 1), uses.exam(FACTS, 200, 1)])
def test_a_use_is_right_with_the_stored_value_and_wrong_with_another(tasks: list[uses.Use]) -> None:
    assert {use.sort for use in tasks} == set(uses.SORTS)
    for use in tasks:
        assert use.is_right(use.reply)
        if use.sort == "comparison":
            wrong = next(f.subject.text for f in use.facts if f.subject.text != use.reply)
            assert not use.is_right(wrong)
            assert not use.is_right(f"{use.reply} or {wrong}")
        else:
            assert not use.is_right(use.reply.replace(use.facts[0].answer, use.facts[0].answer + "x"))
            assert not use.is_right("I don't know.")
        if use.sort in ("json", "sql"):
            assert not use.is_right("Here it is: " + use.reply)


def test_training_tasks_are_about_other_subjects_in_other_words() -> None:
    exam = uses.exam(FACTS, 200, 1)
    training = uses.training(200, 1, apart_from=FACTS)
    assert not {f.subject.text for u in exam for f in u.facts} & {
        f.subject.text for u in training for f in u.facts
    }
    assert not set(uses.LETTERS[0]) & set(uses.LETTERS[1])


def test_right_is_to_the_letter_and_an_abstention_is_not_wrong() -> None:
    assert measure.verdict(" 12 May 2020\n", "12 May 2020") == "right"
    assert measure.verdict("12 may 2020", "12 May 2020") == "wrong"
    assert measure.verdict("I don’t know.", "12 May 2020") == "abstained"
    table = measure.exam(FACTS, lambda texts: ["I don't know."] * len(texts), seed=1)
    assert table.rows["far invented"].hits == 0
    assert table.rows["taught abstained"].share == 1
    stored = {text: fact.answer for fact in FACTS for text in (*fact.wordings, *fact.unseen)}
    table = measure.exam(FACTS, lambda texts: [stored.get(text, "7") for text in texts], seed=1)
    assert table.rows["taught right"].share == table.rows["unseen right"].share == 1
    assert table.rows["look-alike invented"].share == 1


def test_intervals_are_those_of_the_books() -> None:
    low, high = measure.wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert measure.wilson(0, 0) == (0.0, 1.0)
    middle, low, high = measure.student([1.0, 2.0, 3.0])
    assert middle == 2
    assert round(high - middle, 3) == round(middle - low, 3) == 2.484


def test_an_abstaining_rival_is_never_trained_on_a_question_of_its_exam() -> None:
    asked = rivals.examination(FACTS, 5)
    trained = rivals.unknown_questions(FACTS, asked, 5)
    about = {question.text for question in asked}
    assert len(trained) > 200
    assert not about & set(trained)
    taught = {text for fact in FACTS for text in fact.wordings}
    assert not taught & set(trained)


def test_runs_that_are_finished_are_not_run_again_and_a_torn_line_is_no_run(tmp_path: Path) -> None:
    out = tmp_path / "runs.jsonl"
    rows = {row: {"share": 0.5} for row in weights.SHOWN}
    for rate, rank in weights.TRIES["lora"]:
        for seed in weights.SEARCH_SEEDS:
            found = rows | {"unseen right": {"share": rate * 100}}
            line = {"phase": "search", "method": "lora", "n": 100, "seed": seed, "rate": rate, "rank": rank}
            with out.open("a") as f:
                f.write(json.dumps(line | {"rows": found, "perplexity": 20.0}) + "\n")
    with out.open("a") as f:
        f.write('{"phase": "report", "meth')
    left = next(weights.plans(out, ["lora"], (100,)))
    assert (left.phase, left.seed, left.rate) == ("report", 11, 4e-3)
    done = {"phase": "report", "method": "lora", "n": 100, "seed": 11, "rate": left.rate, "rank": left.rank}
    weights.append(out, done | {"rows": rows, "perplexity": 20.0})
    assert next(weights.plans(out, ["lora"], (100,))).seed == 12
    assert "| lora | 100 | 1 |" in weights.summary(out)
