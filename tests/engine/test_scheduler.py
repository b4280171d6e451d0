"""Who goes next: pure, so its tests need neither model nor clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.engine.pages import Pages
from inhouse.engine.plan import Plan
from inhouse.engine.request import Request, Sequence
from inhouse.engine.scheduler import Scheduler
from inhouse.engine.slots import Slots
from inhouse.errors import ContextLengthExceeded, InvalidRequest
from inhouse.schema import Sampling


def scheduler_of(
    pages: int = 16,
    *,
    rows: int = 2,
    together: int | None = None,
    max_running: int = 4,
    budget: int = 8,
    patience_s: float = 2.0,
    **settings: Any,
) -> Scheduler:
    return Scheduler(
        Pages(pages, 4),
        Slots(rows, together=together),
        max_running=max_running,
        token_budget=budget,
        patience_s=patience_s,
        **settings,
    )


def request(
    name: str,
    prompt: int,
    new: int = 4,
    *,
    adapter: str | None = None,
    expert: str | None = None,
    n: int = 1,
    first: int = 0,
    **fields: Any,
) -> Request:
    """A prompt of the tokens from `first` on."""
    return Request(
        name,
        tuple(range(first, first + prompt)),
        Sampling(),
        0,
        prompt + new,
        frozenset({99}),
        adapter,
        expert,
        n=n,
        **fields,
    )


def step(
    scheduler: Scheduler, now: float = 0.0, token: int = 7, at_hand: frozenset[str] | None = None
) -> Plan:
    plan = scheduler.plan(now, at_hand)
    scheduler.commit(plan, {row.sequence: [token] for row in plan.rows if row.samples})
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
    old, young = request("old", 7, 8), request("young", 7, 8, first=50)
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
    scheduler = scheduler_of(rows=1)
    scheduler.add(request("a", 3, 2, adapter="x"), 0)
    scheduler.add(request("b", 3, 2, adapter="y"), 0)
    scheduler.add(request("c", 3, 2), 0)
    plan = step(scheduler)
    assert {name for name, _, _ in told(plan)} == {"a", "c"}
    assert plan.loads == (("x", 0),)
    step(scheduler)
    plan = step(scheduler)
    assert (plan.loads, plan.evicted) == ((("y", 0),), (0,))


def test_an_adapter_and_an_expert_start_together_or_wait_together() -> None:
    scheduler = scheduler_of(rows=2)
    scheduler.add(request("a", 3, 2, adapter="x", expert="e"), 0)
    scheduler.add(request("b", 3, 2, adapter="x", expert="f"), 0)
    plan = step(scheduler)
    assert [name for name, _, _ in told(plan)] == ["a"]
    assert dict(plan.loads).keys() == {"x", "e"}
    assert scheduler.slots.pins == 2
    step(scheduler)
    assert dict(step(scheduler).loads).keys() == {"f"}, "the adapter was still there"


def test_a_request_whose_adapters_no_arena_could_hold_is_refused() -> None:
    scheduler = scheduler_of(rows=1)
    with pytest.raises(InvalidRequest, match="have 2 rank rows together; this engine has 1"):
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
    scheduler.commit(plan, {row.sequence: [99 if row.sequence.index else 7] for row in plan.rows})
    assert [choice.finish_reason for choice in both.choices] == ["length", "stop"]
    assert not scheduler.has_work


def test_rows_of_one_adapter_stand_side_by_side() -> None:
    scheduler = scheduler_of(pages=32, rows=4, max_running=8, budget=64)
    for i, adapter in enumerate([None, "x", "y", "x", None, "y", "x"]):
        scheduler.add(request(str(i), 3, adapter=adapter), 0)
    step(scheduler)
    used = [row.sequence.request.adapter for row in step(scheduler).rows]
    assert [a for a, b in zip(used, [object(), *used], strict=False) if a != b] == [None, "x", "y"]


# ── prefixes ──────────────────────────────────────────────────────────────────────────────────────────────


def read_by(scheduler: Scheduler, one: Request) -> int:
    """Serves a request to its end; how many tokens of its prompt the model read."""
    scheduler.add(one, 0)
    read = 0
    while not one.is_finished:
        read += sum(row.count for row in step(scheduler).rows if row.start < len(one.prompt))
    return read


def test_a_prompt_that_begins_like_an_earlier_one_is_read_from_where_they_part() -> None:
    scheduler = scheduler_of(pages=16, budget=64)
    assert read_by(scheduler, request("a", 20)) == 20
    longer = request("b", 26)
    assert read_by(scheduler, longer) == 26 - 20
    assert longer.cached_tokens == 20
    assert read_by(scheduler, request("c", 20)) == 4, "the last page is read again: its logits are wanted"
    assert scheduler.reused_tokens == 20 + 16


def test_a_reply_is_part_of_the_next_turn_s_prefix() -> None:
    scheduler = scheduler_of(pages=16, budget=64)
    first = request("a", 6, 7)
    read_by(scheduler, first)
    tokens = first.choices[0].tokens
    again = Request("b", (*tokens, 1, 2, 3), Sampling(), 0, len(tokens) + 5)
    scheduler.add(again, 0)
    assert told(step(scheduler)) == [("b", 12, 4)]  # of 13 tokens the last was never read


@pytest.mark.parametrize(
    "other",
    [{"project": "theirs"}, {"adapter": "x"}, {"adapter": None, "expert": "e"}, {"adapter": "y"}],
    ids=["project", "adapter", "expert", "another adapter"],
)
def test_no_prefix_is_shared_across(other: dict[str, Any]) -> None:
    scheduler = scheduler_of(pages=16, budget=64)
    mine = {"adapter": "y"} if other == {"adapter": "x"} else {}
    mine = {"adapter": "x"} if other == {"adapter": "y"} else mine
    assert read_by(scheduler, request("a", 20, **mine)) == 20
    assert read_by(scheduler, request("b", 20, **other)) == 20
    assert read_by(scheduler, request("c", 20, **mine)) == 4, "the control: the very same is shared"


def test_who_scores_a_prompt_reads_all_of_it() -> None:
    scheduler = scheduler_of(pages=16, budget=64)
    read_by(scheduler, request("a", 20))
    scored = Request("b", tuple(range(20)), Sampling(logprobs=1), 0, 22, echo=True)
    assert read_by(scheduler, scored) == 20


def test_a_failed_request_s_pages_are_nobody_s_prefix() -> None:
    for keeps, expected in ((True, 4), (False, 20)):
        scheduler = scheduler_of(pages=16, budget=64)
        scheduler.add(request("a", 20), 0)
        step(scheduler)
        scheduler.cancel("a", keeps=keeps)
        assert read_by(scheduler, request("b", 20)) == expected


def test_without_reuse_only_the_choices_of_a_request_share() -> None:
    scheduler = scheduler_of(pages=16, budget=64, reuses_prefixes=False)
    assert read_by(scheduler, request("a", 20)) == 20
    assert read_by(scheduler, request("b", 20)) == 20
    scheduler.add(request("n", 9, 3, n=2), 0)
    step(scheduler)
    assert told(step(scheduler)) == [("n", 9, 1), ("n", 8, 1)]


# ── adapters ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_s_adapters_stay_within_their_share_but_delay_nobody_past_the_patience() -> None:
    scheduler = scheduler_of(pages=64, rows=40, together=12, max_running=8, budget=64)
    for i in range(5):
        scheduler.add(request(str(i), 3, 50, adapter=f"a{i}", adapter_rows=4), 0.0)
    scheduler.add(request("base", 3, 50), 0.0)
    for now in (0.0, 1.0, 1.9):
        assert {name for name, _, _ in told(step(scheduler, now))} == {"0", "1", "2", "base"}
        assert scheduler.slots.pinned_rows == 12
    assert {name for name, _, _ in told(step(scheduler, 2.0))} == {"0", "1", "2", "3", "4", "base"}


def test_who_gives_way_may_hold_the_very_adapter_that_is_wanted() -> None:
    scheduler = scheduler_of(pages=64, rows=40, together=4, max_running=3, budget=64)
    for i in range(3):  # the share has room for one; patience lets the others in
        scheduler.add(request(f"a{i}", 3, 50, adapter=f"x{i}", adapter_rows=4, project="a"), 0.0)
    for now in (0.0, 2.0):
        step(scheduler, now)
    assert scheduler.slots.pinned_rows == 12
    scheduler.add(request("b", 3, 50, adapter="x2", adapter_rows=4, project="b"), 3.0)
    assert {name for name, _, _ in told(step(scheduler, 3.0))} == {"a0", "a1", "b"}


def test_an_adapter_larger_than_the_share_is_served_alone() -> None:
    scheduler = scheduler_of(rows=40, together=12, budget=64)
    scheduler.add(request("large", 3, 3, adapter="x", adapter_rows=30), 0.0)
    scheduler.add(request("small", 3, 3, adapter="y", adapter_rows=1), 0.0)
    assert {name for name, _, _ in told(step(scheduler))} == {"large"}


def test_a_request_whose_adapter_is_still_on_disk_is_passed_and_asked_for() -> None:
    scheduler = scheduler_of(budget=64)
    scheduler.add(request("a", 3, adapter="x"), 0.0)
    scheduler.add(request("b", 3), 0.0)
    plan = step(scheduler, 0.0, at_hand=frozenset())
    assert (told(plan), plan.wanted, plan.loads) == ([("b", 0, 3)], ("x",), ())
    late = step(scheduler, 10.0, at_hand=frozenset())
    assert {name for name, _, _ in told(late)} == {"b"}, "the wait for a disk holds nobody up"
    scheduler.add(request("c", 3), 10.0)
    plan = step(scheduler, 10.0, at_hand=frozenset({"x"}))
    assert {name for name, _, _ in told(plan)} == {"a", "b", "c"}
    assert [key for key, _ in plan.loads] == ["x"]


def test_adapters_are_asked_for_ahead_of_their_turn() -> None:
    scheduler = scheduler_of(rows=8, max_running=1)
    for i in range(4):
        scheduler.add(request(str(i), 3, adapter=f"a{i}"), 0.0)
    assert step(scheduler, at_hand=frozenset({"a0"})).wanted == ("a1", "a2", "a3")


# ── classes and projects ──────────────────────────────────────────────────────────────────────────────────


def starts_within(scheduler: Scheduler, one: Request, steps: int) -> bool:
    """Whether the request has its first token by then."""
    for number in range(steps):
        step(scheduler, number * 0.1)
    return one.generated > 0


@pytest.mark.parametrize("shares", [True, False])
def test_a_thousand_requests_of_one_project_do_not_delay_another_s_first(shares: bool) -> None:
    """The control puts everybody into one project."""
    scheduler = scheduler_of(pages=400, max_running=8, budget=32)
    for i in range(1000):
        scheduler.add(request(f"many {i}", 20, 40, first=100 * i, project="many"), 0.0)
    for _ in range(20):
        step(scheduler)
    one = request("one", 20, 5, first=7, project="one" if shares else "many")
    scheduler.add(one, 2.0)
    assert starts_within(scheduler, one, 2 if shares else 100) == shares


def test_projects_get_equal_tokens_however_many_requests_they_send() -> None:
    scheduler = scheduler_of(pages=400, max_running=12, budget=32)
    served = {"a": 0, "b": 0, "c": 0}
    for name, count in (("a", 200), ("b", 100), ("c", 120)):
        for i in range(count):
            new = 10 + i % 7 if name != "b" else 30
            scheduler.add(request(f"{name} {i}", 12 + i % 5, new, first=50 * i, project=name), 0.0)
    for number in range(300):
        for row in step(scheduler, number * 0.01).rows:
            served[row.sequence.request.project] += row.count
    assert max(served.values()) / min(served.values()) < 1.15, served


def test_a_project_that_was_away_saves_nothing_up() -> None:
    scheduler = scheduler_of(pages=200, max_running=4, budget=16)
    for i in range(60):
        scheduler.add(request(f"a {i}", 8, 8, first=50 * i, project="a"), 0.0)
    for _ in range(60):
        step(scheduler)
    for i in range(60):
        scheduler.add(request(f"b {i}", 8, 8, first=50 * i, project="b"), 0.0)
    served = {"a": 0, "b": 0}
    for _ in range(60):
        for row in step(scheduler).rows:
            served[row.sequence.request.project] += row.count
    assert 0.8 < served["a"] / served["b"] < 1.25, served


def test_interactive_requests_go_before_batch_and_take_its_places() -> None:
    scheduler = scheduler_of(pages=64, max_running=2, budget=16)
    for i in range(4):
        scheduler.add(request(f"batch {i}", 5, 30, first=50 * i, priority="batch"), 0.0)
    step(scheduler)
    assert scheduler.running == 2
    talk = [request(f"talk {i}", 5, 3, first=500 * i) for i in range(2)]
    for one in talk:
        scheduler.add(one, 0.0)
    assert {name for name, _, _ in told(step(scheduler))} == {"talk 0", "talk 1"}
    while not all(one.is_finished for one in talk):
        step(scheduler)
    plan = step(scheduler)
    assert {name for name, _, _ in told(plan)} == {"batch 0", "batch 1"}
    assert {row.start for row in plan.rows} == {4}, "what it had computed is still there"


@pytest.mark.parametrize("batch_patience_s", [3.0, math.inf])
def test_batch_does_not_stand_still_for_ever(batch_patience_s: float) -> None:
    """The control is endless patience: then the batch request never starts."""
    scheduler = scheduler_of(max_running=1, batch_patience_s=batch_patience_s)
    batch = request("batch", 3, 3, first=90, priority="batch", project="other")
    scheduler.add(batch, 0.0)
    for number in range(60):
        scheduler.add(request(f"talk {number}", 3, 2, project="talk"), number * 0.1)
        step(scheduler, number * 0.1)
    assert batch.is_finished == (batch_patience_s == 3.0)


def test_time_in_which_no_batch_waited_makes_none_urgent() -> None:
    scheduler = scheduler_of(max_running=1, batch_patience_s=3.0)
    batch = request("batch", 3, 3, first=90, priority="batch")
    scheduler.add(batch, 1000.0)
    scheduler.add(request("talk", 3, 2), 1000.0)
    assert {name for name, _, _ in told(step(scheduler, 1000.0))} == {"talk"}
    assert not batch.choices[0].is_urgent


def test_an_equal_history_gives_equal_plans() -> None:
    def history() -> list[list[tuple[str, int, int]]]:
        scheduler = scheduler_of(pages=40, max_running=5, budget=16, rows=4)
        plans = []
        for number in range(80):
            if number < 40:
                fields: dict[str, Any] = {
                    "project": "abc"[number % 3],
                    "adapter": [None, "x", "y"][number % 3 - number % 2],
                    "priority": "batch" if number % 4 == 0 else "interactive",
                }
                scheduler.add(request(str(number), 5 + number % 9, 6, **fields), number * 0.1)
            plans.append(told(step(scheduler, number * 0.1)))
        return plans

    assert history() == history()


calls = st.tuples(
    st.integers(1, 20),
    st.integers(1, 12),
    st.sampled_from([None, "x", "y", "z"]),
    st.sampled_from([None, None, "e", "f"]),
    st.integers(1, 3),
    st.sampled_from(["ours", "theirs"]),
    st.sampled_from(["interactive", "batch"]),
)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_after_random_cancels_every_page_is_back(data: st.DataObject) -> None:
    together = data.draw(st.sampled_from([None, 1]), "rows in use together")
    scheduler = scheduler_of(pages=10, budget=8, together=together)
    alive: list[str] = []
    everyone: list[Sequence] = []
    for number in range(data.draw(st.integers(1, 12), "requests")):
        prompt, new, adapter, expert, n, project, priority = data.draw(calls, "call")
        fields: dict[str, Any] = {"project": project, "priority": priority}
        one = request(str(number), prompt, new, adapter=adapter, expert=expert, n=n, **fields)
        scheduler.add(one, float(number))
        alive.append(one.id)
        everyone += one.choices
        for _ in range(data.draw(st.integers(0, 4), "steps")):
            plan = scheduler.plan(float(number), data.draw(st.sets(st.sampled_from("xyzef")), "at hand"))
            if data.draw(st.booleans(), "cancels while the step runs"):
                scheduler.cancel(data.draw(st.sampled_from(alive)), keeps=data.draw(st.booleans(), "keeps"))
            token = data.draw(st.sampled_from([7, 7, 7, 99]))
            scheduler.commit(plan, {row.sequence: [token] for row in plan.rows if row.samples})
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
