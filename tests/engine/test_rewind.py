"""Where positions depend on a sequence's length, one that outgrows the trained context reads itself again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhouse.engine.pages import Pages
from inhouse.engine.request import Request
from inhouse.engine.scheduler import Plan, Scheduler
from inhouse.engine.slots import Slots
from inhouse.schema import Sampling
from tests.engine.world import World, call, run


def request(name: str, prompt: int, new: int, *, n: int = 1) -> Request:
    return Request(name, tuple(range(prompt)), Sampling(), 0, prompt + new, frozenset({99}), n=n)


def step(scheduler: Scheduler) -> Plan:
    plan = scheduler.plan(0.0)
    scheduler.commit(plan, {row.sequence: 7 for row in plan.rows if row.samples})
    scheduler.check_integrity()
    return plan


def rows(plan: Plan) -> list[tuple[str, int, int, int]]:
    return [(r.sequence.request.id, r.sequence.index, r.start, r.count) for r in plan.rows]


def test_a_sequence_reads_itself_again_once_when_it_passes_the_length() -> None:
    scheduler = Scheduler(Pages(16, 4), Slots(1), max_running=4, token_budget=64, rewind_above=8)
    scheduler.add(request("a", 6, 6), 0)
    plans = []
    while scheduler.has_work:
        plans += rows(step(scheduler))
    assert plans == [
        ("a", 0, 0, 6),
        ("a", 0, 6, 1),
        ("a", 0, 7, 1),
        ("a", 0, 0, 9),
        ("a", 0, 9, 1),
        ("a", 0, 10, 1),
    ]


def test_a_prompt_beyond_the_length_is_read_once() -> None:
    scheduler = Scheduler(Pages(16, 4), Slots(1), max_running=4, token_budget=64, rewind_above=8)
    scheduler.add(request("a", 9, 2), 0)
    assert [rows(step(scheduler)) for _ in range(2)] == [[("a", 0, 0, 9)], [("a", 0, 9, 1)]]


def test_a_choice_on_this_side_of_the_length_shares_nothing_with_one_beyond_it() -> None:
    scheduler = Scheduler(Pages(32, 4), Slots(1), max_running=2, token_budget=64, rewind_above=8)
    scheduler.add(request("other", 2, 6), 0)
    both = request("a", 7, 20, n=2)
    scheduler.add(both, 0)
    long, late = both.choices
    met = 0
    while scheduler.has_work:
        step(scheduler)
        pages = [set(scheduler.pages.table(choice)) for choice in (long, late)]
        if all(pages) and long.length > 8 >= late.length:
            met += 1
            assert pages[0].isdisjoint(pages[1])
    assert met, "the late one never ran on this side while the other was beyond"


def test_choices_that_outgrow_the_trained_context_read_themselves_again(tmp_path: Path) -> None:
    world = World(tmp_path, "phi3")
    assert world.decoder.config.rewind_above == 32
    wanted = call("a", range(40, 68), n=3, temperature=1.0, seed=4, max_new_tokens=12, logprobs=3)
    engine = world.engine()
    answer = run(engine, wanted)["a"]
    assert engine.scheduler.preemptions == 3, "each choice grows past it once"
    with torch.no_grad():
        for index, tokens in enumerate(answer.tokens):
            for at, told in enumerate(answer.logprobs[index]):
                before = [*range(40, 68), *tokens[:at]]
                plain = world.decoder.score([before])[-1].log_softmax(-1)
                assert told.logprob == pytest.approx(float(plain[tokens[at]]), abs=1e-4)
