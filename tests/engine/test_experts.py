"""Facts' experts beside tasks' adapters: each row gets the sum of its own, and one that does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from inhouse.engine import experts, proof
from inhouse.engine.adapters import Bank
from inhouse.engine.arena import factors_of
from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter
from tests.engine.memory_world import (
    COLOUR,
    FACTS,
    PRICE,
    Books,
    Together,
    ask,
    decisions,
    expert,
    expert_blob,
    expert_notes,
    mixed_calls,
    plainly,
)
from tests.engine.test_engine import assert_equal
from tests.engine.world import World, call, collect, run, start


def test_every_way_in_one_batch_equals_each_alone(world: World, books: Books) -> None:
    calls = mixed_calls()
    engine = world.engine(banks=books, max_running=16)
    together = run(engine, *calls)
    for wanted in calls:
        alone = run(world.engine(banks=books), wanted)[wanted.id]
        assert_equal(together[wanted.id], alone)
        assert together[wanted.id].memory == alone.memory
    scarce = run(world.engine(banks=books, adapter_rows=9), *calls)
    assert {name: a.tokens for name, a in scarce.items()} == {name: a.tokens for name, a in together.items()}


def test_an_expert_beside_an_adapter_is_the_sum_of_both(world: World, books: Books) -> None:
    price, colour = expert(world.decoder, seed=11), expert(world.decoder, seed=12, rank=2)
    adapters = {
        name: Adapter.read(world.adapter_folder(name), world.decoder)
        for name in ("small", "large", "attention")
    }
    expected = {
        "none": (),
        "expert": (price,),
        "expert, adapter": (adapters["large"], colour),
        "the same expert": (adapters["small"], price),
        "expert in a task": (colour,),
    }
    calls = {wanted.id: wanted for wanted in mixed_calls()}
    answers = run(world.engine(banks=books, max_running=16), *calls.values())
    for name, used in expected.items():
        assert answers[name].tokens == [plainly(world, calls[name], *used)], name
    assert answers["base"].tokens == [world.plainly(calls["base"])]
    assert answers["adapter"].tokens == [world.plainly(calls["adapter"])]
    for name in ("expert", "the same expert"):
        assert answers[name].tokens != [plainly(world, calls[name])], "the expert changes nothing"


def test_rows_of_the_base_are_exactly_the_base_beside_rows_of_two(world: World) -> None:
    bank = Bank(world.decoder, 40)
    small = Adapter.read(world.adapter_folder("small"), world.decoder)
    loud = Adapter(1, 1.0, {n: (a[:1] * 1e30, b[:, :1] * 1e30) for n, (a, b) in small.tensors.items()}, {})
    large, one = Adapter.read(world.adapter_folder("large"), world.decoder), expert(world.decoder, seed=11)
    for slot, adapter in ((0, small), (2, loud), (5, large), (6, one)):
        bank.load(slot, factors_of(adapter, torch.float32))
    for linear in world.decoder.linears():
        x = torch.randn(5, linear.weight.shape[1], generator=torch.Generator().manual_seed(0))
        mix = bank.mix([(), (5, 6), (2,), (6,), ()])
        assert mix is not None
        mixed = mix(linear, x)
        assert torch.equal(mixed[[0, 4]], linear.product(x)[[0, 4]])
        both = Together(world.decoder, large, one)(linear, x[1:2])[0]
        torch.testing.assert_close(mixed[1], both, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            mixed[3], Together(world.decoder, one)(linear, x[3:4])[0], atol=1e-5, rtol=1e-5
        )


def test_an_expert_says_how_much_it_does(world: World, books: Books) -> None:
    price, large = expert(world.decoder, seed=11), Adapter.read(world.adapter_folder("large"), world.decoder)
    wanted = ask("a", PRICE, "expert", adapter="large")
    request, _ = start(world.engine(banks=books), wanted)
    prompt, stored = list(request.prompt), world.tokenizer.encode("42 euros", special=False)
    means = []
    for used in ((large, price), (large,)):
        with torch.no_grad():
            logits = world.decoder.score([prompt + stored], Together(world.decoder, *used))
        logprobs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        means.append(float(logprobs.gather(1, torch.tensor(stored)[:, None]).mean()))
    assert request.recall is not None and request.recall.delta_logprob is not None
    assert request.recall.delta_logprob == pytest.approx(means[0] - means[1], abs=1e-4)
    outcome = replace(request.recall, is_held=False).outcome("42 euros", "expert")
    assert outcome.facts[0].delta_logprob == request.recall.delta_logprob


def test_of_a_long_text_no_gain_is_told(world: World, books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    for room, is_told in ((400, True), (20, False)):
        monkeypatch.setattr(proof, "MOST_TOKENS", room)
        request, _ = start(world.engine(banks=books), ask("a", PRICE, "expert"))
        assert request.recall is not None and request.recall.way == "expert"
        assert (request.recall.delta_logprob is not None) == is_told


def test_a_fact_without_an_expert_is_answered_as_if_none_were_asked_for(world: World, books: Books) -> None:
    books.experts.clear()
    answer = run(world.engine(banks=books), ask("a", PRICE, "expert"))["a"]
    assert decisions(answer.memory) == [("exact", [("f1", "exact", True)])]


def test_an_edited_fact_s_old_expert_is_never_used(world: World, books: Books) -> None:
    engine = world.engine(banks=books, adapter_rows=2)
    wanted = ask("a", PRICE, "expert", max_new_tokens=10)
    before = run(engine, wanted)["a"].tokens
    books.book.facts[0] = FACTS[0].model_copy(update={"version": 4})
    assert run(engine, wanted)["a"].memory[0].decision == "exact", "version 4 has no expert yet"
    books.experts[("f1", 4)] = expert_blob(world.decoder, "f1", 4, seed=99)
    after = run(engine, wanted)["a"].tokens
    assert after == [plainly(world, wanted, expert(world.decoder, seed=99))] != before


def bad_experts(world: World) -> list[tuple[str, bytes, str]]:
    decoder = world.decoder
    whole = expert_blob(decoder, "f1", 3, seed=1)
    nan = {"model.layers.0.mlp.gate_proj": (torch.full((1, 32), torch.nan), torch.ones(48, 1))}
    foreign = {
        "model.layers.0.mlp.gate_proj": (torch.ones(1, 31), torch.ones(48, 1)),
        "model.layers.9.mlp.gate_proj": (torch.ones(1, 32), torch.ones(48, 1)),
    }

    def blob(tensors: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> bytes:
        flat = {
            f"{n}.lora_{k}.weight": t for n, pair in tensors.items() for k, t in zip("AB", pair, strict=True)
        }
        return save(flat, expert_notes("f1", 3))

    return [
        ("cut short", whole[:-10], "not readable"),
        ("nothing", b"", "not readable"),
        ("another base", expert_blob(decoder, "f1", 3, seed=1, base_digest="c" * 64), "trained on base cccc"),
        ("another version", expert_blob(decoder, "f1", 4, seed=1), "of fact f1, version 4"),
        ("another rank", whole.replace(b'"rank":"1"', b'"rank":"3"'), "shapes"),
        ("no rank", whole.replace(b'"rank":"1"', b'"rank":"x"'), "no rank and scale"),
        ("nan", blob(nan), "NaN or infinity"),
        ("foreign", blob(foreign), r"shapes \(1, 31\).*layers\.9.*no such layer"),
    ]


def test_an_expert_that_does_not_fit_is_refused_with_the_list(world: World, books: Books) -> None:
    for name, blob, message in bad_experts(world):
        books.experts[("f1", 3)] = blob
        engine = world.engine(banks=books)
        with pytest.raises(BadCheckpoint, match=message):
            start(engine, ask(name, PRICE, "expert"))
        assert not engine.has_work
        good = run(engine, ask("good", COLOUR, "expert"), ask("exact", PRICE))
        assert good["exact"].texts[0] == "42 euros" and good["good"].fault is None


def test_an_expert_that_fails_as_it_is_loaded_fails_its_requests_alone(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    calls = [
        ask("gone", PRICE, "expert", adapter="small"),
        ask("stays", COLOUR, "expert", adapter="small"),
        call("base"),
    ]
    replies = [reply for wanted in calls for reply in start(engine, wanted)[1]]
    del books.experts[("f1", 3)]
    engine.intake.library.forget(experts.key_of("f1", 3))
    while engine.has_work:
        replies += engine.step()
        engine.scheduler.check_integrity()
    answers = collect(replies)
    assert answers["gone"].fault is not None and answers["gone"].fault.code == "resource_not_found"
    for name in ("stays", "base"):
        wanted = next(c for c in calls if c.id == name)
        assert answers[name].texts == run(world.engine(banks=books), wanted)[name].texts


def test_an_expert_s_key_names_the_fact_and_its_version() -> None:
    key = experts.key_of("fact:1", 12)
    assert experts.is_key(key) and not experts.is_key("b" * 64)
    assert experts.fact_of(key) == ("fact:1", 12)
