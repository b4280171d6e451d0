"""Refusals and faults of requests with a memory: what cannot be asked, and that nobody else notices."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inhouse.engine.connection import joined
from inhouse.engine.engine import Engine, Reply
from inhouse.engine.listener import Listener
from inhouse.engine.recall import REFUSAL
from inhouse.errors import ContextLengthExceeded, InhouseError, InvalidRequest, NotFound
from inhouse.schema import Delta, EngineFrame, EngineRequest, MemoryOutcome
from tests.engine.memory_world import COLOUR, PRICE, Books, ask, mixed_calls, use
from tests.engine.test_serve import ask as ask_socket
from tests.engine.test_serve import frames_of, is_idle, line, serving, until
from tests.engine.world import World, call, collect, run, start


def refusals() -> list[tuple[EngineRequest, type[InhouseError], str]]:
    return [
        (call("a", memory=use()), InvalidRequest, "answers conversations"),
        (call("a", prompt="x", memory=use()), InvalidRequest, "answers conversations"),
        (ask("a", PRICE, echo=True), InvalidRequest, "answers conversations"),
        (ask("a", PRICE, "exact", logprobs=1), InvalidRequest, "no log-probabilities"),
        (ask("a", PRICE, memory=use(bank="other")), NotFound, "no bank other"),
        (ask("a", "x" * 300), ContextLengthExceeded, "context holds 256"),
    ]


def test_what_cannot_be_asked_of_a_memory_is_refused(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    for wanted, kind, message in refusals():
        with pytest.raises(kind, match=message):
            start(engine, wanted)
        assert not engine.has_work
    with pytest.raises(InvalidRequest, match="serves no memories"):
        start(world.engine(), ask("a", PRICE))
    with pytest.raises(InvalidRequest, match="rank rows together; this engine has 2"):
        start(world.engine(banks=books, adapter_rows=2), ask("a", PRICE, "expert", adapter="small"))


def test_only_exact_gives_stored_answers_or_nothing(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    for text, leaves in (
        (PRICE, "42 euros"),
        (f"Both: {PRICE} | {COLOUR}", "42 euros; dark green"),
        (f"Maybe: {PRICE}", REFUSAL),
        (f"Task: {PRICE}", REFUSAL),
        ("Long?", REFUSAL),
    ):
        answer = run(engine, ask("a", text, "exact", adapter="small", max_new_tokens=None))["a"]
        assert answer.texts[0] == leaves
    assert engine.stats["steps_total"] == 0


def socket(world: World, books: Books, folder: Path, work: Callable[[Path], Any], **settings: Any) -> Any:
    with serving(world.engine(banks=books, **settings), folder) as (_, path):
        return asyncio.run(work(path))


def test_a_bank_that_breaks_harms_nobody_else(
    world: World, books: Books, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [call("plain"), ask("exact", PRICE), ask("broken", "Break!"), ask("held", f"Maybe: {PRICE}")]

    async def work(path: Path) -> list[Any]:
        answers = await asyncio.gather(*(ask_socket(path, wanted) for wanted in calls * 3))
        assert is_idle(await until(path, is_idle))
        return answers

    with caplog.at_level(logging.ERROR):
        answers = socket(world, books, tmp_path, work)
    for wanted, answer in zip(calls * 3, answers, strict=True):
        if wanted.id == "broken":
            assert answer.fault is not None and answer.fault.code == "internal_error"
        else:
            alone = run(world.engine(banks=books), wanted)[wanted.id]
            assert (answer.texts, answer.memory) == (alone.texts, alone.memory)
    assert "Break!" not in caplog.text, "the log quotes a prompt"


@pytest.mark.parametrize("guarded", [True, False])
def test_a_bank_that_takes_its_time_delays_no_request_without_a_memory(
    world: World, books: Books, tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control prepares all calls in the same few threads."""
    if not guarded:
        start_up = Listener.__init__

        def with_one_pool(self: Listener, *args: Any, **options: Any) -> None:
            start_up(self, *args, **options)
            self._memory_pool = self._pool

        monkeypatch.setattr(Listener, "__init__", with_one_pool)

    async def work(path: Path) -> bool:
        slow = [asyncio.create_task(ask_socket(path, ask(f"slow {i}", "Wait!"))) for i in range(4)]
        await until(path, lambda numbers: numbers["connections"] == 4)
        plain = asyncio.create_task(ask_socket(path, call("plain")))
        await asyncio.wait([plain], timeout=10 if guarded else 1)
        is_answered = plain.done()
        books.book.awaited.set()
        for answer in await asyncio.gather(*slow, plain):
            assert answer.fault is None
        return is_answered

    assert socket(world, books, tmp_path, work) == guarded


def test_streamed_text_is_the_whole_text_for_every_way(world: World, books: Books, tmp_path: Path) -> None:
    calls = mixed_calls(n=2)

    async def work(path: Path) -> list[Any]:
        return list(await asyncio.gather(*(ask_socket(path, wanted) for wanted in calls)))

    for wanted, answer in zip(calls, socket(world, books, tmp_path, work), strict=True):
        alone = run(world.engine(banks=books), wanted)[wanted.id]
        assert (answer.texts, answer.finish, answer.memory) == (alone.texts, alone.finish, alone.memory)
        assert answer.done is not None and answer.done.usage.completion_tokens == answer.counted


def test_who_leaves_while_a_reply_is_held_gives_everything_back(
    world: World, books: Books, tmp_path: Path
) -> None:
    wanted = ask("a", PRICE, "expert", adapter="small", max_new_tokens=None, logit_bias={2: -100})

    async def work(path: Path) -> None:
        async for frame in frames_of(path, line(wanted)):
            assert frame.delta is not None and frame.delta.text == ""
            break
        assert is_idle(await until(path, is_idle))
        assert (await ask_socket(path, ask("b", PRICE))).texts == {0: "42 euros"}

    socket(world, books, tmp_path, work)


def test_after_random_cancels_every_page_and_slot_is_back(world: World, books: Books) -> None:
    source = random.Random(3)
    engine: Engine = world.engine(banks=books, adapter_rows=9, cache_tokens=512)
    calls = {f"{n} {wanted.id}": wanted for n in range(4) for wanted in mixed_calls()}
    replies: list[Reply] = []
    alive: dict[str, EngineRequest] = {}
    for name, wanted in calls.items():
        alive[name] = wanted.model_copy(update={"id": name})
        replies += start(engine, alive[name])[1]
        replies += engine.step() if engine.has_work else []
        if source.random() < 0.3:
            gone = source.choice(list(alive))
            engine.cancel(gone)
            del alive[gone]
        engine.scheduler.check_integrity()
    while engine.has_work:
        replies += engine.step()
        engine.scheduler.check_integrity()
    assert engine.scheduler.pages.free == engine.scheduler.pages.count
    assert engine.scheduler.slots.pins == 0
    answers = collect(replies)
    alone = {wanted.id: run(world.engine(banks=books), wanted)[wanted.id] for wanted in mixed_calls()}
    for name in alive:
        assert answers[name].texts == alone[name.split(" ", 1)[1]].texts


# ── explaining ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_socket_explains_what_the_bank_sees(world: World, books: Books, tmp_path: Path) -> None:
    async def explained(path: Path, wanted: EngineRequest | None) -> EngineFrame:
        (frame,) = [frame async for frame in frames_of(path, line(wanted, "explain"))]
        return frame

    async def work(path: Path) -> list[EngineFrame]:
        asked = [ask("a", PRICE), ask("a", "Hello"), ask("a", "Break!"), ask("a", "Odd!"), call("a"), None]
        return [await explained(path, wanted) for wanted in asked]

    known, unknown, broken, odd, plain, nothing = socket(world, books, tmp_path, work)
    assert known.explained == {
        "decision": "exact",
        "hits": [{"id": "f1", "gate": 0.99}],
        "why": {"text": len(PRICE)},
        "revision": 1,
    }
    assert unknown.explained is not None and unknown.explained["decision"] == "none"
    assert broken.fault is not None and broken.fault.code == "internal_error"
    assert odd.fault is not None and odd.fault.code == "internal_error"
    assert plain.fault is not None and "needs a memory" in plain.fault.message
    assert nothing.fault is not None and "needs a request" in nothing.fault.message


def test_joined_deltas_keep_the_memory_s_word_and_the_prompt_s_tokens() -> None:
    outcome = MemoryOutcome(bank="b", revision=1, decision="none")
    frames = [
        EngineFrame(delta=Delta(text="a", tokens=1, prompt_tokens=9)),
        EngineFrame(delta=Delta(text="b", tokens=1, finish_reason="stop", memory=outcome)),
    ]
    ((request, frame),) = joined([(3, frame) for frame in frames])
    assert request == 3
    assert frame.delta == Delta(text="ab", tokens=2, prompt_tokens=9, finish_reason="stop", memory=outcome)
