"""The engine as a whole: whoever shares a batch, each request is answered as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence as Items
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse import ops
from inhouse.engine import sampler
from inhouse.engine.adapters import Bank, Grouped, Stacked
from inhouse.engine.arena import factors_of
from inhouse.engine.engine import Engine
from inhouse.errors import InvalidRequest
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.layers import Linear
from inhouse.schema import EngineRequest, Message, Structure
from tests.engine.world import Answer, World, call, collect, run, start
from tests.tiny import CONFIGS

ADAPTERS = (None, "small", "large", None, "attention", "small")


def mixed_calls(**fields: object) -> list[EngineRequest]:
    """Base and adapters of different rank, prompts of different length."""
    return [
        call(f"{adapter}-{i}", range(20 + 9 * i, 23 + 9 * i + 5 * i), adapter=adapter, **fields)
        for i, adapter in enumerate(ADAPTERS)
    ]


def assert_equal(one: Answer, other: Answer) -> None:
    """Same tokens and text; log-probabilities within float32's rounding."""
    assert one.tokens == other.tokens
    assert one.texts == other.texts
    assert one.finish == other.finish
    for index, logprobs in one.logprobs.items():
        for mine, theirs in zip(logprobs, other.logprobs[index], strict=True):
            assert mine.id == theirs.id
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)
            assert [t.logprob for t in mine.top] == pytest.approx([t.logprob for t in theirs.top], abs=1e-5)


def test_a_mixed_batch_equals_each_request_alone(world: World) -> None:
    calls = mixed_calls(logprobs=20)
    together = run(world.engine(), *calls)
    for wanted in calls:
        alone = run(world.engine(), wanted)[wanted.id]
        assert len(alone.logprobs[0]) > 0
        assert_equal(together[wanted.id], alone)
    assert together["small-1"].texts != together["None-0"].texts, "the adapters change nothing"


@pytest.mark.parametrize("family", CONFIGS)
def test_paged_equals_unpaged(tmp_path: Path, family: str) -> None:
    world = World(tmp_path, family)
    world.adapter("small", rank=2, seed=1)
    calls = [
        call(f"{i}", range(20 + i, 45 + 7 * i), adapter=a, max_new_tokens=24)
        for i, a in enumerate((None, "small", None))
    ]
    answers = run(world.engine(), *calls)
    for wanted in calls:
        assert answers[wanted.id].tokens == [world.plainly(wanted)]


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "phi3"])
def test_caps_sinks_and_long_ropes_are_the_same_in_chunks_and_after_preemption(
    tmp_path: Path, family: str
) -> None:
    world = World(tmp_path, family)
    world.adapter("small", rank=2, seed=1)
    calls = [
        call(f"{i}", range(20 + i, 45 + 9 * i), adapter=a, max_new_tokens=24, logprobs=5, echo=True)
        for i, a in enumerate((None, "small", None, "small"))
    ]
    engine = world.engine(token_budget=9, cache_tokens=112)
    crowded = run(engine, *calls)
    assert engine.scheduler.preemptions > 0
    for wanted in calls:
        assert_equal(crowded[wanted.id], run(world.engine(token_budget=500), wanted)[wanted.id])
        assert crowded[wanted.id].tokens == [world.plainly(wanted)]


@pytest.mark.parametrize("budget", [8, 9, 16, 200])
def test_a_prompt_in_chunks_equals_the_whole(world: World, budget: int) -> None:
    calls = [call(f"{a}", range(10, 160), adapter=a, logprobs=5, echo=True) for a in (None, "large")]
    chunked = run(world.engine(token_budget=budget), *calls)
    for wanted in calls:
        assert_equal(chunked[wanted.id], run(world.engine(token_budget=500), wanted)[wanted.id])


def test_preemption_gives_the_same_tokens(world: World) -> None:
    calls = mixed_calls(max_new_tokens=40, temperature=1.0, seed=5, logprobs=2, echo=True)
    engine = world.engine(cache_tokens=128)
    crowded = run(engine, *calls)
    assert engine.scheduler.preemptions > 0
    for wanted in calls:
        assert_equal(crowded[wanted.id], run(world.engine(), wanted)[wanted.id])


@pytest.mark.parametrize("is_stacked", [True, False])
def test_rows_of_the_base_are_exactly_the_base_whatever_adapters_share_the_batch(
    world: World, is_stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "prefers_stack", lambda *_, **__: is_stacked)
    bank = Bank(world.decoder, 16)
    overflowing = {
        name: (a * 1e30, b * 1e30)
        for name, (a, b) in Adapter.read(world.adapter_folder("small"), world.decoder).tensors.items()
    }
    bank.load(3, factors_of(Adapter(2, 4.0, overflowing, {}), torch.float32))
    large = Adapter.read(world.adapter_folder("large"), world.decoder)
    bank.load(1, factors_of(large, torch.float32))
    mix = bank.mix([(), (3,), (1,), ()])
    assert isinstance(mix, Stacked if is_stacked else Grouped)
    linear: Linear = world.decoder.blocks[0].attention.qkv
    x = torch.randn(4, linear.weight.shape[1], generator=torch.Generator().manual_seed(0))
    mixed, base = mix(linear, x), linear.product(x)
    assert torch.equal(mixed[[0, 3]], base[[0, 3]])
    assert torch.isfinite(mixed[2]).all(), "another row's overflow spilled over"
    assert not torch.isfinite(mixed[1]).all()
    alone = bank.mix([(1,)])
    assert alone is not None
    torch.testing.assert_close(mixed[2], alone(linear, x[2:3])[0], atol=1e-5, rtol=1e-5)


def test_a_batch_of_the_base_alone_has_no_adapters_to_compute(world: World) -> None:
    assert Bank(world.decoder, 1).mix([(), ()]) is None


def test_adapters_beyond_the_arena_take_turns(world: World) -> None:
    calls = mixed_calls()
    engine = world.engine(adapter_rows=7)  # the largest alone, or the other two together
    answers = run(engine, *calls)
    for wanted in calls:
        assert answers[wanted.id].tokens == [world.plainly(wanted)]
    assert engine.stats["adapter_loads_total"] == 3
    assert engine.stats["adapters_resident"] in (1, 2)


@pytest.mark.parametrize("budget", [16, 500])
def test_a_prefix_found_computed_gives_the_answer_that_reading_it_gives(world: World, budget: int) -> None:
    shared = list(range(40, 90))
    calls = [
        call(
            f"{adapter} {end}", [*shared, end, end + 1], adapter=adapter, logprobs=5, temperature=0.8, seed=3
        )
        for adapter in (None, "small", "large")
        for end in (100, 120)
    ]
    engine, fresh = world.engine(token_budget=budget), world.engine(reuses_prefixes=False)
    for wanted in calls:
        first, again = run(engine, wanted)[wanted.id], run(engine, wanted)[wanted.id]
        read = run(fresh, wanted)[wanted.id]
        assert_equal(first, read)
        assert_equal(again, read)
        found = [
            answer.done.usage.cached_tokens for answer in (first, again, read) if answer.done is not None
        ]
        assert found == [0 if wanted.id.endswith("100") else 48, 48, 0]
    assert engine.stats["prefix_tokens_total"] == 48 * 9


def test_a_conversation_s_next_turn_finds_the_reply_that_was_given(world: World) -> None:
    engine = world.engine()
    first = call("a", range(40, 60), max_new_tokens=20, logit_bias={2: -100})
    reply = run(engine, first)["a"].tokens[0]
    following = call("b", [*range(40, 60), *reply, 5, 6, 7])
    answer = run(engine, following)["b"]
    assert answer.done is not None and answer.done.usage.cached_tokens == 32
    assert answer.tokens == [world.plainly(following)]


def test_no_project_starts_with_another_s_prefix(world: World) -> None:
    engine = world.engine()
    for project, found in (("ours", 0), ("theirs", 0), ("ours", 16), ("theirs", 16)):
        answer = run(engine, call("a", range(40, 60), project=project))["a"]
        assert answer.done is not None and answer.done.usage.cached_tokens == found


def test_batch_gives_way_to_interactive_requests_and_its_answers_stay_the_same(world: World) -> None:
    engine = world.engine(max_running=2)
    batch = [call(f"batch {i}", range(40 + i, 70 + i), priority="batch", max_new_tokens=30) for i in range(3)]
    started = [start(engine, wanted)[0] for wanted in batch]
    for _ in range(5):
        engine.step()
    talk = call("talk", range(90, 100), max_new_tokens=3)
    quick = start(engine, talk)[0]
    engine.step()
    assert quick.generated == 1, "the very next step is its"
    while engine.has_work:
        engine.step()
        engine.scheduler.check_integrity()
    assert engine.scheduler.preemptions > 0
    for wanted, request in zip([*batch, talk], [*started, quick], strict=True):
        assert request.choices[0].tokens[len(request.prompt) :] == world.plainly(wanted)


def test_choices_are_drawn_on_their_own_and_share_their_prompt(world: World) -> None:
    wanted = call("n", range(40, 90), n=4, temperature=1.0, seed=3, max_new_tokens=6)
    engine = world.engine(token_budget=500)
    answer = run(engine, wanted)["n"]
    assert len(set(map(tuple, answer.tokens))) == 4
    assert answer.done is not None
    assert answer.done.usage.prompt_tokens == 50
    assert answer.done.usage.completion_tokens == answer.counted == sum(map(len, answer.tokens))
    first = run(world.engine(), wanted.model_copy(update={"n": 1}))["n"]
    assert first.tokens[0] == answer.tokens[0]


def test_choices_that_share_pages_survive_preemption(world: World) -> None:
    wanted = call("n", range(40, 90), n=5, temperature=1.0, seed=3, max_new_tokens=30)
    engine = world.engine(cache_tokens=144)
    crowded = run(engine, wanted, call("other", range(50), max_new_tokens=30))["n"]
    assert engine.scheduler.preemptions > 0
    assert_equal(crowded, run(world.engine(), wanted)["n"])


@pytest.mark.parametrize("guarded", [True, False])
def test_a_seed_repeats_whatever_shares_the_batch(
    world: World, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:  # the control: numbers from one common generator
        monkeypatch.setattr(sampler, "_uniform", lambda size, sequence: torch.rand(size).double())
    wanted = call("x", temperature=1.3, seed=11, top_p=0.95, top_k=50, n=2, max_new_tokens=20)
    alone = run(world.engine(), wanted)["x"].tokens
    again = run(world.engine(), wanted)["x"].tokens
    shared = run(world.engine(token_budget=16), *mixed_calls(temperature=1.0, seed=11), wanted)["x"].tokens
    other = run(
        world.engine(),
        wanted.model_copy(update={"sampling": wanted.sampling.model_copy(update={"seed": 12})}),
    )
    assert (alone == again == shared) == guarded
    assert other["x"].tokens != alone


def test_without_a_seed_two_answers_differ(world: World) -> None:
    answers = run(world.engine(), *(call(name, temperature=1.5, max_new_tokens=20) for name in "ab"))
    assert answers["a"].tokens != answers["b"].tokens


def test_the_context_s_end_is_a_length_and_more_is_refused(world: World) -> None:
    answer = run(world.engine(), call("a", range(3, 253), max_new_tokens=None, logit_bias={2: -100}))["a"]
    assert answer.finish == {0: "length"}
    assert answer.counted == 256 - 250


def test_the_template_s_end_token_stops_a_reply_and_has_no_text(world: World) -> None:
    wanted = call("a", messages=(Message(role="user", content="hi"),), logit_bias={2: 100}, logprobs=0)
    answer = run(world.engine(), wanted)["a"]
    assert (answer.finish, answer.texts, answer.counted) == ({0: "stop"}, {0: ""}, 1)
    assert answer.logprobs[0] == []


def test_who_ignores_the_end_gets_exactly_so_many_tokens_as_were_asked_for(world: World) -> None:
    asked = {"prompt": "hi", "max_new_tokens": 9, "logit_bias": {2: 100}}
    engine = world.engine()
    ends = run(engine, call("a", **asked))["a"]
    goes_on = run(engine, call("b", **asked, ignore_eos=True))["b"]
    assert (ends.finish, ends.counted) == ({0: "stop"}, 1)
    assert (goes_on.finish, goes_on.counted, goes_on.tokens) == ({0: "length"}, 9, [[2] * 9])


def test_a_format_has_an_end_that_nobody_ignores(world: World) -> None:
    choice = Structure(param="structured_outputs", choice=("yes", "no"))
    with pytest.raises(InvalidRequest, match="ignore_eos writes on past the end"):
        start(world.engine(), call("a", structure=choice, ignore_eos=True))


def test_streamed_text_is_the_text_of_the_tokens(world: World) -> None:
    soup = run(
        world.engine(), call("a", temperature=2.0, seed=1, max_new_tokens=200, n=3, logit_bias={2: -100})
    )["a"]
    assert soup.texts == {i: world.tokenizer.decode(tokens) for i, tokens in enumerate(soup.tokens)}


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_no_stop_string_leaks_in_text_nor_in_logprobs(world: World, data: st.DataObject) -> None:
    free = call(
        "a", temperature=2.0, seed=data.draw(st.integers(0, 99)), max_new_tokens=30, logit_bias={2: -100}
    )
    whole = run(world.engine(), free)["a"].texts[0]
    at = data.draw(st.integers(0, len(whole) - 1))
    stop = whole[at : at + data.draw(st.integers(1, 4))]
    answer = run(
        world.engine(),
        free.model_copy(
            update={"sampling": free.sampling.model_copy(update={"stop": (stop,), "logprobs": 0})}
        ),
    )["a"]
    assert answer.texts[0] == whole[: whole.index(stop)]
    assert answer.finish == {0: "stop"}
    spelled = b"".join(bytes(logprob.bytes) for logprob in answer.logprobs[0])
    assert answer.texts[0].encode().startswith(spelled) or "\ufffd" in answer.texts[0]


def test_echoed_logprobs_equal_the_model_s_logits(world: World) -> None:
    prompt = list(range(30, 75))
    wanted = call("a", prompt, echo=True, logprobs=3, max_new_tokens=0, adapter="large", n=2)
    engine = world.engine(token_budget=16)
    answer = run(engine, wanted, call("other", logprobs=1))["a"]
    lora = LoadedLora(Adapter.read(world.adapter_folder("large"), world.decoder), world.decoder)
    with torch.no_grad():
        expected = world.decoder.score([prompt], lora).log_softmax(-1)
    assert answer.finish == {0: "length", 1: "length"}
    assert answer.counted == 0
    for index in range(2):
        assert answer.texts[index] == world.tokenizer.decode(prompt)
        first, *others = answer.logprobs[index]
        assert (first.id, first.logprob) == (prompt[0], None)
        for place, logprob in enumerate(others):
            assert logprob.id == prompt[place + 1]
            assert logprob.logprob == pytest.approx(float(expected[place, logprob.id]), abs=1e-5)
            best = expected[place].topk(3)
            assert [t.id for t in logprob.top] == best.indices.tolist()


def test_echo_comes_before_the_reply(world: World) -> None:
    for logprobs in (None, 0):
        answer = run(
            world.engine(), call("a", prompt="Say: ", echo=True, logprobs=logprobs, max_new_tokens=3)
        )["a"]
        assert answer.texts[0] == "Say: " + world.tokenizer.decode(answer.tokens[0])
        assert len(answer.logprobs[0]) == (0 if logprobs is None else 5 + len(answer.tokens[0]))


def test_nothing_to_generate_needs_no_model(world: World) -> None:
    engine = world.engine()
    answers = run(engine, call("a", prompt="hi", echo=True, max_new_tokens=0), call("b", max_new_tokens=0))
    assert answers["a"].texts == {0: "hi"} and answers["b"].texts == {0: ""}
    assert answers["a"].finish == answers["b"].finish == {0: "length"}
    assert engine.stats["steps_total"] == 0


@settings(deadline=None, max_examples=15)
@given(
    cancels=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=6),
    budget=st.sampled_from([8, 20, 100]),
)
def test_after_random_cancels_every_page_is_back_and_the_others_are_right(
    world: World, cancels: Items[tuple[int, int]], budget: int
) -> None:
    calls = mixed_calls(max_new_tokens=10)
    engine: Engine = world.engine(cache_tokens=160, token_budget=budget)
    requests, replies = {}, []
    for wanted in calls:
        requests[wanted.id] = start(engine, wanted)[0]
    number = 0
    gone = set()
    while engine.has_work:
        for at, who in cancels:
            if at == number:
                engine.cancel(calls[who].id)
                gone.add(calls[who].id)
        replies += engine.step()
        engine.scheduler.check_integrity()
        number += 1
    assert engine.scheduler.pages.free == engine.scheduler.pages.count
    answers = collect(replies)
    for wanted in calls:
        if wanted.id not in gone:
            assert requests[wanted.id].choices[0].tokens[len(wanted.tokens or ()) :] == world.plainly(wanted)
            assert answers[wanted.id].done is not None
