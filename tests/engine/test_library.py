"""Adapters from disk to the device, while others run: no step waits for a disk, and a new version is served at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from inhouse.engine.arena import row_bytes
from inhouse.engine.library import AtHand, Library
from inhouse.engine.plan import Plan
from inhouse.errors import BadCheckpoint, NotFound
from inhouse.model.adapters import WEIGHTS
from tests.engine.world import BASE_DIGEST, Answer, World, call, collect, run, start


class Gate:
    """An adapter folder's way through a disk that answers when it is told to; only readers pass through it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_open = threading.Event()
        self.reading = threading.Semaphore(0)
        self.read: list[str] = []

    def folder(self, digest: str) -> Path:
        if threading.current_thread().name.startswith("engine-adapters"):
            self.read.append(digest)
            self.reading.release()
            assert self.is_open.wait(20), "nobody opened the gate"
        return self.world.adapter_folder(digest)


@pytest.fixture
def own(tmp_path: Path) -> World:
    own = World(tmp_path)
    for number, rank in enumerate((2, 4, 3, 2)):
        own.adapter(f"a{number}", rank=rank, seed=number)
    return own


def test_a_disk_that_takes_its_time_delays_only_who_waits_for_it(own: World) -> None:
    gate = Gate(own)
    engine = own.engine()
    engine.runner.library._folder_of = gate.folder
    cold = call("cold", adapter="a0")
    requests = {name: start(engine, wanted)[0] for name, wanted in (("cold", cold), ("base", call("base")))}
    replies = []
    while not requests["base"].is_finished:
        replies += engine.step()
        engine.scheduler.check_integrity()
    assert requests["cold"].generated == 0
    assert engine.stats["running"] == 0
    gate.is_open.set()
    while engine.has_work:
        replies += engine.step()
    answers = collect(replies)
    assert requests["base"].choices[0].tokens[20:] == own.plainly(call("base"))
    assert requests["cold"].choices[0].tokens[20:] == own.plainly(cold)
    assert answers["cold"].done is not None and gate.read == ["a0"]


def test_several_adapters_are_read_at_once(own: World) -> None:
    gate = Gate(own)
    engine = own.engine()
    engine.runner.library._folder_of = gate.folder
    for number in range(3):
        start(engine, call(str(number), adapter=f"a{number}"))
    engine.step()
    for _ in range(3):
        assert gate.reading.acquire(timeout=20), "one waits for the other"
    gate.is_open.set()
    while engine.has_work:
        engine.step()
    assert sorted(gate.read) == ["a0", "a1", "a2"]


def test_an_adapter_that_is_dropped_behind_the_plan_is_loaded_all_the_same_and_no_step_reads_it(
    own: World,
) -> None:
    engine = own.engine(adapter_rows=4)
    library, plan_of = engine.runner.library, engine.scheduler.plan
    readers: list[str] = []

    def folder(digest: str) -> Path:
        readers.append(threading.current_thread().name)
        return own.adapter_folder(digest)

    def plan_and_drop(now: float, at_hand: AtHand | None = None) -> Plan:
        planned = plan_of(now, at_hand)
        for key, _ in planned.loads:  # as a reader in its thread may, who needs the room
            library.forget(key)
        return planned

    calls = [call(str(number), adapter=f"a{number % 4}") for number in range(8)]
    for wanted in calls:
        library.check(str(wanted.adapter))
    library._folder_of = folder
    engine.scheduler.plan = plan_and_drop  # type: ignore[method-assign]
    answers = run(engine, *calls)
    assert [answers[wanted.id].tokens for wanted in calls] == [[own.plainly(wanted)] for wanted in calls]
    assert readers and all(name.startswith("engine-adapters") for name in readers), "a step read a disk"


def test_an_adapter_that_cannot_be_read_faults_its_requests_alone_and_is_tried_again(own: World) -> None:
    engine = own.engine()
    calls = [call("bad", adapter="a0"), call("good", adapter="a1"), call("base")]
    started = {wanted.id: start(engine, wanted) for wanted in calls}
    weights = own.adapters / "a0" / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-40])
    replies = []
    while engine.has_work:
        replies += engine.step()
    answers = collect(replies)
    fault = answers["bad"].fault
    assert fault is not None and fault.code == BadCheckpoint.code and "damaged" in fault.message
    for wanted in calls[1:]:
        assert started[wanted.id][0].choices[0].tokens[20:] == own.plainly(wanted)
    weights.write_bytes(whole)
    assert run(engine, calls[0])["bad"].tokens == [own.plainly(calls[0])]


def library_of(own: World, *, rows: int) -> Library:
    """A library that keeps so many rank rows."""
    kept = rows * row_bytes(own.decoder)
    return Library(own.adapter_folder, own.decoder, BASE_DIGEST, kept_bytes=kept)


def test_the_library_is_bounded_by_bytes_and_keeps_the_last_used(own: World) -> None:
    library = library_of(own, rows=9)
    for key in ("a0", "a1", "a2", "a0", "a3"):  # 2 + 4 + 3 rows, then 2 more
        library.read(key)
    assert [key for key in ("a0", "a1", "a2", "a3") if key in library] == ["a0", "a2", "a3"]


def test_what_a_step_loads_counts_as_used(own: World) -> None:
    library = library_of(own, rows=9)
    for key in ("a0", "a1", "a2"):
        library.read(key)
    library.touch(["a0", "nobody"])
    library.read("a3")
    assert [key for key in ("a0", "a1", "a2", "a3") if key in library] == ["a0", "a2", "a3"]


def test_what_is_wanted_next_is_not_put_out(own: World) -> None:
    library = library_of(own, rows=5)
    library.fetch(["a0", "a2"])
    assert library.read("a0").rows == 2 and library.read("a2").rows == 3
    library.read("a1")
    assert "a0" in library and "a2" in library
    library.fetch([])
    library.read("a3")
    assert [key for key in ("a0", "a1", "a2", "a3") if key in library] == ["a3"]


def test_a_check_reads_no_numbers_and_says_how_many_rows(own: World) -> None:
    library = library_of(own, rows=9)
    assert library.check("a1") == 4
    assert "a1" not in library
    with pytest.raises(NotFound):
        library.check("nobody")


def test_why_an_adapter_cannot_be_read_is_forgotten_with_those_who_asked(own: World) -> None:
    library = library_of(own, rows=9)
    library.fetch(["nobody"])
    library.wait(20)
    assert "nobody" in library
    library.fetch([])
    assert "nobody" not in library


def test_a_version_published_while_serving_is_used_at_once_and_no_request_sees_two(own: World) -> None:
    engine = own.engine()
    old = call("old", adapter="a0", max_new_tokens=30)
    first, replies = start(engine, old)
    while first.generated < 5:
        replies += engine.step()
    own.adapter("a0-new", rank=6, seed=77)  # the tuner publishes
    new = old.model_copy(update={"id": "new", "adapter": "a0-new"})
    second, more = start(engine, new)
    replies += more
    while engine.has_work:
        replies += engine.step()
    answers: dict[str, Answer] = collect(replies)
    for wanted, request in ((old, first), (new, second)):
        done = answers[wanted.id].done
        assert done is not None and done.adapter == wanted.adapter, "the reply names another version"
        assert request.choices[0].tokens[20:] == own.plainly(wanted)
    assert own.plainly(old) != own.plainly(new)
