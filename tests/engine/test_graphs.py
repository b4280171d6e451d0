"""Steps of fixed shapes, filled up and replayed, give what the same batch gives as it comes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from inhouse.device import Captured, Plain, describe
from inhouse.engine import batch as batches
from inhouse.engine import build as building
from inhouse.engine.arena import Factors
from inhouse.engine.engine import Engine
from inhouse.engine.graphs import Inputs, Shape, Steps, _rounded
from inhouse.errors import InvalidRequest
from tests import tiny
from tests.engine.memory_world import PRICE, Books, ask
from tests.engine.test_engine import assert_equal, mixed_calls
from tests.engine.world import World, call, run, start

FAMILIES = sorted(tiny.CONFIGS)


@dataclass
class Recording:
    """Captures as Plain does, and counts."""

    captures: int = 0
    replays: int = 0
    calls: list[Callable[[], None]] = field(default_factory=list)

    def capture(self, function: Callable[[], None]) -> Captured:
        self.captures += 1

        def counted() -> None:
            self.replays += 1
            function()

        return Plain().capture(counted)


def counting(engine: Engine) -> Recording:
    """Makes an engine's steps count what they capture and replay."""
    runner, recording = engine.runner, Recording()
    runner.steps = Steps(runner.decoder, runner.cache, runner.bank.arena, recording)
    return recording


@pytest.mark.parametrize("family", FAMILIES)
def test_filled_up_steps_give_the_tokens_of_plain_ones(family: str, tmp_path: Path) -> None:
    world = World(tmp_path, family)
    world.adapter("small", rank=2, seed=1)
    world.adapter("large", rank=7, seed=2)
    world.adapter("attention", rank=4, seed=3, only="att")
    calls = mixed_calls(logprobs=5)
    engine = world.engine(graphs="off")
    assert engine.runner.steps is None
    wanted = run(engine, *calls)
    padded = world.engine(graphs="plain")
    given = run(padded, *calls)
    for asked in calls:
        assert_equal(given[asked.id], wanted[asked.id])


def test_steps_are_made_ready_once_a_shape_and_replayed(world: World) -> None:
    engine = world.engine()
    recording = counting(engine)
    run(engine, *mixed_calls())
    first = recording.captures
    assert 0 < first < recording.replays
    run(engine, *mixed_calls())
    assert recording.captures == first, "a shape was captured twice"


def test_random_arrivals_through_replayed_steps_equal_each_request_alone(tmp_path: Path) -> None:
    """Adapters come and go between steps, so slots are given again and rank rows move while others decode."""
    world, dice = World(tmp_path), random.Random(5)
    adapters = [None, *(world.adapter(f"of-{rank}", rank=rank, seed=rank) for rank in range(1, 7))]
    calls = [
        call(
            f"r{i}",
            [dice.randrange(3, 250) for _ in range(dice.randrange(1, 40))],
            adapter=dice.choice(adapters),
            max_new_tokens=dice.randrange(1, 24),
        )
        for i in range(40)
    ]
    engine = world.engine(graphs="plain", adapter_rows=12)
    requests, waiting, moves = {}, list(calls), 0
    ranges = engine.runner.bank.arena.ranges
    lay: dict[int, int] = {}
    while waiting or engine.has_work:
        for _ in range(dice.randrange(3)):
            if waiting:
                asked = waiting.pop()
                requests[asked.id] = start(engine, asked)[0]
        engine.step()
        now = {slot: ranges.at(slot).start for slot in range(12) if slot in ranges}
        moves += sum(lay.get(slot, at) != at for slot, at in now.items())
        lay = now
    assert moves > 0, "nothing moved: the test shows less than it says"
    for asked in calls:
        choice = requests[asked.id].choices[0]
        assert choice.tokens[choice.prompt_length :] == world.plainly(asked)


def test_an_adapter_and_an_expert_in_one_step(world: World, books: Books) -> None:
    """A sequence with two is in two tables of groups, beside one with one and one with none."""
    asked = {"mode": "expert", "max_new_tokens": 9, "logit_bias": {2: -100}}
    calls = [ask("both", PRICE, adapter="large", **asked), ask("expert", PRICE, **asked), call("none")]
    engines = [world.engine(banks=books, graphs=setting) for setting in ("off", "plain")]
    tokens = []
    for engine in engines:
        requests = [start(engine, wanted)[0] for wanted in calls]
        while engine.has_work:
            engine.step()
        tokens.append([request.choices[0].tokens for request in requests])
    assert tokens[0] == tokens[1]
    assert tokens[0][0] != tokens[0][1], "the adapter beside the expert changes nothing"
    assert engines[1].runner.steps is not None
    assert 2 in {shape.uses for shape in engines[1].runner.steps._steps}


def decoding(engine: Engine, count: int) -> batches.Batch:
    """A batch of `count` sequences that decode, their prompts read."""
    for i in range(count):
        start(engine, call(f"d{i}", range(20 + i, 45 + 3 * i), adapter=(None, "small", "large")[i % 3]))
    while True:
        at_hand = engine.runner.library.at_hand()
        plan = engine.scheduler.plan(0.0, at_hand)
        engine.runner.library.fetch(plan.wanted)
        for key, slot in plan.loads:
            factors = at_hand[key]
            assert isinstance(factors, Factors)
            engine.runner.load(slot, factors)
        if not plan.rows:
            engine.runner.library.wait(1.0)
            continue
        batch = batches.build(plan, engine.scheduler.pages, engine.runner.cache)
        if len(batch.tokens) == count and not batch.attend.chunks:
            return batch
        output = engine.runner.run(batch)
        drawn = output.logits.argmax(-1).tolist()
        engine.scheduler.commit(
            plan, {row.sequence: [token] for row, token in zip(batch.drawing, drawn, strict=True)}
        )


def test_rows_that_fill_up_touch_no_page_and_change_no_logit(world: World) -> None:
    engine = world.engine(graphs="plain")
    batch = decoding(engine, 5)
    runner = engine.runner
    assert runner.steps is not None
    shape = Shape.of(batch, runner.bank.arena)
    assert shape.batch > 5, "nothing is filled up here"
    for store in (*runner.cache.keys, *runner.cache.values):
        store[: runner.cache.nowhere].nan_to_num_(0.0)
    before = [store.clone() for store in (*runner.cache.keys, *runner.cache.values)]
    given = runner.run(batch).logits
    after = [store.clone() for store in (*runner.cache.keys, *runner.cache.values)]
    runner.steps = None
    wanted = runner.run(batch).logits
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    mine = torch.zeros(runner.cache.spare + 1, dtype=torch.bool)
    mine[batch.attend.write], mine[runner.cache.spare] = True, True
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[~mine], new[~mine])
        assert not new[runner.cache.nowhere].any()
        assert not torch.equal(old[batch.attend.write], new[batch.attend.write])


def test_a_smaller_batch_leaves_nothing_of_the_larger_one_before(world: World) -> None:
    """Rows that fill up read nothing, and groups that fill up have no rows, whatever stood there."""
    engine = world.engine()
    arena, cache = engine.runner.bank.arena, engine.runner.cache
    seven = decoding(engine, 7)
    shape = Shape.of(seven, arena)
    inputs = Inputs(shape, cache)
    inputs.fill(seven)
    past = seven.attend.past
    assert past is not None
    last = slice(-2, None)  # rows stand sorted by their adapters, the base's first
    two = replace(
        seven,
        tokens=seven.tokens[last],
        positions=seven.positions[last],
        slots=seven.slots[last],
        attend=replace(
            seven.attend,
            write=seven.attend.write[last],
            reaches=seven.attend.reaches[last],
            past=replace(past, tables=past.tables[last, :1], lengths=past.lengths[last]),
        ),
    )
    inputs.fill(two)
    given = inputs.given
    assert given["lengths"].tolist() == [*past.lengths[last].tolist(), *[0] * (shape.batch - 2)]
    assert given["write"][2:].tolist() == [cache.spare] * (shape.batch - 2)
    assert not given["tables"][2:].any() and not given["tables"][:, 1:].any()
    users = sum(map(bool, two.slots))
    bounds = given["bounds"][0].tolist()
    assert 0 < users == bounds[-1] and bounds == sorted(bounds), "a group that fills up has rows"


def test_prompts_and_scores_run_as_they_come(world: World) -> None:
    """Only steps that decode have few enough shapes."""
    engine = world.engine()
    recording = counting(engine)
    run(engine, call("one", range(30, 50), max_new_tokens=1))
    assert recording.replays == 0
    run(engine, call("two", range(30, 50), max_new_tokens=3))
    assert recording.replays == 2


def test_what_cannot_be_captured_runs_as_it_comes_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing:
        def capture(self, function: Callable[[], None]) -> Captured:
            raise RuntimeError("out of memory, say")

    engine = world.engine()
    runner = engine.runner
    runner.steps = Steps(runner.decoder, runner.cache, runner.bank.arena, Refusing())
    calls = mixed_calls()
    given, wanted = run(engine, *calls), run(world.engine(graphs="off"), *calls)
    for asked in calls:
        assert_equal(given[asked.id], wanted[asked.id])
    assert "cannot be captured" in caplog.text


def test_a_kernel_that_asks_the_device_is_never_captured(world: World) -> None:
    engine = world.engine()
    runner, recording = engine.runner, Recording()
    runner.steps = Steps(runner.decoder, runner.cache, runner.bank.arena, recording, with_adapters=False)
    run(engine, call("adapted", adapter="small"))
    assert recording.captures == 0
    run(engine, call("base"))
    assert recording.captures > 0


@pytest.mark.parametrize(
    ("family", "is_captured"), [("llama", True), ("qwen3_moe", False), ("gpt_oss", False)]
)
def test_a_mixture_s_steps_are_not_captured(
    family: str, is_captured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, here = World(tmp_path, family), describe(torch.device("cpu"))
    able = replace(here, capabilities=replace(here.capabilities, graphs=True))
    monkeypatch.setattr(building, "describe", lambda _: able)
    monkeypatch.setattr(building, "Graphs", lambda _: Recording())
    assert (world.engine(graphs="auto").runner.steps is not None) == is_captured


def test_shapes_are_few_and_never_much_too_large() -> None:
    sizes = [_rounded(count) for count in range(1, 129)]
    assert all(count <= size <= 2 * count for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 12


def test_an_unknown_word_for_graphs_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequest, match="auto, off or plain"):
        world.engine(graphs="on")
