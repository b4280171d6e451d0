"""Adapters kept on the device: no others put them out, they come by themselves, and they leave room."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.engine.engine import Engine
from inhouse.engine.library import AtHand
from inhouse.engine.plan import Plan
from inhouse.engine.slots import Slots
from inhouse.model.adapters import WEIGHTS
from tests.engine.test_scheduler import request, scheduler_of, step
from tests.engine.test_serve import serving
from tests.engine.test_slots import use
from tests.engine.world import World, call, run


def loads_while_others_pass(own: World, engine: Engine) -> int:
    """How often a0 is loaded again after a request of it, while many others pass and one more of it comes."""
    run(engine, call("first", adapter="a0"))
    loaded: list[str] = []
    plan_of = engine.scheduler.plan

    def told(now: float, at_hand: AtHand | None = None) -> Plan:
        planned = plan_of(now, at_hand)
        loaded.extend(key for key, _ in planned.loads)
        return planned

    engine.scheduler.plan = told  # type: ignore[method-assign]
    run(engine, *(call(str(turn), adapter=f"a{turn % 5 + 1}") for turn in range(15)))
    again = call("again", adapter="a0")
    assert run(engine, again)["again"].tokens == [own.plainly(again)]
    assert len(loaded) >= 5, "nobody passed"
    return loaded.count("a0")


@pytest.fixture
def own(tmp_path: Path) -> World:
    own = World(tmp_path)
    for number in range(6):
        own.adapter(f"a{number}", rank=2, seed=number)
    own.adapter("wide", rank=7, seed=9)
    return own


def test_a_kept_adapter_survives_while_many_others_pass_through_a_small_arena(own: World) -> None:
    engine = own.engine(adapter_rows=8)
    engine.keep({"a0": 2})
    assert loads_while_others_pass(own, engine) == 0


def test_without_being_kept_it_does_not(own: World) -> None:
    assert loads_while_others_pass(own, own.engine(adapter_rows=8)) == 1


def test_what_is_kept_no_more_makes_room_again(own: World) -> None:
    engine = own.engine(adapter_rows=8)
    engine.keep({"a0": 2})
    run(engine, call("first", adapter="a0"))
    engine.keep({})
    assert loads_while_others_pass(own, engine) == 1


def test_kept_adapters_are_loaded_before_anybody_asks(own: World) -> None:
    engine = own.engine(adapter_rows=8)
    engine.keep({"a0": 2, "a1": 2})
    assert engine.has_work
    while engine.has_work:
        assert engine.step() == []
    assert (engine.stats["adapters_pinned"], engine.stats["adapter_loads_total"]) == (2, 2)
    wanted = call("mine", adapter="a1")
    assert run(engine, wanted)["mine"].tokens == [own.plainly(wanted)]
    assert engine.stats["adapter_loads_total"] == 2


def test_a_new_version_takes_the_place_of_the_old_one(own: World) -> None:
    engine = own.engine(adapter_rows=4)
    for kept in ("a0", "a1"):
        engine.keep({kept: 2})
        while engine.has_work:
            engine.step()
    slots = engine.scheduler.slots
    run(engine, call("other", adapter="a2"))
    assert slots.slot("a1") is not None and slots.slot("a0") is None


def test_an_adapter_that_fits_beside_the_kept_ones_in_no_way_is_served_and_they_come_back(own: World) -> None:
    engine = own.engine(adapter_rows=8)
    engine.keep({"a0": 2, "a1": 2})
    calls = [call("kept", adapter="a0"), call("wide", adapter="wide"), call("other", adapter="a3")]
    answers = run(engine, *calls)
    assert [answers[wanted.id].tokens for wanted in calls] == [[own.plainly(wanted)] for wanted in calls]
    assert engine.stats["adapters_pinned"] == 2


def test_a_kept_adapter_that_cannot_be_read_is_given_up_until_it_is_named_again(own: World) -> None:
    weights = own.adapters / "a0" / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-40])
    engine = own.engine(adapter_rows=8)
    engine.keep({"a0": 2, "a1": 2})
    until = time.monotonic() + 20
    while engine.has_work:
        engine.step()
        assert time.monotonic() < until, "it is tried for ever"
    assert engine.stats["adapters_pinned"] == 1
    weights.write_bytes(whole)
    engine.keep({"a0": 2, "a1": 2})
    while engine.has_work:
        engine.step()
    assert engine.stats["adapters_pinned"] == 2


def test_a_server_that_has_nothing_to_do_loads_what_it_is_told_to_keep(own: World, tmp_path: Path) -> None:
    engine = own.engine(adapter_rows=8)
    with serving(engine, tmp_path) as (server, _):
        server.keep({"a0": 2})
        until = time.monotonic() + 20
        while engine.stats["adapters_pinned"] != 1:
            assert time.monotonic() < until, "it sleeps"
            time.sleep(0.01)


def test_more_than_half_of_the_rows_is_never_kept() -> None:
    slots = Slots(9)
    assert slots.most_kept == 4
    slots.keep({"a": 4})
    with pytest.raises(AssertionError):
        slots.keep({"a": 4, "b": 1})


def test_room_is_held_for_what_is_kept_and_not_there_yet() -> None:
    slots = Slots(8)
    assert slots.acquire_all({"x": 6}) is not None
    slots.keep({"a": 3})
    assert slots.bring() == [] and slots.missing == ("a",)
    assert slots.acquire_all({"y": 1}) is None, "newcomers would hold it up for ever"
    assert slots.acquire_all({"x": 6}) == {"x": False}
    slots.release("x")
    slots.release("x")
    assert slots.bring(frozenset()) == [] and slots.bring() == ["a"]
    assert use(slots, "y", 5) is True and slots.slot("a") is not None


ROWS = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 8}


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_with_random_adapters_pinned_everybody_is_served_and_they_stay(data: st.DataObject) -> None:
    scheduler = scheduler_of(rows=8, together=data.draw(st.sampled_from([None, 3])), patience_s=1.0)
    slots, now = scheduler.slots, 0.0
    for number in range(data.draw(st.integers(1, 12), "requests")):
        key = data.draw(st.sampled_from("abcde"), "adapter")
        scheduler.add(request(str(number), 3, 5, adapter=key, adapter_rows=ROWS[key]), now)
        if data.draw(st.booleans(), "keeps others"):
            slots.keep({k: ROWS[k] for k in data.draw(st.sampled_from(["", "a", "ab", "c", "ac"]), "kept")})
        for _ in range(data.draw(st.integers(0, 4), "steps")):
            there = {key for key in slots._kept if slots.slot(key) is not None}
            now += 0.3
            loaded = {key for key, _ in step(scheduler, now).loads}
            running = {key for sequence in scheduler._running for key in sequence.request.keys}
            gone = there & {*loaded, *(key for key in there if slots.slot(key) is None)}
            assert not gone or sum(ROWS[key] for key in running) > 8 - slots.most_kept
    for _ in range(500):
        if not scheduler.has_work:
            break
        step(scheduler, now := now + 0.3)
    assert not scheduler.has_work and not slots.missing, "somebody waits for ever"
