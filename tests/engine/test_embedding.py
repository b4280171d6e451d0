"""A prompt's embedding: what it is the mean of, and that nothing around it changes a bit of it."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
import torch

from inhouse import ops
from inhouse.engine import embedding
from inhouse.engine.embedding import Pool, parts_of
from inhouse.engine.request import Request
from inhouse.errors import ContextLengthExceeded, InternalError
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.layers import Packed
from inhouse.schema import EngineRequest
from tests.engine.world import World, call, run, start


def embed(name: str, tokens: list[int], **fields: object) -> EngineRequest:
    return EngineRequest(id=name, tokens=tuple(tokens), embeds=True, **fields)  # type: ignore[arg-type]


def vector(text: str | None) -> torch.Tensor:
    assert text is not None
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)


def told(world: World, *calls: EngineRequest, **engine: object) -> dict[str, str]:
    """Each call's embedding, of those that want one."""
    answers = run(world.engine(**engine), *calls)  # type: ignore[arg-type]
    faults = {name: answer.fault for name, answer in answers.items() if answer.fault}
    assert not faults, faults
    found = {name: answer.done.embedding for name, answer in answers.items() if answer.done}
    return {name: text for name, text in found.items() if text is not None}


def plainly(world: World, tokens: list[int], adapter: str | None = None) -> torch.Tensor:
    """The unpaged, unbatched way: one forward pass, a mean, a norm."""
    adapters = None
    if adapter is not None:
        adapters = LoadedLora(Adapter.read(world.adapter_folder(adapter), world.decoder), world.decoder)
    with torch.no_grad():
        hidden = world.decoder.forward(
            torch.tensor(tokens), torch.arange(len(tokens)), Packed([len(tokens)]), adapters
        )
    mean = hidden.double().mean(dim=0)
    return (mean / mean.norm()).float()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of the shapes that the processor's kernels take: they give a token the same bits whoever is beside it."""
    world = World(tmp_path_factory.mktemp("wide"), hidden_size=128, intermediate_size=128)
    names = {ops.kernels.choose(name, world.decoder.device).name for name in ("linear", "prefill_attention")}
    if "reference" in names:
        pytest.skip("the processor's kernels are not there")
    world.adapter("small", rank=2, seed=1)
    return world


LONG = [40 + i * 7 % 200 for i in range(150)]
PROMPTS = {"one": [77], "short": list(range(40, 60)), "page": list(range(60, 76)), "long": LONG}


@pytest.mark.parametrize("adapter", [None, "small"])
def test_an_embedding_is_the_mean_of_the_final_states_at_length_one(
    world: World, adapter: str | None
) -> None:
    found = told(world, *(embed(name, tokens, adapter=adapter) for name, tokens in PROMPTS.items()))
    for name, tokens in PROMPTS.items():
        got = vector(found[name])
        assert got.norm().item() == pytest.approx(1, abs=1e-6)
        torch.testing.assert_close(got, plainly(world, tokens, adapter), atol=2e-6, rtol=1e-4)


def test_an_embedding_has_the_same_bits_alone_in_a_batch_and_however_it_is_cut_up(wide: World) -> None:
    alone = {name: told(wide, embed(name, tokens))[name] for name, tokens in PROMPTS.items()}
    crowd = [
        *(embed(name, tokens) for name, tokens in PROMPTS.items()),
        *(call(f"chat{i}", range(50 + i, 70 + i), max_new_tokens=30) for i in range(3)),
        embed("tuned", LONG, adapter="small"),
    ]
    for budget in (16, 33, 64, 512):
        together = told(wide, *crowd, token_budget=budget)
        assert {name: together[name] for name in PROMPTS} == alone, f"a budget of {budget} tokens"
        assert together["tuned"] != alone["long"], "the adapter changes it"


def test_a_prompt_whose_beginning_is_known_is_read_whole(wide: World) -> None:
    engine = wide.engine()
    first = run(engine, call("chat", LONG, max_new_tokens=4))
    assert first["chat"].done is not None
    answers = run(engine, embed("late", LONG), embed("again", LONG))
    done = [answers[name].done for name in ("late", "again")]
    assert [d.usage.cached_tokens for d in done if d] == [0, 0]
    assert {d.embedding for d in done if d} == {told(wide, embed("fresh", LONG))["fresh"]}
    # and its own pages are of use to others
    after = run(engine, call("chat", LONG, max_new_tokens=4))["chat"].done
    assert after is not None and after.usage.cached_tokens >= len(LONG) - 16


def test_an_embedding_that_gave_way_midway_counts_no_token_twice(wide: World) -> None:
    alone = told(wide, embed("it", LONG, priority="batch"))["it"]
    engine = wide.engine(cache_tokens=256, token_budget=32)
    request, replies = start(engine, embed("it", LONG, priority="batch"))
    for _ in range(2):
        replies += engine.step()
    assert 0 < request.choices[0].scored < len(LONG)
    _, more = start(engine, call("urgent", range(50, 180), max_new_tokens=20))
    replies += more
    while engine.has_work:
        replies += engine.step()
        engine.scheduler.check_integrity()
    assert engine.scheduler.preemptions >= 1
    (done,) = [r.frame.done for r in replies if r.request_id == "it" and r.frame.done]
    assert done.embedding == alone


def test_usage_counts_the_prompt_and_it_is_known_before_the_end(world: World) -> None:
    engine = world.engine(token_budget=32)
    request, replies = start(engine, embed("it", LONG))
    replies += engine.step()
    (first,) = [r.frame.delta for r in replies if r.frame.delta]
    assert (first.prompt_tokens, first.finish_reason) == (len(LONG), None)
    while engine.has_work:
        replies += engine.step()
    done = replies[-1].frame.done
    assert done is not None and replies[-1].request_id == request.id
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (150, 0, 150)


def test_a_cancelled_embedding_gives_its_pages_back(world: World) -> None:
    engine = world.engine(token_budget=32)
    start(engine, embed("it", LONG))
    engine.step()
    engine.cancel("it")
    assert not engine.has_work
    engine.scheduler.check_integrity()
    assert engine.scheduler.pages.free == engine.scheduler.pages.count


def test_too_long_a_prompt_is_told_the_limit_and_its_length(world: World) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"256.* 257 "):
        world.engine().intake.prepare(embed("it", [50] * 257), "it")
    assert isinstance(world.engine().intake.prepare(embed("it", [50] * 256), "it"), Request)


def test_states_that_are_no_numbers_fail_their_request_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "LARGEST", 1e-3)  # as if every state had overflowed
    answers = run(world.engine(), embed("bad", LONG), call("good", range(40, 60)))
    fault = answers["bad"].fault
    assert fault is not None and (fault.status, fault.code) == (500, "internal_error")
    assert answers["good"].done is not None and answers["good"].fault is None


def test_sums_do_not_hang_on_how_states_are_parted() -> None:
    states = torch.randn(300, 8, generator=torch.Generator().manual_seed(3)) * 50
    whole = pooled(states, [300])
    for counts in ([1] * 300, [7, 93, 200], [299, 1]):
        assert pooled(states, counts) == whole
    floats = {
        float(sum((states[a:b, 0].sum() for a, b in pairwise([0, *cuts, 300])), torch.tensor(0.0)))
        for cuts in ([], list(range(1, 300)), [7, 100])
    }
    assert len(floats) > 1, "the control: plain sums of float32 differ"


def pooled(states: torch.Tensor, counts: list[int]) -> str:
    pool = Pool()
    for part in parts_of(states, counts):
        pool.add(part)
    return pool.text()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 2.0**15])
def test_a_state_that_cannot_be_added_is_found(bad: float) -> None:
    states = torch.ones(5, 4)
    states[3, 2] = bad
    (fine, broken) = parts_of(states, [3, 2])
    Pool().add(fine)
    with pytest.raises(InternalError):
        Pool().add(broken)
