"""What is wrong with one request is its own fault: the others do not notice."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inhouse.engine import engine as engine_module
from inhouse.engine.engine import Engine, Reply
from inhouse.engine.faults import around_request, error_of
from inhouse.engine.library import AtHand
from inhouse.engine.plan import Plan
from inhouse.errors import BadCheckpoint, ContextLengthExceeded, InhouseError, InvalidRequest, NotFound
from inhouse.model.adapters import WEIGHTS, Adapter
from inhouse.schema import EngineFault, Message
from inhouse.text.template import ChatTemplate
from tests.engine.world import World, call, collect, random_adapter, run, start


@pytest.fixture
def own(tmp_path: Path) -> World:
    """A world that a test may break."""
    own = World(tmp_path)
    own.adapter("good", rank=2, seed=1)
    return own


def unguarded(request_id: str, work: Any) -> Any:
    """The control: no wall around a request."""
    return work()


def careless(self: Engine, plan: Plan, at_hand: AtHand) -> tuple[Plan, list[Reply]]:
    """The control: what could not be read is met by the step itself."""
    for key, _ in plan.loads:
        if isinstance(fault := at_hand[key], EngineFault):
            raise error_of(fault)
    return LOADED(self, plan, at_hand)


LOADED = Engine._loaded


@pytest.mark.parametrize("guarded", [True, False])
def test_an_adapter_lost_after_admission_faults_its_requests_alone(
    own: World, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:
        monkeypatch.setattr(Engine, "_loaded", careless)
    own.adapter("lost", rank=3, seed=2)
    engine = own.engine()
    bystanders = [call("base"), call("tuned", adapter="good")]
    started = [
        start(engine, wanted)
        for wanted in [*bystanders, call("x", adapter="lost", n=2), call("y", adapter="lost")]
    ]
    (own.adapters / "lost").rename(own.adapters / "gone")
    replies = []
    if not guarded:
        with pytest.raises(InhouseError, match="no artifact lost"):
            while engine.has_work:
                engine.step()
        return
    while engine.has_work:
        replies += engine.step()
        engine.scheduler.check_integrity()
    answers = collect(replies)
    for name in "xy":
        fault = answers[name].fault
        assert fault is not None and (fault.status, fault.code) == (404, "resource_not_found")
    for (request, _), wanted in zip(started, bystanders, strict=False):
        assert request.choices[0].tokens[20:] == own.plainly(wanted)
    (own.adapters / "gone").rename(own.adapters / "lost")
    back = call("z", adapter="lost")
    assert run(engine, back)["z"].tokens == [own.plainly(back)]


@pytest.mark.parametrize("guarded", [True, False])
def test_an_adapter_that_overflows_faults_alone_and_its_pages_harm_nobody(
    own: World, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guarded:
        monkeypatch.setattr(engine_module, "around_request", unguarded)
    tensors = {
        name: (a * 1e19, b * 1e19) for name, (a, b) in random_adapter(own.decoder, rank=2, seed=9).items()
    }
    Adapter(2, 4.0, tensors, {}).write(own.adapters / "huge", own.decoder.config, base="tiny")
    engine = own.engine(cache_tokens=160)
    bystander = call("base", max_new_tokens=20)
    calls = [bystander, call("tuned", adapter="good"), call("x", adapter="huge", n=2)]
    if not guarded:
        with pytest.raises(InhouseError, match="not finite"):
            run(engine, *calls)
        return
    answers = run(engine, *calls)
    fault = answers["x"].fault
    assert fault is not None and fault.status == 500 and "not finite" in fault.message
    assert answers["base"].tokens == [own.plainly(bystander)]
    assert answers["tuned"].tokens == [own.plainly(calls[1])]
    # Its keys and values still lie in pages that others get now.
    after = [call(f"after {i}", range(40 + i, 60 + i)) for i in range(4)]
    for wanted in after:
        wanted_tokens = own.plainly(wanted)
        assert run(engine, wanted)[wanted.id].tokens == [wanted_tokens]
    assert [a.tokens for a in run(engine, *after).values()] == [[own.plainly(w)] for w in after]


def test_what_a_failed_request_computed_is_nobody_s_prefix(own: World) -> None:
    tensors = {
        name: (a * 1e19, b * 1e19) for name, (a, b) in random_adapter(own.decoder, rank=2, seed=9).items()
    }
    Adapter(2, 4.0, tensors, {}).write(own.adapters / "huge", own.decoder.config, base="tiny")
    engine = own.engine(token_budget=16)  # a whole page is read, and known, before the fault shows
    for _ in range(2):
        fault = run(engine, call("x", adapter="huge"))["x"].fault
        assert fault is not None and "not finite" in fault.message
    assert engine.stats["prefix_tokens_total"] == 0
    run(engine, call("good", adapter="good"), call("again"))
    run(engine, call("good", adapter="good"), call("again"))
    assert engine.stats["prefix_tokens_total"] == 32, "the control: what went well is found"


def test_stale_nan_in_a_free_page_is_never_read(own: World) -> None:
    engine = own.engine()
    for store in (*engine.runner.cache.keys, *engine.runner.cache.values):
        store[: engine.runner.cache.nowhere] = torch.nan
    calls = [call(str(i), range(40, 50 + 7 * i)) for i in range(3)]
    answers = run(engine, *calls)
    assert all(answers[wanted.id].tokens == [own.plainly(wanted)] for wanted in calls)


def refusals(own: World) -> list[tuple[Any, type[InhouseError], str]]:
    return [
        (call("a", adapter="nobody"), NotFound, "no artifact nobody"),
        (
            call("a", range(3, 203), max_new_tokens=57),
            ContextLengthExceeded,
            "256 tokens. The prompt has 200 and 57",
        ),
        (call("a", [5] * 256, max_new_tokens=None), ContextLengthExceeded, "The prompt has 256 and 1"),
        (call("a", []), InvalidRequest, "no tokens"),
        (call("a", [264]), InvalidRequest, "token 264; the model has tokens 0 to 263"),
        (call("a", [-1]), InvalidRequest, "token -1"),
        (call("a", logit_bias={264: 1.0}), InvalidRequest, "logit_bias names token 264"),
        (call("a", stop=("x", "")), InvalidRequest, "stop string is empty"),
        (call("a", prompt="x").model_copy(update={"tokens": (5,)}), InvalidRequest, "2 were given"),
        (call("a").model_copy(update={"tokens": None}), InvalidRequest, "0 were given"),
    ]


def test_what_cannot_be_served_is_refused_before_it_is_queued(own: World) -> None:
    engine = own.engine()
    for wanted, kind, message in refusals(own):
        with pytest.raises(kind, match=message):
            start(engine, wanted)
        assert not engine.has_work


def test_a_template_that_refuses_a_conversation_is_the_caller_s_fault(tmp_path: Path) -> None:
    own = World(tmp_path)
    (own.folder / "chat_template.jinja").write_text("{{ raise_exception('no system messages') }}")
    own.template = ChatTemplate.load(own.folder, own.tokenizer)
    with pytest.raises(InvalidRequest, match="no system messages"):
        start(own.engine(), call("a", messages=(Message(role="system", content="x"),)))


def test_an_adapter_of_another_shape_is_refused_with_the_list(own: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", hidden_size=64, num_attention_heads=8)
    other.adapter("foreign", rank=2, seed=1)
    (other.adapters / "foreign").rename(own.adapters / "foreign")
    with pytest.raises(BadCheckpoint, match=r"does not fit its base: model\.layers\.0"):
        start(own.engine(), call("a", adapter="foreign"))


def test_an_adapter_of_another_base_is_refused_by_its_digest(own: World) -> None:
    own.adapter("elsewhere", rank=2, seed=1, base_digest="c" * 64)
    own.adapter("here", rank=2, seed=1, base_digest="b" * 64)
    engine: Engine = own.engine()
    start(engine, call("a", adapter="here"))
    with pytest.raises(BadCheckpoint, match="trained on base cccc"):
        start(engine, call("b", adapter="elsewhere"))


def test_an_adapter_with_nan_is_refused(own: World) -> None:
    file = own.adapters / "good" / WEIGHTS
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, file)
    answers = run(own.engine(), call("a", adapter="good"), call("b"))
    fault = answers["a"].fault
    assert fault is not None and fault.code == BadCheckpoint.code
    assert "holds NaN" in fault.message and "in 1 modules: model.layers.0." in fault.message
    assert answers["b"].tokens == [own.plainly(call("b"))]


def test_a_fault_of_ours_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    prompt = "canary"

    def work() -> None:
        raise KeyError(prompt)

    with caplog.at_level(logging.ERROR):
        fault = around_request("chatcmpl-1", work)
    assert isinstance(fault, EngineFault)
    assert (fault.status, fault.code) == (500, "internal_error")
    assert "KeyError" in caplog.text and "chatcmpl-1" in caplog.text and "in work" in caplog.text
    assert "canary" not in caplog.text and "canary" not in fault.message
