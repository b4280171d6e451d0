"""Real sockets in front of a real engine: callers come, vanish and fall asleep."""

from __future__ import annotations

import asyncio
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inhouse.engine.connection import joined
from inhouse.engine.engine import Engine, Reply
from inhouse.engine.intake import Intake
from inhouse.engine.request import Request
from inhouse.engine.serve import EngineServer
from inhouse.errors import InvalidRequest
from inhouse.schema import Delta, EngineCall, EngineFault, EngineFrame, EngineRequest, Structure
from tests.engine.world import Answer, World, call, collect


@contextmanager
def serving(engine: Engine, folder: Path, **options: Any) -> Iterator[tuple[EngineServer, Path]]:
    """A server in a thread; whatever its run raises is raised here."""
    path = folder / "s" / "engine.sock"
    server = EngineServer(engine, path, **{"drain_s": 0.0, **options})
    ready, errors = threading.Event(), []

    def work() -> None:
        try:
            server.run(ready.set)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    try:
        yield server, path
    finally:
        server.stop()
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
        if errors:
            raise errors[0]


def line(wanted: EngineRequest | None, op: str = "generate") -> bytes:
    return EngineCall(op=op, request=wanted).model_dump_json(exclude_none=True).encode() + b"\n"  # type: ignore[arg-type]


async def frames_of(path: Path, data: bytes) -> AsyncIterator[EngineFrame]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
    try:
        writer.write(data)
        while answer := await reader.readline():
            yield EngineFrame.model_validate_json(answer)
    finally:
        writer.close()


async def ask(path: Path, wanted: EngineRequest) -> Answer:
    replies = [Reply(wanted.id, frame) async for frame in frames_of(path, line(wanted))]
    assert replies[-1].is_last
    return collect(replies)[wanted.id]


async def stats(path: Path) -> dict[str, float]:
    (frame,) = [frame async for frame in frames_of(path, line(None, "stats"))]
    assert frame.stats is not None
    return frame.stats


async def until(
    path: Path, holds: Callable[[dict[str, float]], bool], timeout_s: float = 10
) -> dict[str, float]:
    async with asyncio.timeout(timeout_s):
        while not holds(numbers := await stats(path)):
            await asyncio.sleep(0.02)
    return numbers


def is_idle(numbers: dict[str, float]) -> bool:
    return numbers["pages_free"] == numbers["pages_total"] and not numbers["running"] + numbers["waiting"]


def test_thirty_two_concurrent_requests_complete_and_are_right(world: World, tmp_path: Path) -> None:
    adapters = (None, "small", "large", "attention")
    calls = [call(f"r{i}", range(20 + i, 30 + 3 * i), adapter=adapters[i % 4]) for i in range(32)]

    async def everyone(path: Path) -> list[Answer]:
        answers = await asyncio.gather(*(ask(path, wanted) for wanted in calls))
        assert is_idle(await until(path, is_idle))
        return answers

    with serving(world.engine(), tmp_path) as (_, path):
        answers = asyncio.run(everyone(path))
    for wanted, answer in zip(calls, answers, strict=True):
        expected = world.plainly(wanted)
        said = expected[:-1] if expected[-1] in world.template.stop_ids else expected
        assert answer.texts[0] == world.tokenizer.decode(said)
        assert answer.done is not None
        assert answer.done.usage.completion_tokens == answer.counted == len(expected)
        assert (answer.done.base_digest, answer.done.adapter) == ("b" * 64, wanted.adapter)


async def ask_bundle(path: Path, *wanted: EngineRequest) -> dict[int, Answer]:
    """Each request's answer, by its number in one call."""
    data = EngineCall(op="generate", bundle=wanted).model_dump_json(exclude_none=True).encode() + b"\n"
    found: dict[int, list[Reply]] = {}
    async for frame in frames_of(path, data):
        found.setdefault(frame.request, []).append(Reply("r", frame))
    assert all(replies[-1].is_last for replies in found.values())
    return {number: collect(replies)["r"] for number, replies in found.items()}


def test_each_request_of_a_bundle_gets_what_it_gets_alone_or_its_own_fault(
    world: World, tmp_path: Path
) -> None:
    adapters = (None, "small", "large", "attention")
    calls = [
        call(f"r{i}", range(20 + i, 30 + 3 * i), adapter=adapters[i % 4], max_new_tokens=3 + 5 * (i % 3))
        for i in range(12)
    ]
    calls = [wanted.model_copy(update={"whole": True}) for wanted in calls]
    calls[5] = calls[5].model_copy(update={"tokens": (10**6,)})
    calls[9] = calls[9].model_copy(update={"structure": Structure(param="response_format", regex="[")})

    async def together(path: Path) -> dict[int, Answer]:
        found = await ask_bundle(path, *calls)
        assert is_idle(await until(path, is_idle))
        return found

    with serving(world.engine(), tmp_path) as (_, path):
        found = asyncio.run(together(path))
    assert sorted(found) == list(range(12))
    assert [number for number in sorted(found) if found[number].fault] == [5, 9]
    for number in set(range(12)) - {5, 9}:
        expected = world.plainly(calls[number])
        said = expected[:-1] if expected[-1] in world.template.stop_ids else expected
        answer = found[number]
        assert answer.texts[0] == world.tokenizer.decode(said)
        assert answer.done is not None
        assert answer.done.usage.completion_tokens == answer.counted == len(expected)


def test_what_has_ended_leaves_a_bundle_while_the_rest_runs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.engine.connection.GATHER_S", 60.0)  # no clock lets it go
    short, long = (
        call(name, max_new_tokens=count, logit_bias={2: -100}).model_copy(update={"whole": True})
        for name, count in (("short", 2), ("long", 200))
    )
    data = EngineCall(op="generate", bundle=(long, short)).model_dump_json().encode() + b"\n"

    async def watch(path: Path) -> tuple[list[int], float]:
        ended: list[int] = []
        still_running = 0.0
        async for frame in frames_of(path, data):
            if frame.done is not None:
                ended.append(frame.request)
                if frame.request == 1:
                    still_running = (await stats(path))["running"]
        return ended, still_running

    with serving(world.engine(), tmp_path) as (_, path):
        assert asyncio.run(watch(path)) == ([1, 0], 1.0)


def test_a_row_leaves_a_bundle_while_another_is_still_prepared(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, has_left = world.engine(), threading.Event()
    prepare = Intake.prepare

    def slowly(self: Intake, wanted: EngineRequest, request_id: str) -> Request:
        if wanted.id == "slow":
            assert has_left.wait(20), "the other one was kept until this is prepared"
        return prepare(self, wanted, request_id)

    monkeypatch.setattr(Intake, "prepare", slowly)
    slow = call("slow", structure=Structure(param="response_format", regex="[ab]{3}"))
    rows = [one.model_copy(update={"whole": True}) for one in (slow, call("plain"))]
    data = EngineCall(op="generate", bundle=tuple(rows)).model_dump_json(exclude_none=True).encode() + b"\n"

    async def watch(path: Path) -> list[int]:
        ended: list[int] = []
        async for frame in frames_of(path, data):
            assert frame.fault is None
            if frame.done is not None:
                ended.append(frame.request)
                has_left.set()
        return ended

    with serving(engine, tmp_path) as (_, path):
        assert asyncio.run(watch(path)) == [1, 0]


def test_a_bundle_s_requests_count_as_waiting_one_by_one(world: World, tmp_path: Path) -> None:
    engine = world.engine(max_running=1)
    wanted = [call(f"r{i}", max_new_tokens=20).model_copy(update={"whole": True}) for i in range(6)]
    with serving(engine, tmp_path, max_queued=3) as (_, path):
        found = asyncio.run(ask_bundle(path, *wanted))
    faults = [found[number].fault for number in range(6)]
    assert [fault and fault.code for fault in faults] == [None] * 4 + ["engine_overloaded"] * 2


def test_a_caller_that_vanishes_takes_its_whole_bundle_along(world: World, tmp_path: Path) -> None:
    engine = world.engine()
    wanted = [call(f"r{i}", max_new_tokens=200, logit_bias={2: -100}) for i in range(3)]

    async def leave(path: Path) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(EngineCall(op="generate", bundle=tuple(wanted)).model_dump_json().encode() + b"\n")
        await until(path, lambda numbers: numbers["running"] == 3)
        writer.close()
        numbers = await until(path, is_idle)
        assert numbers["generated_tokens_total"] < 3 * 200, "they ran to their ends"

    with serving(engine, tmp_path) as (_, path):
        asyncio.run(leave(path))
    engine.scheduler.check_integrity()


def test_the_socket_is_private(world: World, tmp_path: Path) -> None:
    with serving(world.engine(), tmp_path) as (_, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def test_a_socket_in_a_folder_of_everyone_or_with_too_long_a_name_is_refused(
    world: World, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for path, message in ((shared / "s", "shared by all users"), (tmp_path / ("x" * 200), "too long")):
        with pytest.raises(InvalidRequest, match=message):
            EngineServer(world.engine(), path).run()


def test_log_probabilities_cross_the_wire_whole(world: World, tmp_path: Path) -> None:
    wanted = call("a", range(30, 40), echo=True, logprobs=2, max_new_tokens=2)
    with serving(world.engine(), tmp_path) as (_, path):
        answer = asyncio.run(ask(path, wanted))
    assert answer.logprobs[0][0].logprob is None
    assert len(answer.logprobs[0]) == 12
    assert all(len(logprob.top) == 2 for logprob in answer.logprobs[0][1:])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"hello\n", "invalid_value"),
        (b"\n", "invalid_value"),
        (b'{"op": "generate"}\n', "invalid_value"),
        (b'{"op": "generate", "surprise": 1}\n', "invalid_value"),
        (line(call("a", adapter="nobody")), "resource_not_found"),
        (line(call("a", [5] * 300)), "context_length_exceeded"),
    ],
)
def test_a_bad_call_gets_a_fault_and_the_next_one_an_answer(
    world: World, tmp_path: Path, sent: bytes, code: str
) -> None:
    async def both(path: Path) -> tuple[list[EngineFrame], Answer]:
        return [frame async for frame in frames_of(path, sent)], await ask(path, call("next"))

    with serving(world.engine(), tmp_path) as (_, path):
        (frame,), answer = asyncio.run(both(path))
    assert frame.fault is not None and frame.fault.code == code
    assert answer.done is not None


@pytest.mark.parametrize("guarded", [True, False])
def test_a_caller_that_vanishes_gives_its_pages_back(
    world: World, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:  # the control: nobody tells the engine
        monkeypatch.setattr(Engine, "cancel", lambda self, request_id: None)
    engine = world.engine(max_running=2, cache_tokens=512)
    generated: list[float] = []

    async def vanish(path: Path) -> None:
        for _ in range(5):
            stream = frames_of(path, line(call("long", max_new_tokens=220, logit_bias={2: -100})))
            assert (await anext(stream)).delta is not None
            await stream.aclose()
        waiting = frames_of(path, line(call("also", max_new_tokens=200)))
        await anext(waiting)
        await waiting.aclose()
        generated.append((await until(path, is_idle))["generated_tokens_total"])

    with serving(engine, tmp_path) as (_, path):
        asyncio.run(vanish(path))
    assert (generated[0] < 5 * 220) == guarded


@pytest.mark.parametrize("high_water_bytes", [64 * 2**10, 64 * 2**20])  # stuck half-way, and stuck at the end
@pytest.mark.parametrize("guarded", [True, False])
def test_a_silent_reader_is_put_out_and_delays_nobody(
    world: World, tmp_path: Path, guarded: bool, high_water_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.engine.connection.HIGH_WATER_BYTES", high_water_bytes)
    if not guarded:  # the control: nobody looks at readers
        monkeypatch.setattr("inhouse.engine.connection.Connection.stalled_s", lambda self: 0.0)
    engine = world.engine()
    loud = call("silent", max_new_tokens=220, logprobs=20, n=8, logit_bias={2: -100}, temperature=1.0)

    async def others(path: Path) -> dict[str, float]:
        answer = await asyncio.wait_for(ask(path, call("other")), 10)
        assert answer.texts[0] == world.tokenizer.decode(answer_of(world, "other"))
        await until(path, is_idle, 30)
        await asyncio.sleep(1.0)
        return await stats(path)

    with serving(engine, tmp_path, idle_reader_s=0.3) as (_, path):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(path))
            silent.sendall(line(loud))
            numbers = asyncio.run(others(path))
        assert (numbers["readers_put_out_total"], numbers["connections"]) == ((1, 0) if guarded else (0, 1))


def answer_of(world: World, name: str) -> list[int]:
    tokens = world.plainly(call(name))
    return tokens[:-1] if tokens[-1] in world.template.stop_ids else tokens


def test_more_than_may_wait_are_turned_away_at_once(world: World, tmp_path: Path) -> None:
    engine = world.engine(max_running=1)
    endless = {"max_new_tokens": 200, "logit_bias": {2: -100}}

    async def crowd(path: Path) -> list[Answer]:
        first = asyncio.create_task(ask(path, call("first", **endless)))
        await until(path, lambda numbers: numbers["running"] == 1)
        return await asyncio.gather(first, *(ask(path, call(f"{i}", max_new_tokens=2)) for i in range(6)))

    with serving(engine, tmp_path, max_queued=2) as (_, path):
        first, *others = asyncio.run(crowd(path))
    faults = [answer.fault for answer in others if answer.fault]
    assert first.done is not None
    assert [(fault.status, fault.code) for fault in faults] == [(503, "engine_overloaded")] * 4
    assert sum(answer.done is not None for answer in others) == 2


def test_stop_lets_running_requests_end_and_refuses_new_ones(world: World, tmp_path: Path) -> None:
    wanted = call("a", max_new_tokens=200, logit_bias={2: -100})

    async def through_a_stop(server: EngineServer, path: Path) -> tuple[Answer, list[EngineFrame]]:
        running = asyncio.create_task(ask(path, wanted))
        await until(path, lambda numbers: numbers["running"] == 1)
        server.stop()
        late = [frame async for frame in frames_of(path, line(call("late")))]
        return await running, late

    with serving(world.engine(), tmp_path, drain_s=20.0) as (server, path):
        answer, late = asyncio.run(through_a_stop(server, path))
    assert answer.counted == 200 and answer.done is not None
    assert [frame.fault.code for frame in late if frame.fault] == ["draining"]


def test_a_stopping_engine_refuses_every_request_of_a_bundle(world: World, tmp_path: Path) -> None:
    wanted = [call(f"r{i}").model_copy(update={"whole": True}) for i in range(3)]

    async def ask_late(server: EngineServer, path: Path) -> dict[int, Answer]:
        running = asyncio.create_task(ask(path, call("running", max_new_tokens=200, logit_bias={2: -100})))
        await until(path, lambda numbers: numbers["running"] == 1)
        server.stop()
        await asyncio.sleep(0.05)
        found = await ask_bundle(path, *wanted)
        await running
        return found

    with serving(world.engine(), tmp_path, drain_s=20.0) as (server, path):
        found = asyncio.run(ask_late(server, path))
    assert [found[i].fault and found[i].fault.code for i in range(3)] == ["draining"] * 3  # type: ignore[union-attr]


def test_what_does_not_end_in_the_grace_gets_a_terminal_frame(world: World, tmp_path: Path) -> None:
    wanted = call("a", max_new_tokens=230, logit_bias={2: -100}, n=8, temperature=1.0, logprobs=20)

    async def cut_short(server: EngineServer, path: Path) -> Answer:
        running = asyncio.create_task(ask(path, wanted))
        await until(path, lambda numbers: numbers["running"] >= 1)
        server.stop()
        return await running

    with serving(world.engine(), tmp_path, drain_s=0.0) as (server, path):
        answer = asyncio.run(cut_short(server, path))
    assert answer.fault is not None and (answer.fault.status, answer.fault.code) == (503, "draining")


def test_a_step_that_fails_ends_every_call_with_a_fault(world: World, tmp_path: Path) -> None:
    engine = world.engine()

    async def meet(path: Path) -> list[Answer]:
        asked = [
            asyncio.create_task(ask(path, call(name, max_new_tokens=200, logit_bias={2: -100})))
            for name in "ab"
        ]
        await until(path, lambda numbers: numbers["running"] == 2)
        engine.runner.cache.keys[0] = engine.runner.cache.keys[0][:1]  # as if the device had lost its memory
        return await asyncio.gather(*asked)

    with pytest.raises(IndexError), serving(engine, tmp_path) as (_, path):
        answers = asyncio.run(meet(path))
        assert [a.fault.code for a in answers if a.fault] == ["engine_lost"] * 2


def test_an_idle_engine_sleeps(world: World, tmp_path: Path) -> None:
    with serving(world.engine(), tmp_path) as (_, path):
        asyncio.run(ask(path, call("a")))
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.2
        assert asyncio.run(stats(path))["idle_s"] > 0.9


def test_frames_that_wait_are_joined_without_losing_text() -> None:
    deltas = [Delta(index=i % 2, text=str(i), tokens=1) for i in range(10)]
    last = Delta(index=1, text="x", tokens=1, finish_reason="stop")
    fault = EngineFault(status=500, type="t", code="c", message="m")
    waiting = [(3, EngineFrame(delta=d)) for d in (*deltas, last)] + [(3, EngineFrame(fault=fault))]
    other = (4, EngineFrame(delta=Delta(text="other", tokens=1)))
    assert joined([*waiting[:5], other, *waiting[5:]]) == [
        (3, EngineFrame(delta=Delta(index=0, text="02468", tokens=5))),
        (3, EngineFrame(delta=Delta(index=1, text="13579x", tokens=6, finish_reason="stop"))),
        other,
        (3, EngineFrame(fault=fault)),
    ]
