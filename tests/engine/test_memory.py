"""Requests with a memory: which way each goes, what leaves and what never does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inhouse.engine.memory import record, with_records
from inhouse.engine.recall import REFUSAL, Recall
from inhouse.engine.settled import settled
from inhouse.errors import ContextLengthExceeded
from inhouse.schema import Message
from tests.engine.memory_world import (
    COLOUR,
    FACTS,
    PRICE,
    Book,
    BookHit,
    Books,
    ask,
    decisions,
    fact,
    plainly,
    use,
)
from tests.engine.world import World, call, collect, run, start

# ── exact ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_stored_answer_is_an_ordinary_completion_without_a_step(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    wanted = ask("a", PRICE)
    request, replies = start(engine, wanted)
    assert not request.needs_model and not engine.has_work
    answer = collect(replies)["a"]
    assert (answer.texts, answer.finish) == ({0: "42 euros"}, {0: "stop"})
    assert len(replies) == len("42 euros") + 2, "a delta for each token, the end's, and the last frame"
    assert answer.done is not None and answer.done.usage.prompt_tokens == len(request.prompt)
    assert answer.done.usage.completion_tokens == answer.counted == len("42 euros") + 1
    assert request.prompt == tuple(world.template.prompt(wanted.messages or ()))
    assert sum(r.frame.delta.prompt_tokens for r in replies if r.frame.delta) == len(request.prompt)
    outcome = answer.memory[0]
    assert (outcome.bank, outcome.revision, outcome.decision) == ("bank_1", 1, "exact")
    (citation,) = outcome.facts
    assert (citation.id, citation.version, citation.mode, citation.verified) == ("f1", 3, "exact", True)
    assert (citation.source, citation.span, citation.gate) == ("prices.pdf", "X costs 42 euros.", 0.99)
    assert engine.stats["steps_total"] == 0 and not engine.scheduler.has_work


def test_facts_that_coexist_are_answered_together_for_every_choice(world: World, books: Books) -> None:
    answer = run(world.engine(banks=books), ask("a", "Who owns X?", n=3))["a"]
    assert answer.texts == dict.fromkeys(range(3), "Ann; Bob")
    assert decisions(answer.memory) == [("exact", [("f3", "exact", True), ("f4", "exact", True)])] * 3
    assert answer.done is not None and answer.done.usage.completion_tokens == answer.counted == 3 * 9


@pytest.mark.parametrize(
    ("changes", "text", "finish", "tokens", "verified"),
    [
        ({"max_new_tokens": 4}, "42 e", "length", 4, False),
        ({"max_new_tokens": 8}, "42 euros", "length", 8, True),
        ({"max_new_tokens": 9}, "42 euros", "stop", 9, True),
        ({"max_new_tokens": 0}, "", "length", 0, False),
        ({"max_new_tokens": None}, "42 euros", "stop", 9, True),
        ({"stop": ("ro", "s")}, "42 eu", "stop", 7, False),
        ({"stop": ("rose",)}, "42 euros", "stop", 9, True),
    ],
)
def test_a_stored_answer_is_cut_as_a_model_s_reply_would_be(
    world: World, books: Books, changes: dict[str, Any], text: str, finish: str, tokens: int, verified: bool
) -> None:
    answer = run(world.engine(banks=books), ask("a", PRICE, **changes))["a"]
    assert (answer.texts[0], answer.finish[0], answer.counted) == (text, finish, tokens)
    assert answer.memory[0].facts[0].verified == verified


@pytest.mark.parametrize(
    "text", ["Zürich – 漢字 🙂", "<|end|> and <|start|>", " led by a space", "a\nb", "x"]
)
def test_whatever_is_stored_leaves_character_by_character(world: World, text: str) -> None:
    books = Books(Book([fact("f", "Q?", text)]))
    answer = run(world.engine(banks=books), ask("a", "Q?", max_new_tokens=None))["a"]
    assert answer.texts[0] == text
    for room in range(len(text.encode()) + 1):
        cut = settled(text, world.tokenizer, room=room, stop=())
        assert len(cut.ids) == len(cut.pieces) <= room
        assert text.startswith(cut.text.rstrip("\ufffd"))


def test_exact_answers_come_while_a_batch_runs_and_change_nothing_in_it(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    others = [
        call(f"{i}", range(20 + i, 40 + i), adapter=a, max_new_tokens=30)
        for i, a in enumerate((None, "small"))
    ]
    replies = [reply for wanted in others for reply in start(engine, wanted)[1]]
    for number in range(10):
        replies += engine.step()
        instant = start(engine, ask(f"exact {number}", PRICE))[1]
        assert collect(instant)[f"exact {number}"].texts == {0: "42 euros"}
        engine.scheduler.check_integrity()
    while engine.has_work:
        replies += engine.step()
    alone = run(world.engine(), *others)
    for wanted in others:
        assert collect(replies)[wanted.id].texts == alone[wanted.id].texts


# ── refused, none, off ────────────────────────────────────────────────────────────────────────────────────


def test_a_question_of_the_bank_s_kind_without_a_fact_is_refused(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    answer = run(engine, ask("a", "Zzz?", max_new_tokens=None))["a"]
    assert (answer.texts[0], answer.finish[0]) == (REFUSAL, "stop")
    assert decisions(answer.memory) == [("refused", [])]
    assert engine.stats["steps_total"] == 0


def test_what_is_not_the_bank_s_is_the_base_s_to_the_token(world: World, books: Books) -> None:
    books.book.unknown = "base"
    for name, text, mode in (("none", "Hello", "auto"), ("policy", "Zzz?", "auto"), ("off", PRICE, "off")):
        wanted = ask(name, text, mode)  # type: ignore[arg-type]
        answer = run(world.engine(banks=books), wanted)[name]
        assert answer.tokens == [plainly(world, wanted)]
        assert decisions(answer.memory) == [("none", [])]
    assert len(books.book.asked_by) == 2, "off asked the bank"


def test_facts_of_others_groups_are_not_even_looked_for(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    for memory, expected in (
        (use(), "none"),
        (use(groups=("staff",)), "none"),
        (use(groups=("bosses", "staff")), "exact"),
        (use(sees_all=True), "exact"),
    ):
        answer = run(engine, ask("a", "Secret?", memory=memory))["a"]
        assert answer.memory[0].decision == expected
        assert ("Q7-XY" in answer.texts[0]) == (expected == "exact")
    assert books.book.asked_by == [frozenset(), frozenset(["staff"]), frozenset(["bosses", "staff"]), None]


# ── retrieval, and what is held ───────────────────────────────────────────────────────────────────────────


def test_records_stand_before_what_the_user_said_last() -> None:
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Which?"),
    )
    hits = [BookHit(known, 0.9) for known in FACTS[:2]]
    told = with_records(messages, hits)
    assert told[:3] == messages[:3]
    assert told[3].text == f"{record(FACTS[0])}\n{record(FACTS[1])}\n\nWhich?"
    assert record(FACTS[0]) == "For X, what is the price of X: 42 euros."
    assert record(FACTS[1]) == "Which colour is X: dark green."
    assert record(fact("f", "Why?", "Because.")) == "Why: Because."
    assert record(fact("f", "Yule price?", "3", subject="Yule")) == "For Yule, Yule price: 3."


WRONG_WAYS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("sure", PRICE, {"mode": "retrieval"}, "42 euros", "exact"),
    ("sure ones", f"Both: {PRICE} | {COLOUR}", {}, "42 euros; dark green", "exact"),
    ("unsure", f"Maybe: {PRICE}", {}, REFUSAL, "refused"),
    ("adapter", PRICE, {"adapter": "small"}, "42 euros", "exact"),
    ("logprobs", PRICE, {"logprobs": 3}, "42 euros", "exact"),
    ("never quoted", "Long?", {}, REFUSAL, "refused"),
    ("expert", PRICE, {"mode": "expert"}, "42 euros", "exact"),
    ("expert and adapter", PRICE, {"mode": "expert", "adapter": "large"}, "42 euros", "exact"),
]


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(("name", "text", "fields", "leaves", "decision"), WRONG_WAYS)
def test_a_held_reply_that_does_not_say_what_is_stored_never_leaves(
    world: World,
    books: Books,
    name: str,
    text: str,
    fields: dict[str, Any],
    leaves: str,
    decision: str,
    guarded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model of random weights says nothing that is stored. The control leaves the check out."""
    if not guarded:
        monkeypatch.setattr(Recall, "settle", lambda self, text: (text, self.way))
    wanted = ask("a", text, max_new_tokens=24, logit_bias={2: -100}, n=2, **fields)
    engine = world.engine(banks=books)
    request, replies = start(engine, wanted)
    while engine.has_work:
        replies += engine.step()
    deltas = [r.frame.delta for r in replies if r.frame.delta is not None]
    answer = collect(replies)["a"]
    drawn = [world.tokenizer.decode(choice.tokens[choice.prompt_length :]) for choice in request.choices]
    for delta in deltas:
        if delta.finish_reason is None:
            assert delta.text == "" and not delta.logprobs, "something leaked before the check"
    assert answer.done is not None
    assert answer.done.usage.completion_tokens == answer.counted == 48
    if not guarded:
        assert answer.texts == dict(enumerate(drawn)) and answer.texts[0] != leaves
        return
    assert answer.texts == {0: leaves, 1: leaves}
    assert {outcome.decision for outcome in answer.memory.values()} == {decision}
    for outcome in answer.memory.values():
        assert all(c.verified and c.mode == "exact" for c in outcome.facts)
        assert bool(outcome.facts) == (decision == "exact")
    assert not any(answer.logprobs.values()), "log-probabilities of a text that did not leave"


def test_a_held_reply_that_says_what_is_stored_leaves_whole(world: World, books: Books) -> None:
    seven = world.tokenizer.encode("7")[0]
    for fields in ({"mode": "retrieval"}, {"adapter": "small"}, {"logprobs": 1}):
        wanted = ask("a", "Sevens?", max_new_tokens=5, logit_bias={seven: 100}, **fields)
        engine = world.engine(banks=books)
        request, replies = start(engine, wanted)
        while engine.has_work:
            replies += engine.step()
        answer = collect(replies)["a"]
        assert (answer.texts[0], answer.finish[0]) == ("77777", "length")
        assert decisions(answer.memory) == [("retrieval", [("f7", "retrieval", True)])]
        assert len(answer.logprobs[0]) == (5 if "logprobs" in fields else 0)
        text = world.tokenizer.decode(list(request.prompt))
        assert record(FACTS[6]) in text


def test_a_stop_string_and_the_length_hold_for_what_stands_in_for_a_reply(world: World, books: Books) -> None:
    engine = world.engine(banks=books)
    cut = run(engine, ask("a", PRICE, "retrieval", max_new_tokens=4, logit_bias={2: -100}))["a"]
    assert (cut.texts[0], cut.finish[0], cut.memory[0].facts[0].verified) == ("42 e", "length", False)
    stopped = run(engine, ask("a", PRICE, "retrieval", stop=("ro",), logit_bias={2: -100}))["a"]
    assert (stopped.texts[0], stopped.finish[0], stopped.memory[0].facts[0].verified) == (
        "42 eu",
        "stop",
        False,
    )


def test_a_task_streams_as_it_is_written_and_says_which_facts_stand_in_it(world: World, books: Books) -> None:
    seven = world.tokenizer.encode("7")[0]
    wanted = ask("a", f"Task: Sevens? | {PRICE}", max_new_tokens=5, logit_bias={seven: 100})
    engine = world.engine(banks=books)
    request, replies = start(engine, wanted)
    while engine.has_work:
        replies += engine.step()
    texts = [r.frame.delta.text for r in replies if r.frame.delta is not None]
    assert texts == ["7"] * 5
    assert decisions(collect(replies)["a"].memory) == [
        ("retrieval", [("f7", "retrieval", True), ("f1", "retrieval", False)])
    ]
    assert record(FACTS[0]) in world.tokenizer.decode(list(request.prompt))


def test_fewer_records_are_given_where_the_context_ends_and_a_direct_question_needs_none(
    world: World, books: Books
) -> None:
    books.book.facts = [fact(f"n{i}", f"N{i}?", f"{i}" * 30) for i in range(4)]
    engine = world.engine(banks=books)
    task = "Task: " + " | ".join(f"N{i}?" for i in range(4))
    for asked, records in ((60, 4), (100, 3), (130, 2), (140, 1)):
        request, _ = start(engine, ask("a", task, max_new_tokens=asked))
        engine.cancel("a")
        assert request.recall is not None and len(request.recall.hits) == records
        assert len(request.prompt) + asked <= engine.intake.limit
    with pytest.raises(ContextLengthExceeded):
        start(engine, ask("a", task, max_new_tokens=180))
    request, _ = start(engine, ask("a", "N1?", "retrieval", max_new_tokens=200))
    assert (request.preset, request.recall and request.recall.way) == ("1" * 30, "exact")
    request, _ = start(engine, ask("a", "Maybe: N1?", max_new_tokens=200))
    assert request.preset == REFUSAL


def hit(id: str, answer: str, gate: float = 0.99, **fields: Any) -> BookHit:
    return BookHit(fact(id, f"{id}?", answer, **fields), gate)


def test_a_held_reply_is_judged_by_what_was_asked_for() -> None:
    sure = (hit("a", "12"), hit("b", "Berlin"))
    held = Recall("b", 1, "retrieval", sure, sure, is_held=True)
    assert held.settle("It is 12, in Berlin.") == ("It is 12, in Berlin.", "retrieval")
    assert held.settle("It is 12.") == ("12; Berlin", "exact")
    assert held.settle("It is 125, in Berlin.") == ("12; Berlin", "exact")
    assert held.settle("I don’t know.") == ("I don’t know.", "refused")
    unsure = replace(held, hits=(hit("a", "12", 0.6), hit("b", "13", 0.57), hit("c", "14", 0.4)), sure=())
    assert unsure.settle("13.")[1] == "retrieval"
    assert unsure.settle("14.") == (REFUSAL, "refused"), (
        "a fact that was hardly asked for stands for the answer"
    )
    unquoted = replace(held, sure=(hit("a", "12", status="retrieval_only"),))
    assert unquoted.settle("13") == (REFUSAL, "refused")
    assert unquoted.settle("12") == ("12", "retrieval")
    live = replace(held, is_held=False)
    assert live.settle("anything") == ("anything", "retrieval")


def test_a_direct_reply_cites_what_it_says_and_no_more() -> None:
    hits = (hit("a", "12", 0.6), hit("b", "13", 0.6))
    recall = Recall("b", 1, "retrieval", hits, is_held=True)
    assert [c.id for c in recall.outcome("It is 13.", "retrieval").facts] == ["b"]
    assert recall.outcome(REFUSAL, "refused").facts == ()


def test_a_direct_reply_that_denies_the_answer_or_says_much_else_is_replaced() -> None:
    sure = (hit("a", "Berlin"),)
    held = Recall("b", 1, "retrieval", sure, sure, is_held=True)
    for text in ("It is not Berlin.", "Berlin? No, Paris instead of Berlin.", "Berlin, " + "and so on " * 10):
        assert held.settle(text) == ("Berlin", "exact")
        assert held.outcome(text, "retrieval").facts == ()
    assert held.settle("It is Berlin.") == ("It is Berlin.", "retrieval")
    (citation,) = held.outcome("It is Berlin.", "retrieval").facts
    assert citation.verified
    task = replace(held, is_held=False, sure=())
    assert task.outcome("Dear Ann, it is not Berlin.", "retrieval").facts[0].verified, "a task says more"


def test_a_stored_answer_that_stands_for_a_reply_is_verified_however_it_is_worded() -> None:
    sure = (hit("a", "never before noon"), hit("b", "word " * 40 + "end"))
    held = Recall("b", 1, "retrieval", sure, sure, is_held=True)
    leaves, way = held.settle("At two.")
    assert way == "exact" and all(c.verified for c in held.outcome(leaves, way).facts)


def test_where_no_record_fits_the_bank_s_policy_holds(world: World, books: Books) -> None:
    books.book.facts = [fact("n", "N?", "1" * 60)]
    for policy, way, preset in (("refuse", "refused", REFUSAL), ("base", "none", None)):
        books.book.unknown = policy  # type: ignore[assignment]
        request, _ = start(world.engine(banks=books), ask("a", "Maybe: N?", max_new_tokens=200))
        assert request.recall is not None and (request.recall.way, request.preset) == (way, preset)
