"""Facts in use: the task adapter's instructions are not the exam's, and every exam task is told by its instruction."""

from __future__ import annotations

import pytest

from benchmarks.memory import uses, world
from benchmarks.memory.instructions import assert_apart, reworded
from benchmarks.memory.using import TASKS, instruction, tasks_of


def test_a_task_adapter_s_instructions_share_no_three_words_in_a_row_with_the_exam_s() -> None:
    reworded(uses.training(8, 1), 1)  # raises where one does


def test_a_form_of_the_exam_is_noticed_among_them() -> None:
    for form in (*uses.LETTERS[1], *uses.CONDITIONS[1]):
        with pytest.raises(AssertionError, match="too near the exam"):
            assert_apart([form])


def test_rewording_keeps_facts_and_replies_and_names_all_that_is_asked() -> None:
    tasks = uses.training(80, 1)
    made = reworded(tasks, 1)
    assert made == reworded(tasks, 1)
    assert [(t.facts, t.reply) for t in made] == [(t.facts, t.reply) for t in tasks]
    for task in made:
        assert all(fact.subject.text in task.prompt for fact in task.facts)
        wanted = task.facts[0].relation.name if task.sort in ("json", "sql") else task.facts[0].relation.noun
        assert wanted in task.prompt


def test_every_exam_task_is_counted_under_its_instruction() -> None:
    tasks = tasks_of(world.make_facts(100, 1), 1)
    assert len(tasks) == 4 * TASKS
    assert "another" not in {instruction(task) for task in tasks}
