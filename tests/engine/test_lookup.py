"""Guesses from what stood before: they change how many steps a reply takes, and nothing of the reply."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from inhouse.engine.engine import Engine
from inhouse.engine.lookup import FIRST_WIDTH, REST, WIDEST, Lookup
from inhouse.engine.pages import Pages
from inhouse.engine.request import Request
from inhouse.engine.scheduler import Scheduler
from inhouse.engine.slots import Slots
from inhouse.schema import EngineRequest, Sampling, Structure
from inhouse.text.grammar import Matcher
from tests.engine.world import Answer, World, call, run
from tests.text.schemas import KEPT

REPEATED = [*range(40, 52), *range(40, 52), *range(40, 47)]
"""A prompt that repeats itself, so that there is always something to guess."""


ALWAYS = {"50": 100.0}
"""A bias that makes a reply of one token again and again: every guess is right."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("lookup"))
    made.adapter("small", rank=2, seed=1)
    return made


def test_a_guess_is_what_followed_the_latest_occurrence() -> None:
    tokens = [1, 2, 3, 9, 1, 2, 3, 7, 8, 1, 2, 3]
    assert Lookup().guess(tokens, 8) == (7, 8, 1)
    assert Lookup().guess(tokens, 2) == (7, 8)
    assert Lookup().guess([1, 2, 3, 4], 8) == ()
    assert Lookup().guess([5], 8) == () and Lookup().guess([5, 5], 8) == ()


def test_a_longer_match_is_believed_before_a_later_one() -> None:
    tokens = [1, 2, 3, 4, 9, 9, 3, 4, 8, 8, 1, 2, 3, 4]
    assert Lookup().guess(tokens, 1) == (9,)


def test_guesses_grow_while_they_are_right_and_rest_when_they_are_not() -> None:
    lookup, tokens = Lookup(), [1, 2, 3] * 9
    assert len(lookup.guess(tokens, 99)) == FIRST_WIDTH
    for _ in range(4):
        lookup.learn(lookup.width, lookup.width)
    assert lookup.width == WIDEST
    while lookup.width > 1:
        lookup.learn(lookup.width, 0)
    lookup.learn(1, 0)
    assert all(not lookup.guess(tokens, 99) for _ in range(REST))
    assert len(lookup.guess(tokens, 99)) == 1


def test_what_a_grammar_forces_is_tried_even_while_others_rest_and_as_far_as_guesses_fared() -> None:
    lookup, tokens, forced = Lookup(), [1, 2, 3] * 9, tuple(range(20))
    assert lookup.guess(tokens, 99, forced) == forced[:FIRST_WIDTH]
    lookup.learn(FIRST_WIDTH, FIRST_WIDTH)
    assert lookup.guess(tokens, 4, forced) == forced[:4]
    while not lookup.rest:
        lookup.learn(lookup.width, 0)
    assert lookup.guess(tokens, 99) == () and lookup.guess(tokens, 99, forced) == forced[:1]


FORCING = ("flat", "nested", "const", "enum", "escaped names", "one of", "recursion", "date-time", "unicode")
"""Schemas whose replies are forced in part."""


def formed(world: World, name: str, number: int) -> list[EngineRequest]:
    """Two replies of a schema, greedy and at temperature 2, where chance alone decides."""
    asked = Structure(param="response_format", json_schema=KEPT[name])
    return [
        call(f"{name} {heat}", max_new_tokens=90, temperature=heat, seed=number, structure=asked)
        for heat in (0.0, 2.0)
    ]


def steps(engine: Engine, requests: Sequence[EngineRequest]) -> tuple[dict[str, Answer], float]:
    before = engine.stats["steps_total"]
    answers = run(engine, *requests)
    return answers, engine.stats["steps_total"] - before


def test_forced_tokens_save_steps_and_change_no_reply(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    forcing, plain = world.engine(lookup="on"), world.engine(lookup="off")
    wanted = [formed(world, name, number) for number, name in enumerate(FORCING)]
    forced, plainly, guessed = 0.0, 0.0, 0.0
    for requests in wanted:
        answers, count = steps(forcing, requests)
        expected, more = steps(plain, requests)
        forced, plainly = forced + count, plainly + more
        for request in requests:
            same(answers[request.id], expected[request.id])
    monkeypatch.setattr(Matcher, "forced", lambda self: ())  # the control: what earlier text alone foretells
    for requests in wanted:
        guessed += steps(forcing, requests)[1]
    assert forced < 0.85 * guessed and guessed <= plainly


def test_a_reply_that_is_forced_whole_takes_few_steps(world: World) -> None:
    text = "all of this, word for word"
    asked = Structure(param="response_format", choice=(text,))
    engine = world.engine(lookup="on")
    answers, count = steps(engine, [call("a", structure=asked, max_new_tokens=90, logit_bias={})])
    assert answers["a"].texts == {0: text} and answers["a"].finish == {0: "stop"}
    assert count < len(answers["a"].tokens[0]), "it was drawn token by token"


def calls(seed: int) -> list[EngineRequest]:
    """Requests of every kind that a draw depends on, few enough that guesses are tried."""
    rng = random.Random(seed)
    kinds: list[dict[str, object]] = [
        {},
        {"temperature": 1.0, "seed": rng.randrange(99), "logprobs": 3},
        {"adapter": "small", "repetition_penalty": 1.3, "frequency_penalty": 0.5},
        {"temperature": 0.4, "seed": 3, "n": 2, "top_p": 0.9},
        {"temperature": 1.0, "seed": rng.randrange(99), "logit_bias": {"50": 60, "51": 59, "52": 57}},
    ]
    return [
        call(f"{i}", REPEATED[: rng.randint(14, len(REPEATED))], max_new_tokens=rng.randint(1, 40), **kind)
        for i, kind in enumerate(rng.sample(kinds, 2))
    ]


def same(one: Answer, other: Answer) -> None:
    assert one.tokens == other.tokens and one.texts == other.texts and one.finish == other.finish
    assert one.counted == other.counted
    assert one.done is not None and other.done is not None
    assert one.done.usage.completion_tokens == other.done.usage.completion_tokens
    for index, tokens in one.logprobs.items():
        assert [t.id for t in tokens] == [t.id for t in other.logprobs[index]]


def test_guessing_changes_no_token(world: World) -> None:
    guessing, plain = world.engine(lookup="on"), world.engine(lookup="off")
    for seed in range(12):
        wanted = calls(seed)
        guessed, plainly = run(guessing, *wanted), run(plain, *wanted)
        for request in wanted:
            same(guessed[request.id], plainly[request.id])
        guessing.scheduler.check_integrity()
    assert guessing.scheduler.guessed_right > 5 and plain.scheduler.guessed == 0


@pytest.mark.parametrize("seed", range(4))
def test_wrong_guesses_change_no_token_either(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = calls(seed)
    plainly = run(world.engine(lookup="off"), *wanted)
    rng = random.Random(seed)

    def anything(self: Lookup, tokens: Sequence[int], most: int, forced: object = ()) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 250) for _ in range(min(most, rng.randint(0, 8))))

    monkeypatch.setattr(Lookup, "guess", anything)
    engine = world.engine(lookup="on")
    guessed = run(engine, *wanted)
    assert engine.scheduler.guessed > 0
    for request in wanted:
        same(guessed[request.id], plainly[request.id])
    engine.scheduler.check_integrity()


def test_right_guesses_save_steps(world: World) -> None:
    request = call("a", REPEATED, max_new_tokens=80, logit_bias=ALWAYS)
    guessing, plain = world.engine(lookup="on"), world.engine(lookup="off")
    run(guessing, request)
    run(plain, request)
    steps, plainly = (int(engine.stats["steps_total"]) for engine in (guessing, plain))
    assert guessing.scheduler.guessed_right > 40
    assert steps < plainly / 2


def test_what_a_stop_string_cuts_off_is_neither_said_nor_counted(world: World) -> None:
    text = run(world.engine(lookup="off"), call("a", REPEATED, max_new_tokens=60, logit_bias=ALWAYS))[
        "a"
    ].texts[0]
    request = call("a", REPEATED, max_new_tokens=60, logit_bias=ALWAYS, stop=(text[:17],))
    engine = world.engine(lookup="on")
    same(run(engine, request)["a"], run(world.engine(lookup="off"), request)["a"])
    assert engine.scheduler.guessed_right > 0


def test_nobody_guesses_where_many_decode(world: World) -> None:
    engine = world.engine(lookup="on", token_budget=500)
    many = [call(f"{i}", REPEATED, max_new_tokens=12, logit_bias=ALWAYS) for i in range(6)]
    run(engine, *many)
    assert engine.scheduler.guessed == 0
    run(engine, call("alone", REPEATED, max_new_tokens=12, logit_bias=ALWAYS))
    assert engine.scheduler.guessed > 0


def test_guesses_take_no_page_from_anybody(tmp_path: Path) -> None:
    world = World(tmp_path)
    engine = world.engine(lookup="on", cache_tokens=64, reuses_prefixes=False)
    wanted = [call(f"{i}", REPEATED[:24], max_new_tokens=8) for i in range(2)]
    guessed = run(engine, *wanted)
    assert engine.scheduler.preemptions == 0
    plainly = run(world.engine(lookup="off"), *wanted)
    for request in wanted:
        same(guessed[request.id], plainly[request.id])


def test_guesses_under_a_grammar_change_no_token(tmp_path: Path) -> None:
    """A grammar takes note of each drawn token once, whether it was guessed or not."""
    world = World(tmp_path, max_position_embeddings=1024)
    row = '{"name": "anna", "age": 41, "town": "anna"}'
    ids = world.tokenizer.encode(f"[{row}, {row}, ")
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["anna"]}, "age": {"const": 41}, "town": {"type": "string"}},
        "required": ["name", "age", "town"],
        "additionalProperties": False,
    }
    formed = Structure(param="response_format", json_schema=schema)
    bias = {str(world.tokenizer.encode(c, special=False)[0]): 5.0 for c in '"}'}
    wanted = [
        call(f"{i}", ids, max_new_tokens=90, temperature=1.0, seed=i, structure=formed, logit_bias=bias)
        for i in range(3)
    ]
    engine = world.engine(lookup="on")
    guessed, plainly = run(engine, *wanted), run(world.engine(lookup="off"), *wanted)
    for request in wanted:
        same(guessed[request.id], plainly[request.id])
    assert engine.scheduler.guessed_right > 10, "the names of the keys can be guessed"


@pytest.mark.parametrize("guessing", [0, 4])
def test_guesses_put_nobody_out(guessing: int) -> None:
    """One page is left, which the younger needs soon: a guess of the older must not take it before."""
    scheduler = Scheduler(Pages(4, 4), Slots(1), max_running=4, token_budget=64, guessing=guessing)
    scheduler.add(Request("a", (5, 6, 5, 6, 5, 6), Sampling(), 0, 14, frozenset({99})), 0)
    scheduler.add(Request("b", (1, 2, 3), Sampling(), 0, 6, frozenset({99})), 0)
    while scheduler.has_work:
        plan = scheduler.plan(0.0)
        drawn = {row.sequence: [11 - row.sequence.tokens[-1]] for row in plan.rows if row.samples}
        scheduler.commit(plan, drawn)
        scheduler.check_integrity()
    assert scheduler.preemptions == 0
    assert bool(scheduler.guessed) == bool(guessing)


def test_guesses_wait_while_somebody_waits_for_pages() -> None:
    scheduler = Scheduler(Pages(3, 4), Slots(1), max_running=4, token_budget=64, guessing=4)
    scheduler.add(Request("a", (5, 6, 5, 6, 5, 6, 5), Sampling(), 0, 12, frozenset({99})), 0)
    plan = scheduler.plan(0.0)
    scheduler.commit(plan, {row.sequence: [6] for row in plan.rows})
    scheduler.add(Request("b", tuple(range(8)), Sampling(), 0, 9, frozenset({99})), 0)
    plan = scheduler.plan(0.0)
    assert [(row.sequence.request.id, row.drafts) for row in plan.rows] == [("a", ())], (
        "its two pages are full: a guess would take the last page, for which somebody waits"
    )


def test_a_grammar_is_asked_once_for_each_token_that_is_drawn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses are rows of their own, and must not each ask for the same mask."""
    masks = 0
    compute = Matcher.mask

    def counted(self: Matcher) -> bytes:
        nonlocal masks
        masks += 1
        return compute(self)

    monkeypatch.setattr(Matcher, "mask", counted)
    engine = world.engine(lookup="on")
    answers = run(engine, *formed(world, next(iter(FORCING)), 0))
    assert engine.stats["guessed_tokens_total"] > 0
    assert masks == sum(len(tokens) for answer in answers.values() for tokens in answer.tokens)
