"""Rough use: what one caller does, or suffers, is never another's loss. Each guard has its control.

The engine is driven by its socket; `test_reliability_gateway` goes through real HTTP.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inhouse.engine import intake
from inhouse.engine.engine import Engine, Reply
from inhouse.engine.listener import Listener
from inhouse.engine.pages import Pages
from inhouse.errors import InvalidRequest
from inhouse.model.adapters import WEIGHTS
from inhouse.schema import EngineRequest
from tests.engine.test_serve import ask, frames_of, is_idle, line, serving, stats, until
from tests.engine.world import Answer, World, call, run, start


def said(world: World, wanted: EngineRequest) -> str:
    """The text that a request must give, whoever shares the batch."""
    tokens = world.plainly(wanted)
    return world.tokenizer.decode(tokens[:-1] if tokens[-1] in world.template.stop_ids else tokens)


def slowed(engine: Engine, seconds: float) -> Engine:
    """The engine with a pause in each step, so that something can happen while it answers."""
    step = engine.step

    def slow() -> list[Reply]:
        time.sleep(seconds)
        return step()

    engine.step = slow  # type: ignore[method-assign]
    return engine


# ── an adapter's files ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("harm", ["written over", "removed"])
def test_files_of_an_adapter_that_change_once_it_was_read_change_no_answer(
    own: World, harm: str, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running ones go on, and it may leave the device and come back from memory."""
    if not guarded:  # the control: the file is mapped, and what is in memory is what is on disk
        mapped = own.adapters / "good" / WEIGHTS
        monkeypatch.setattr("inhouse.model.adapters.load", lambda data: load_file(mapped))
    engine = own.engine()
    wanted, later = call("a", adapter="good", max_new_tokens=40), call("b", range(30, 50), adapter="good")
    expected = [own.plainly(wanted), own.plainly(later)]
    first, _ = start(engine, wanted)
    while first.generated < 3:
        engine.step()
    if harm == "removed":
        shutil.rmtree(own.adapters / "good")
    else:
        foreign = (own.adapters / "other" / WEIGHTS).read_bytes()
        with (own.adapters / "good" / WEIGHTS).open("r+b") as file:
            assert file.write(foreign) == len(foreign)
    monkeypatch.undo()
    while engine.has_work:
        engine.step()
        engine.scheduler.check_integrity()
    slot = engine.scheduler.slots.slot("good")
    assert slot is not None
    engine.runner.empty(slot)  # as when it had to make room, and is wanted again
    engine.runner.load(slot, engine.runner.library.read("good"))
    second, _ = start(engine, later)
    while engine.has_work:
        engine.step()
    is_unharmed = [r.choices[0].tokens[20:] for r in (first, second)] == expected
    assert is_unharmed == (guarded or harm == "removed")  # a removed file that is mapped is still there


def test_an_adapter_cut_short_on_disk_is_refused_and_the_engine_lives(own: World) -> None:
    file = own.adapters / "good" / WEIGHTS
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    answers = run(own.engine(), call("a", adapter="good"), call("b"))
    fault = answers["a"].fault
    assert fault is not None and (fault.status, fault.code) == (400, "invalid_checkpoint")
    assert answers["b"].tokens == [own.plainly(call("b"))]


@pytest.mark.parametrize("guarded", [True, False])
def test_an_adapter_with_nan_fails_alone_and_never_answers_nonsense(
    own: World, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = own.adapters / "other" / WEIGHTS
    tensors = load_file(file)
    next(iter(tensors.values()))[:] = torch.nan
    save_file(tensors, file)
    if not guarded:  # the control: nobody looks for NaN, neither when it is loaded nor when a token is drawn
        monkeypatch.setattr("inhouse.engine.arena._is_finite", lambda tensor: True)
        monkeypatch.setattr(torch, "isfinite", lambda tensor: torch.ones_like(tensor, dtype=torch.bool))
    neighbours = [call("base"), call("tuned", adapter="good")]
    answers = run(own.engine(), *neighbours, call("x", adapter="other"))
    fault = answers["x"].fault
    if guarded:
        assert fault is not None and fault.code == "invalid_checkpoint" and "holds NaN" in fault.message
    else:
        assert fault is None, "it answered, as if all were well"
    assert [answers[wanted.id].tokens for wanted in neighbours] == [[own.plainly(w)] for w in neighbours]


# ── what a request may ask ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("guarded", [True, False])
def test_a_giant_stop_list_fails_alone(
    own: World, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:
        monkeypatch.setattr(intake, "MOST_STOPS", 10**9)
        monkeypatch.setattr(intake, "MOST_STOP_CHARACTERS", 10**9)
    giant = call(
        "giant", stop=tuple(f"{i:020}" for i in range(100_000)), max_new_tokens=60, logit_bias={2: -100}
    )
    neighbour = call("n", max_new_tokens=60)

    async def seconds(answer: Awaitable[Answer]) -> float:
        began = time.monotonic()
        await answer
        return time.monotonic() - began

    async def both(path: Path) -> tuple[Any, bool]:
        asked = asyncio.create_task(ask(path, giant))
        if guarded:
            answer = await asked
            return answer, (await ask(path, neighbour)).texts[0] == said(own, neighbour)
        await until(path, lambda numbers: numbers["running"] == 1)
        beside = await seconds(ask(path, neighbour))
        asked.cancel()
        await until(path, lambda numbers: numbers["running"] == 0)
        return None, beside < 4 * await seconds(ask(path, neighbour))

    with serving(own.engine(), tmp_path) as (_, path):
        answer, neighbour_is_well = asyncio.run(both(path))
    assert neighbour_is_well == guarded
    if guarded:
        assert answer.fault is not None and (answer.fault.status, answer.fault.param) == (400, "stop")


def test_as_many_stop_strings_as_the_engine_takes_are_honoured(own: World) -> None:
    engine = own.engine()
    many = tuple(f"never {i}" for i in range(intake.MOST_STOPS))
    assert run(engine, call("a", stop=many))["a"].tokens == [own.plainly(call("a"))]
    for wrong in ((*many, "one more"), ("x" * (intake.MOST_STOP_CHARACTERS + 1),)):
        with pytest.raises(InvalidRequest, match="too many stop strings"):
            start(engine, call("b", stop=wrong))


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("guarded", "callers", "cache_tokens"),
    [(True, 400, 1024), (True, 400, 100_000), (False, 40, 100_000)],
    ids=["few pages", "many pages", "control"],
)
def test_a_storm_of_cancels_leaves_no_page_behind_and_neighbours_unchanged(
    own: World,
    tmp_path: Path,
    guarded: bool,
    callers: int,
    cache_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not guarded:  # the control: a sequence that did not come to its end keeps its pages
        release = Pages.release
        monkeypatch.setattr(
            Pages,
            "release",
            lambda self, holder, **how: release(self, holder, **how) if holder.is_finished else None,
        )
    engine = own.engine(max_running=16, cache_tokens=cache_tokens)
    adapters = (None, "good", "other")
    neighbours = [
        call(f"n{i}", range(30 + i, 60 + i), adapter=adapters[i % 3], max_new_tokens=100) for i in range(6)
    ]
    chance = random.Random(7)

    async def leave(path: Path, i: int) -> None:
        await asyncio.sleep(chance.random() * 2)
        wanted = call(
            f"c{i}", range(20, 40 + i % 60), adapter=adapters[i % 3], n=1 + i % 3, max_new_tokens=90
        )
        stream = frames_of(path, line(wanted.model_copy(update={"whole": i % 2 == 0})))
        with suppress(StopAsyncIteration, TimeoutError):
            async with asyncio.timeout(chance.random() * 0.5):
                while True:
                    await anext(stream)
        with suppress(RuntimeError):  # it may just be waiting for a frame
            await stream.aclose()

    async def storm(path: Path) -> tuple[list[str], dict[str, float]]:
        leaving = [asyncio.create_task(leave(path, i)) for i in range(callers)]
        answers = await asyncio.gather(*(ask(path, wanted) for wanted in neighbours))
        await asyncio.gather(*leaving)
        await until(path, lambda n: n["connections"] <= 1 and not n["running"] + n["waiting"], 20)
        return [answer.texts[0] for answer in answers], await stats(path)

    with serving(engine, tmp_path) as (_, path):
        texts, numbers = asyncio.run(storm(path))
    assert texts == [said(own, wanted) for wanted in neighbours]
    assert is_idle(numbers) == guarded
    if guarded:
        engine.scheduler.check_integrity()


# ── readers that stall ────────────────────────────────────────────────────────────────────────────────────


def post_that_waits(self: Listener, replies: list[Reply]) -> None:
    """The control: as `Listener.post`, but the step waits until each reader has taken what it was sent."""
    self._loop.call_soon_threadsafe(self._dispatch, replies)
    for reply in replies:
        while (found := self._connections.get(reply.request_id)) is not None:
            waiting, _ = found
            if not waiting._frames and not waiting._writer.transport.get_write_buffer_size():
                break
            time.sleep(0.001)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_reader_that_stalls_never_slows_the_step(
    own: World, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody puts it out here: the others do not wait for that."""
    if not guarded:
        monkeypatch.setattr(Listener, "post", post_that_waits)
    loud = call("silent", max_new_tokens=220, logprobs=20, n=8, logit_bias={2: -100}, temperature=1.0)
    wanted = call("other")

    async def other(path: Path) -> str | None:
        await until(path, lambda numbers: numbers["generated_tokens_total"] > 0)
        await asyncio.sleep(0.5)
        try:
            return (await asyncio.wait_for(ask(path, wanted), 5)).texts[0]
        except TimeoutError:
            return None

    with serving(own.engine(max_running=16), tmp_path, idle_reader_s=60.0) as (_, path):  # noqa: SIM117
        with socket.socket(socket.AF_UNIX) as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.connect(str(path))
            silent.sendall(line(loud))
            text = asyncio.run(other(path))
    assert text == (said(own, wanted) if guarded else None)
