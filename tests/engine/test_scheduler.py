"""Who goes next: pure, so its tests need neither model nor clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.engine.pages import Pages
from inhouse.engine.request import Request, Sequence
from inhouse.engine.scheduler import Plan, Scheduler
from inhouse.engine.slots import Slots
from inhouse.errors import ContextLengthExceeded, InvalidRequest
from inhouse.schema import Sampling


def scheduler_of(
    pages: int = 16, *, slots: int = 2, max_running: int = 4, budget: int = 8, patience_s: float = 2.0
) -> Scheduler:
    return Scheduler(
        Pages(pages, 4), Slots(slots), max_running=max_running, token_budget=budget, patience_s=patience_s
    )


def request(
    name: str,
    prompt: int,
    new: int = 4,
    *,
    adapter: str | None = None,
    expert: str | None = None,
    n: int = 1,
) -> Request:
    return Request(
        name, tuple(range(prompt)), Sampling(), 0, prompt + new, frozenset({99}), adapter, expert, n=n
    )


def step(scheduler: Scheduler, now: float = 0.0, token: int = 7) -> Plan:
    plan = scheduler.plan(now)
    scheduler.commit(plan, {row.sequence: token for row in plan.rows if row.samples})
    scheduler.check_integrity()
    return plan


def told(plan: Plan) -> list[tuple[str, int, int]]:
    return [(row.sequence.request.id, row.start, row.count) for row in plan.rows]


def test_a_long_prompt_is_read_in_chunks_of_the_budget() -> None:
    scheduler = scheduler_of()
    scheduler.add(request("a", 20), 0)
    plans = [step(scheduler) for _ in range(4)]
    assert [told(p)[0] for p in plans] == [("a", 0, 8), ("a", 8, 8), ("a", 16, 4), ("a", 20, 1)]
    assert [p.rows[0].samples for p in plans] == [False, False, True, True]


def test_decoding_comes_before_prompts_and_is_never_held_up_by_them() -> None:
    scheduler = scheduler_of()
    scheduler.add(request("a", 2, 20), 0)
    step(scheduler)
    scheduler.add(request("b", 30), 0)
    for place in range(2, 6):
        assert told(step(scheduler))[0] == ("a", place, 1)
    assert told(step(scheduler)) == [("a", 6, 1), ("b", 28, 2)]


def test_no_step_passes_the_token_budget_nor_max_running() -> None:
    scheduler = scheduler_of(budget=6, max_running=3)
    for name in "abcdef":
        scheduler.add(request(name, 3), 0)
    while scheduler.has_work:
        plan = step(scheduler)
        assert sum(row.count for row in plan.rows) <= 6
        assert scheduler.running <= 3


def test_who_came_first_starts_first() -> None:
    scheduler = scheduler_of(max_running=1)
    for name in "abc":
        scheduler.add(request(name, 3, 1), 0)
    assert [told(step(scheduler))[0][0] for _ in range(3)] == ["a", "b", "c"]


def test_a_request_that_the_whole_cache_could_not_hold_is_refused() -> None:
    scheduler = scheduler_of(pages=4)
    scheduler.add(request("fits", 12, 4), 0)
    with pytest.raises(ContextLengthExceeded, match=r"holds 16 tokens\. The prompt has 12 and 5"):
        scheduler.add(request("too long", 12, 5), 0)


def test_when_pages_run_out_the_youngest_is_preempted_and_comes_back() -> None:
    scheduler = scheduler_of(pages=4, budget=16)
    old, young = request("old", 7, 8), request("young", 7, 8)
    scheduler.add(old, 0)
    scheduler.add(young, 0)
    while not old.is_finished:
        step(scheduler)
    assert scheduler.preemptions == 1
    assert young.choices[0].computed == 0 and young.choices[0].generated > 0
    while scheduler.has_work:
        step(scheduler)
    assert young.choices[0].generated == 8


@pytest.mark.parametrize("patience_s", [2.0, math.inf])
def test_small_requests_do_not_overtake_a_large_one_for_ever(patience_s: float) -> None:
    """The control is endless patience: then the large request never starts."""
    scheduler = scheduler_of(pages=4, max_running=8, patience_s=patience_s)
    large = request("large", 15, 1)
    scheduler.add(request("first", 3, 3), 0.0)
    step(scheduler, 0.0)
    scheduler.add(large, 0.0)
    for second in range(20):
        scheduler.add(request(f"small {second}", 3, 3), float(second))
        step(scheduler, float(second))
    assert large.is_finished == (patience_s == 2.0)


def test_a_request_waits_for_a_slot_while_others_pass() -> None:
    scheduler = scheduler_of(slots=1)
    scheduler.add(request("a", 3, 2, adapter="x"), 0)
    scheduler.add(request("b", 3, 2, adapter="y"), 0)
    scheduler.add(request("c", 3, 2), 0)
    plan = step(scheduler)
    assert [name for name, _, _ in told(plan)] == ["a", "c"]
    assert plan.loads == (("x", 0),)
    step(scheduler)
    assert step(scheduler).loads == (("y", 0),)


def test_an_adapter_and_an_expert_start_together_or_wait_together() -> None:
    scheduler = scheduler_of(slots=2)
    scheduler.add(request("a", 3, 2, adapter="x", expert="e"), 0)
    scheduler.add(request("b", 3, 2, adapter="x", expert="f"), 0)
    plan = step(scheduler)
    assert [name for name, _, _ in told(plan)] == ["a"]
    assert dict(plan.loads).keys() == {"x", "e"}
    assert scheduler.slots.pins == 2
    step(scheduler)
    assert dict(step(scheduler).loads).keys() == {"f"}, "the adapter was still there"


def test_a_request_that_needs_more_slots_than_there_are_is_refused() -> None:
    scheduler = scheduler_of(slots=1)
    with pytest.raises(InvalidRequest, match="needs 2 adapter slots; this engine has 1"):
        scheduler.add(request("a", 3, adapter="x", expert="e"), 0)
    assert not scheduler.has_work


def test_choices_share_the_full_pages_of_their_prompt() -> None:
    scheduler = scheduler_of(pages=8, budget=32)
    scheduler.add(request("a", 9, 3, n=3), 0)
    assert told(step(scheduler)) == [("a", 0, 9)]
    assert told(step(scheduler)) == [("a", 9, 1), ("a", 8, 1), ("a", 8, 1)]
    assert scheduler.pages.free == 8 - 2 - 3  # two shared pages, one of its own for each


def test_a_stop_token_ends_a_choice_and_the_limit_ends_the_other() -> None:
    scheduler = scheduler_of()
    both = request("a", 3, 2, n=2)
    scheduler.add(both, 0)
    step(scheduler)
    plan = scheduler.plan(0)
    scheduler.commit(plan, {row.sequence: (99 if row.sequence.index else 7) for row in plan.rows})
    assert [choice.finish_reason for choice in both.choices] == ["length", "stop"]
    assert not scheduler.has_work


calls = st.tuples(
    st.integers(1, 20),
    st.integers(1, 12),
    st.sampled_from([None, "x", "y", "z"]),
    st.sampled_from([None, None, "e", "f"]),
    st.integers(1, 3),
)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_after_random_cancels_every_page_is_back(data: st.DataObject) -> None:
    scheduler = scheduler_of(pages=10, budget=8)
    alive: list[str] = []
    everyone: list[Sequence] = []
    for number in range(data.draw(st.integers(1, 12), "requests")):
        prompt, new, adapter, expert, n = data.draw(calls, "call")
        one = request(str(number), prompt, new, adapter=adapter, expert=expert, n=n)
        scheduler.add(one, float(number))
        alive.append(one.id)
        everyone += one.choices
        for _ in range(data.draw(st.integers(0, 4), "steps")):
            plan = scheduler.plan(float(number))
            if data.draw(st.booleans(), "cancels while the step runs"):
                scheduler.cancel(data.draw(st.sampled_from(alive)))
            token = data.draw(st.sampled_from([7, 7, 7, 99]))
            scheduler.commit(plan, {row.sequence: token for row in plan.rows if row.samples})
            scheduler.check_integrity()
    for name in data.draw(st.lists(st.sampled_from(alive)), "cancelled"):
        scheduler.cancel(name)
        scheduler.check_integrity()
    steps = 0
    while scheduler.has_work:
        assert step(scheduler, 100.0).rows, "work is there, but nobody runs"
        steps += 1
        assert steps < 2000, "it never ends"
    assert scheduler.pages.free == scheduler.pages.count
    assert scheduler.slots.pins == 0
    assert not any(scheduler.pages.table(sequence) for sequence in everyone)
