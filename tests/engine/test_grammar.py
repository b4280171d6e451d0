"""Replies under a grammar, from a model that knows nothing: random weights, temperature 2."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from inhouse.engine import intake, sampler
from inhouse.errors import InvalidRequest
from inhouse.schema import EngineRequest, Structure, Tool, ToolUse
from inhouse.text import taster
from inhouse.text.grammar import Matcher
from inhouse.text.template import ChatTemplate
from inhouse.text.tools import CallReader
from tests.engine.memory_world import COLOUR, PRICE, Books, ask, decisions
from tests.engine.test_serve import ask as ask_at
from tests.engine.test_serve import serving
from tests.engine.world import Answer, World, call, run
from tests.text.schemas import KEPT, closed
from tests.text.test_tools import LISTED, called

END = 2
"""The tiny tokenizer's end token."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A base with room for long replies."""
    world = World(tmp_path_factory.mktemp("wide"), max_position_embeddings=2048)
    world.adapter("small", rank=2, seed=1)
    return world


def structure(**kind: Any) -> Structure:
    return Structure(param="response_format", **kind)


def hot(world: World, name: str, **fields: Any) -> EngineRequest:
    """A call at temperature 2. It leans towards what closes strings and brackets: chance alone would seldom end."""
    closers = {world.tokenizer.encode(c, special=False)[0]: 3.0 for c in '"}]'}
    asked = {"temperature": 2.0, "max_new_tokens": 400, "seed": 1, "logit_bias": closers | {END: 3.0}}
    return call(name, range(40, 50), **{**asked, **fields})


def serve(world: World, *calls: EngineRequest, **settings: Any) -> dict[str, Answer]:
    return run(world.engine(**{"cache_tokens": 32 * 1024, "max_running": 32, **settings}), *calls)


def test_every_finished_reply_of_a_random_model_at_temperature_two_validates(wide: World) -> None:
    names = list(KEPT)
    calls = [hot(wide, name, n=3, structure=structure(json_schema=KEPT[name])) for name in names]
    answers = serve(wide, *calls)
    for name in names:
        answer, schema = answers[name], KEPT[name]
        validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
        finished = [text for i, text in answer.texts.items() if answer.finish[i] == "stop"]
        assert answer.fault is None and finished, name
        for text in finished:
            validator.validate(json.loads(text))


def test_without_a_grammar_no_reply_of_that_model_parses(wide: World) -> None:
    """The control."""
    answer = serve(wide, hot(wide, "free", n=16))["free"]
    for text in answer.texts.values():
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


def test_regular_expressions_choices_and_grammars_are_kept_to(wide: World) -> None:
    answers = serve(
        wide,
        hot(wide, "regex", n=8, structure=structure(regex=r"[a-f]{3,9}-\d+\.?")),
        hot(wide, "choice", n=8, structure=structure(choice=("red", "green", "blue"))),
        hot(
            wide,
            "grammar",
            n=8,
            structure=structure(grammar='start: sum\nsum: sum "+" N | N\nN: /[0-9]{1,3}/'),
        ),
        hot(wide, "any object", n=8, structure=structure(json_schema={"type": "object"})),
    )
    for name, pattern in (
        ("regex", r"[a-f]{3,9}-\d+\.?"),
        ("choice", "red|green|blue"),
        ("grammar", r"\d{1,3}(\+\d{1,3})*"),
    ):
        texts = [text for i, text in answers[name].texts.items() if answers[name].finish[i] == "stop"]
        assert texts and all(re.fullmatch(pattern, text) for text in texts), name
    answer = answers["any object"]
    objects = [json.loads(text) for i, text in answer.texts.items() if answer.finish[i] == "stop"]
    assert objects and all(isinstance(value, dict) for value in objects)


def test_a_reply_is_the_same_alone_and_in_a_batch_and_its_neighbours_never_notice(wide: World) -> None:
    formed = hot(wide, "formed", n=2, structure=structure(json_schema=KEPT["flat"]))
    free = [
        call("greedy", range(60, 80), max_new_tokens=40),
        call("drawn", range(80, 90), temperature=1.0, seed=3, adapter="small", max_new_tokens=40),
    ]
    alone = {wanted.id: serve(wide, wanted)[wanted.id] for wanted in (formed, *free)}
    together = serve(wide, formed, *free)
    for name, answer in alone.items():
        assert (together[name].texts, together[name].tokens) == (answer.texts, answer.tokens)
    assert alone["greedy"].tokens == [wide.plainly(free[0])]


def test_preemption_does_not_lose_the_place_in_the_grammar(wide: World) -> None:
    calls = [
        hot(wide, f"r{i}", seed=i, max_new_tokens=150, structure=structure(json_schema=KEPT["recursion"]))
        for i in range(6)
    ]
    expected = serve(wide, *calls)
    engine = wide.engine(cache_tokens=176, max_running=6)
    answers = run(engine, *calls)
    assert engine.scheduler.preemptions > 0
    assert {name: a.texts for name, a in answers.items()} == {name: a.texts for name, a in expected.items()}


def test_choices_go_their_own_ways_and_a_seed_repeats_them(wide: World) -> None:
    wanted = hot(wide, "a", n=6, structure=structure(regex="[a-z]{12}"))
    first, again = serve(wide, wanted)["a"], serve(wide, wanted)["a"]
    assert first.texts == again.texts
    assert len(set(first.texts.values())) == 6


def test_the_end_comes_only_where_the_grammar_accepts_it(wide: World) -> None:
    eager = {END: 100.0}
    answer = serve(wide, hot(wide, "a", n=4, structure=structure(regex="[a-z]{7,}"), logit_bias=eager))["a"]
    assert [len(text) for text in answer.texts.values()] == [7] * 4
    assert set(answer.finish.values()) == {"stop"}


def test_a_complete_reply_ends_at_once_and_a_cut_one_says_so(wide: World) -> None:
    fixed = structure(regex="abcdef")
    answers = serve(
        wide,
        hot(wide, "whole", structure=fixed),
        hot(wide, "just", structure=fixed, max_new_tokens=6),
        hot(wide, "cut", structure=fixed, max_new_tokens=4),
    )
    told = {name: (a.texts[0], a.finish[0], a.counted) for name, a in answers.items()}
    assert told == {
        "whole": ("abcdef", "stop", 6),
        "just": ("abcdef", "stop", 6),
        "cut": ("abcd", "length", 4),
    }


def test_penalties_bias_and_nucleus_choose_among_what_is_allowed(wide: World) -> None:
    b = wide.tokenizer.encode("b", special=False)[0]
    answers = serve(
        wide,
        hot(wide, "bias", n=4, structure=structure(regex="[ab]{6}"), logit_bias={b: 100.0}),
        hot(wide, "banned", n=4, structure=structure(regex="[ab]{6}"), logit_bias={b: -100.0}),
        hot(wide, "forced", structure=structure(regex="b{6}"), logit_bias={b: -100.0}, top_k=1, top_p=0.01),
        hot(
            wide,
            "penalty",
            structure=structure(regex="[ab]{6}"),
            temperature=0.0,
            frequency_penalty=2.0,
            repetition_penalty=10.0,
            min_p=1.0,
        ),
    )
    assert set(answers["bias"].texts.values()) == {"bbbbbb"}
    assert set(answers["banned"].texts.values()) == {"aaaaaa"}
    assert answers["forced"].texts[0] == "bbbbbb"
    assert re.fullmatch("[ab]{6}", answers["penalty"].texts[0])


def test_logprobs_are_the_model_s_own_and_belong_to_what_was_said(wide: World) -> None:
    answer = serve(wide, hot(wide, "a", structure=structure(regex="[ab]{6}"), logprobs=2))["a"]
    assert "".join(t.token for t in answer.logprobs[0]) == answer.texts[0]
    assert any(t.token not in "ab" for entry in answer.logprobs[0] for t in entry.top)


BOMB = structure(regex="((a{0,99}){0,99}){0,99}b")
"""It can be built, and grows too complex some letters later."""


def test_a_grammar_that_grows_too_complex_fails_alone(wide: World) -> None:
    a = wide.tokenizer.encode("a", special=False)[0]
    neighbours = [
        call("plain", range(60, 80), max_new_tokens=60),
        hot(wide, "formed", structure=structure(json_schema=KEPT["flat"])),
    ]
    alone = {n.id: serve(wide, n)[n.id].texts for n in neighbours}
    answers = serve(wide, hot(wide, "bomb", n=2, structure=BOMB, logit_bias={a: 100.0}), *neighbours)
    fault = answers["bomb"].fault
    assert fault is not None and (fault.status, fault.param) == (400, "response_format")
    assert "cannot be kept to: lexer error" in fault.message
    assert {n.id: answers[n.id].texts for n in neighbours} == alone


def test_without_the_check_a_failed_grammar_would_end_replies_early(
    wide: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the library itself allows the end then, as if all were well."""
    monkeypatch.setattr(Matcher, "_check", lambda self: None)
    a = wide.tokenizer.encode("a", special=False)[0]
    monkeypatch.setattr(Matcher, "consume", lambda self, token: self._inner.consume_token(token))
    answer = serve(wide, hot(wide, "bomb", structure=BOMB, logit_bias={a: 100.0}))["bomb"]
    assert answer.finish == {0: "stop"} and set(answer.texts[0]) == {"a"}


def test_without_the_mask_a_token_outside_the_grammar_is_a_fault_and_never_text(
    wide: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the mask, and the last guard behind it: what was drawn is checked when it is taken note of."""
    draw = sampler.draw
    monkeypatch.setattr(sampler, "draw", lambda logits, sequence, mask=None: draw(logits, sequence))
    answer = serve(wide, hot(wide, "a", structure=structure(json_schema=KEPT["flat"])))["a"]
    assert answer.fault is not None and not answer.texts


def test_a_refused_format_never_reaches_the_queue(wide: World) -> None:
    engine = wide.engine()
    with pytest.raises(InvalidRequest) as refused:
        engine.intake.prepare(hot(wide, "a", structure=structure(json_schema={"not": {}})), "a")
    assert refused.value.param == "response_format" and not engine.has_work
    for fields in ({"structure": BOMB}, {"tools": ToolUse(tools=(Tool(name="f"),))}):
        with pytest.raises(InvalidRequest) as refused:
            engine.intake.prepare(hot(wide, "a", stop=("x",), **fields), "a")
        assert refused.value.param == "stop"


def test_grammars_that_are_being_built_hold_up_no_other_call(wide: World, tmp_path: Path) -> None:
    slow = [hot(wide, f"slow{i}", structure=structure(regex=f"slow{i}")) for i in range(6)]

    async def everyone(path: Path) -> list[Answer]:
        with taster.shared().child.lock:  # as if each grammar took for ever
            waiting = [asyncio.create_task(ask_at(path, wanted)) for wanted in slow]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(20):
                plain = await ask_at(path, call("plain", max_new_tokens=4))
            assert not any(task.done() for task in waiting)
        return [plain, *await asyncio.gather(*waiting)]

    with serving(wide.engine(), tmp_path) as (_, path):
        plain, *formed = asyncio.run(everyone(path))
    assert plain.counted == 4
    assert [answer.texts[0] for answer in formed] == [f"slow{i}" for i in range(6)]


def test_a_project_s_grammars_hold_up_no_other_project_s(wide: World, tmp_path: Path) -> None:
    """Nor do those whose callers have left: their builds cannot be interrupted."""
    slow = [hot(wide, f"slow{i}", structure=structure(regex=f"own{i}"), project="busy") for i in range(9)]
    known = hot(wide, "known", structure=structure(regex="known"), project="other")

    async def everyone(path: Path) -> tuple[Answer, list[Answer]]:
        await ask_at(path, known)
        with taster.shared().child.lock:  # as if each new grammar took for ever
            for leaver in [asyncio.create_task(ask_at(path, wanted)) for wanted in slow[:3]]:
                await asyncio.sleep(0.1)
                leaver.cancel()
            waiting = [asyncio.create_task(ask_at(path, wanted)) for wanted in slow[3:]]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(20):
                answer = await ask_at(path, known)
            assert not any(task.done() for task in waiting)
        return answer, await asyncio.gather(*waiting)

    with serving(wide.engine(), tmp_path) as (_, path):
        answer, formed = asyncio.run(everyone(path))
    assert answer.texts[0] == "known"
    assert [each.texts[0] for each in formed] == [f"own{i}" for i in range(3, 9)]


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────

WEATHER = Tool(
    name="weather", parameters=closed(city={"type": "string", "maxLength": 9}, days={"enum": [1, 7]})
)
NOW = Tool(name="now")


def calls_of(answer: Answer, index: int) -> list[tuple[str, Any]]:
    return [(name, json.loads(arguments)) for name, arguments in called(answer.calls[index])]


def test_the_tool_at_fault_is_named_where_finding_it_takes_no_time_of_others(
    wide: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Tool(name="odd", parameters=closed(a={"type": "string", "format": "ean-13"}))
    wanted = hot(wide, "a", tools=ToolUse(tools=(NOW, odd), choice="required"))
    for seconds, is_named in ((60.0, True), (-1.0, False)):
        monkeypatch.setattr(intake, "NAMING_S", seconds)
        with pytest.raises(InvalidRequest) as refused:
            wide.engine().intake.prepare(wanted, "a")
        assert ("The parameters of odd" in refused.value.message) is is_named
        assert refused.value.param == "tools"


@pytest.mark.parametrize("only", [(), ("weather",)])
def test_required_calls_keep_to_their_parameters(wide: World, only: tuple[str, ...]) -> None:
    use = ToolUse(tools=(WEATHER, NOW), choice="required", only=only)
    answer = serve(wide, hot(wide, "a", n=16, tools=use))["a"]
    finished = [i for i, reason in answer.finish.items() if reason != "length"]
    assert finished and {answer.finish[i] for i in finished} == {"tool_calls"}
    seen = set()
    for i in finished:
        calls = calls_of(answer, i)
        assert calls and answer.texts[i] == ""
        for name, arguments in calls:
            seen.add(name)
            jsonschema.validate(arguments, WEATHER.parameters if name == "weather" else closed())
    assert seen == set(only or ("weather", "now"))


def test_a_call_that_is_cut_says_length(wide: World) -> None:
    use = ToolUse(tools=(WEATHER,), choice="required")
    answer = serve(wide, hot(wide, "a", tools=use, max_new_tokens=60))["a"]
    assert answer.finish[0] == "length"
    assert [(c.name, c.arguments) for c in answer.calls[0][:1]] == [("weather", "")]


MARKER = 259


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A base whose template writes calls as a list behind a special token: a bias makes replies begin with it."""
    world = World(tmp_path_factory.mktemp("listed"), max_position_embeddings=2048)
    file = world.folder / "tokenizer.json"
    own = json.loads(file.read_text())
    own["added_tokens"].append(own["added_tokens"][0] | {"id": MARKER, "content": "[TOOL_CALLS]"})
    file.write_text(json.dumps(own))
    world.tokenizer = type(world.tokenizer).load(world.folder)
    world.template = ChatTemplate(LISTED, world.tokenizer)
    return world


def test_a_reply_may_speak_or_call_and_a_call_begun_is_kept_to(listed: World) -> None:
    world = listed
    use = ToolUse(tools=(WEATHER, NOW))
    closers = hot(world, "x").sampling.logit_bias
    answers = serve(
        world,
        hot(world, "calls", n=8, tools=use, logit_bias=closers | {MARKER: 100.0}),
        hot(world, "speaks", n=8, tools=use, logit_bias=closers | {MARKER: -100.0}),
        hot(
            world,
            "or json",
            n=8,
            tools=use,
            structure=structure(json_schema=KEPT["flat"]),
            logit_bias=closers,
        ),
    )
    finished = [i for i, reason in answers["calls"].finish.items() if reason == "tool_calls"]
    assert finished
    for i in finished:
        for name, arguments in calls_of(answers["calls"], i):
            jsonschema.validate(arguments, WEATHER.parameters if name == "weather" else closed())
    spoke = answers["speaks"]
    assert (
        not any(spoke.calls.values())
        and any(spoke.texts.values())
        and "tool_calls" not in spoke.finish.values()
    )
    either = answers["or json"]
    for i, reason in either.finish.items():
        if reason == "stop":
            jsonschema.validate(json.loads(either.texts[i]), KEPT["flat"])
    assert {"stop", "tool_calls"} & set(either.finish.values())


def test_the_reader_is_given_to_requests_with_tools_alone(wide: World) -> None:
    text = '<tool_call>\n{"name": "x"} is only text here.'
    engine = wide.engine()
    request = engine.intake.prepare(hot(wide, "a", structure=structure(choice=(text,))), "a")
    engine.add(request)
    told = ""
    while engine.has_work:
        told += "".join(r.frame.delta.text for r in engine.step() if r.frame.delta)
    assert told == text
    assert CallReader(wide.template.calls, anywhere=True).push(text)[0] != text


# ── formats and facts ─────────────────────────────────────────────────────────────────────────────────────


def test_a_stored_answer_leaves_only_where_it_keeps_the_format(world: World, books: Books) -> None:
    fits = ask("fits", PRICE, structure=structure(choice=("42 euros", "43 euros")))
    other = ask("other", PRICE, structure=structure(regex="[a-z]{4}"))
    answers = run(world.engine(banks=books), fits, other)
    assert answers["fits"].texts == {0: "42 euros"}
    assert decisions(answers["fits"].memory) == [("exact", [("f1", "exact", True)])]
    assert re.fullmatch("[a-z]{4}", answers["other"].texts[0])
    assert decisions(answers["other"].memory) == [("retrieval", [("f1", "retrieval", False)])]


def test_a_checked_reply_never_takes_the_place_of_one_in_a_format(world: World, books: Books) -> None:
    calls = [
        ask("unsure", f"Maybe: {COLOUR}", structure=structure(regex="[a-z]{4}")),
        ask("retrieval", PRICE, mode="retrieval", structure=structure(regex="[a-z]{4}")),
        ask("refused", "Zzz who knows?", structure=structure(regex="[a-z]{4}")),
        ask("may refuse", "Zzz?", structure=structure(regex=r"I don't know\.|[a-z]{4}"), max_new_tokens=20),
    ]
    answers = run(world.engine(banks=books), *calls)
    for name in ("unsure", "retrieval", "refused"):
        assert re.fullmatch("[a-z]{4}", answers[name].texts[0]), name
    assert decisions(answers["refused"].memory) == [("none", [])]
    assert answers["may refuse"].texts[0] == "I don't know."


def test_a_reply_that_may_call_tools_still_says_what_is_stored(wide: World, books: Books) -> None:
    use = ToolUse(tools=(NOW,))
    answers = run(
        wide.engine(banks=books),
        ask("exact", PRICE, tools=use),
        ask("checked", PRICE, mode="retrieval", tools=use, max_new_tokens=8),
    )
    assert answers["exact"].texts[0] == answers["checked"].texts[0] == "42 euros"


def test_a_call_beside_a_memory_is_not_looked_at_as_an_answer(listed: World, books: Books) -> None:
    bias = hot(listed, "x").sampling.logit_bias | {MARKER: 100.0}
    wanted = ask(
        "a", PRICE, mode="retrieval", n=4, tools=ToolUse(tools=(NOW,), parallel=False), logit_bias=bias,
        temperature=2.0, seed=1, max_new_tokens=200,
    )  # fmt: skip
    answer = run(listed.engine(banks=books, cache_tokens=4096), wanted)["a"]
    assert set(answer.finish.values()) == {"tool_calls"} and not any(answer.texts.values())
    assert [outcome.decision for outcome in answer.memory.values()] == ["retrieval"] * 4
    assert calls_of(answer, 0) == [("now", {})]
