"""Whose turn it is: by class, then by what a project was served, then by age; and before all who was passed over."""

from __future__ import annotations

from inhouse.engine.queue import Queue, lane_of
from inhouse.engine.request import Request, Sequence
from inhouse.schema import Priority, Sampling


def waiting(
    queue: Queue, name: str, project: str, order: int, priority: Priority = "interactive"
) -> Sequence:
    one = Request(name, (1,), Sampling(), 0, 9, project=project, priority=priority)
    one.order = order
    queue.enter(project, 1)
    queue.push(one.choices[0])
    return one.choices[0]


def names(queue: Queue, passed_before: float = -1.0) -> list[str]:
    return [sequence.request.id for sequence in queue.turns((), passed_before=passed_before)]


def test_the_project_that_was_served_least_is_next_and_charging_moves_the_turn() -> None:
    queue = Queue()
    for order, (name, project) in enumerate((("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))):
        waiting(queue, name, project, order)
    taken = []
    for sequence in queue.turns((), passed_before=-1.0):
        taken.append(sequence.request.id)
        queue.charge(sequence, 10 if sequence.request.project == "a" else 4)
    assert taken == ["a1", "b1", "b2", "a2"]


def test_urgent_ones_go_before_batch_whatever_was_served() -> None:
    queue = Queue()
    batch = waiting(queue, "batch", "a", 0, "batch")
    talk = waiting(queue, "talk", "b", 1)
    queue.charge(talk, 1000)
    assert names(queue) == ["talk", "batch"]
    queue.promote(batch)
    assert names(queue) == ["batch", "talk"]


def test_who_was_passed_over_too_long_goes_before_all_others_of_its_class() -> None:
    queue = Queue()
    waiting(queue, "quick", "quick", 1)
    late, later = waiting(queue, "late", "slow", 2), waiting(queue, "later", "slow", 3)
    waiting(queue, "batch", "quick", 0, "batch")
    queue.charge(late, 1000)
    queue.pass_over(later, 5.0)
    queue.pass_over(late, 6.0)
    assert names(queue, passed_before=4.9) == ["quick", "late", "later", "batch"]
    assert names(queue, passed_before=6.0) == ["later", "late", "quick", "batch"]
    queue.remove(later)
    assert later.passed_over_at is None and names(queue, passed_before=6.0) == ["late", "quick", "batch"]
    queue.check_integrity()


def test_a_closed_lane_is_left_out_from_then_on() -> None:
    queue = Queue()
    first = waiting(queue, "a1", "a", 0)
    waiting(queue, "b1", "b", 1)
    waiting(queue, "a2", "a", 2)
    closed = {lane_of(first)}
    assert [s.request.id for s in queue.turns((), passed_before=-1.0, closed=closed)] == ["b1"]
    queue.remove(first)  # it runs, and its prompt is under way
    assert [s.request.id for s in queue.turns([first], passed_before=-1.0, closed=closed)] == ["a1", "b1"]


def test_a_project_that_comes_back_starts_level_with_the_least_served() -> None:
    queue = Queue()
    one = waiting(queue, "a1", "a", 0)
    queue.charge(one, 500)
    waiting(queue, "b1", "b", 1)
    assert names(queue) == ["a1", "b1"], "equal, so the older one"
    queue.charge(one, 1)
    assert names(queue) == ["b1", "a1"]
