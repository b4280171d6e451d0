"""How a router is made: a function of the seed, and the gate meets only relations that the encoder has not seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from random import Random

import numpy as np
import pytest
import torch

from inhouse.memory import encoder as encoders
from inhouse.memory.encoder import KEY_WIDTH, MOST_WORDS, Encoder, WordTable
from inhouse.memory.episodes import Episode, episode
from inhouse.memory.gate import probabilities
from inhouse.memory.kinds import FITS
from inhouse.memory.learn import (
    MOST_SURE,
    SURE,
    LearnSettings,
    _alike,
    _halves,
    _less_wordings,
    _thresholds,
    learn,
)
from inhouse.memory.names import MASK
from inhouse.memory.phrases import Relation, relations
from inhouse.memory.router import Router
from tests.memory.conftest import QUICK

pytestmark = pytest.mark.timeout(600)  # the first test that needs a router makes it

FEW = LearnSettings(steps=10, questions_a_step=64, banks=2)


def losses(words: WordTable, settings: LearnSettings) -> list[float | None]:
    return [progress.loss for progress in islice(learn(words, settings), 3)]


def test_the_same_seed_takes_the_same_steps_and_another_seed_others(words: WordTable) -> None:
    few = replace(FEW, questions_a_step=8)
    torch.manual_seed(1)
    one = losses(words, few)
    torch.manual_seed(2)
    assert losses(words, few) == one
    assert losses(words, replace(few, seed=1)) != one


def test_the_encoder_sees_nothing_of_the_relations_that_strangers_banks_are_made_of(
    words: WordTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[str] = set()
    wording = Relation.wording

    def noted(relation: Relation, random: Random) -> str:
        used.add(relation.id)
        return wording(relation, random)

    monkeypatch.setattr(Relation, "wording", noted)
    walk = learn(words, FEW)
    for _ in range(FEW.steps):
        next(walk)
    seen = set(used)
    used.clear()
    next(walk)  # the first bank
    strange = set(used)
    assert len(seen) > 200 and len(strange) > 10, "both sides were used"
    assert not seen & strange
    used.clear()
    next(walk)  # the second one is of the encoder's own relations, too
    assert used & seen


def test_wordings_that_the_gate_is_asked_with_are_not_those_that_were_learnt() -> None:
    for relation in relations():
        learnt, asked = _less_wordings(relation)
        assert set(learnt.asks).isdisjoint(asked.asks) and not asked.nouns
        assert {*learnt.asks, *asked.asks} == set(relation.asks)
        taught, other = _halves(relation)
        assert set(taught.asks).isdisjoint(other.asks) and set(taught.nouns).isdisjoint(other.nouns)


def test_relations_that_ask_alike_are_those_that_say_so() -> None:
    pool = relations()[::5]
    alike = _alike(pool)
    assert alike.any()
    assert alike.tolist() == [[one is not other and one.is_like(other) for other in pool] for one in pool]


def test_progress_ends_with_the_router_and_says_what_it_reached(router: Router) -> None:
    about = router.about
    assert about["relations"] == len(relations()) == len(router.anchors)
    assert about["held_out"] == int(len(relations()) * QUICK.held_out)
    assert [set(at) for at in about["curve"]] == [{"seconds", "loss", "recall"}]
    for threshold in ("sure", "unsure"):
        assert set(about["calibration"][threshold]) == {"right", *SURE}
    assert 0 < router.low <= router.high <= MOST_SURE


def test_a_router_s_tensors_hold_no_gradients(router: Router) -> None:
    for tensor in (*router.encoder.tensors.values(), *router.gate.values()):
        assert not tensor.requires_grad


def test_a_kind_of_stranger_that_passes_too_often_raises_the_threshold(router: Router) -> None:
    def tests(kind: str, is_it: bool) -> list[list[tuple[str, list[float], bool]]]:
        return [[(kind, [float(i)] * len(router.gate["mean"]), is_it)] for i in range(20)]

    strangers = tests("far", False)
    surest = max(p for (row,) in strangers for p in probabilities(router.gate, [row[1]]))
    plain, _, _ = _thresholds(router.gate, tests("asked", True))
    high, low, _ = _thresholds(router.gate, [*tests("asked", True), *strangers])
    assert high == pytest.approx(min(MOST_SURE, max(plain, surest + 1e-4))) and low <= high


def made(seed: int) -> Episode:
    pool = [_halves(relation) for relation in relations()]
    return episode(Random(seed), pool)


def test_a_made_up_bank_is_a_function_of_the_seed() -> None:
    assert made(3) == made(3) != made(4)


def test_a_made_up_bank_is_asked_in_other_words_and_about_strangers() -> None:
    bank = made(5)
    known = {fact.id: fact for fact in bank.facts}
    assert {query.kind for query in bank.queries} == {
        "asked",
        "far",
        "near",
        "look_alike",
        "topic",
        "general",
    }
    for query in bank.queries:
        assert (query.fact in known) == (query.kind == "asked")
    taught = {text for fact in bank.facts for text in (fact.question, *fact.wordings)}
    strangers = [q.text for q in bank.queries if q.kind in ("far", "near", "look_alike")]
    assert not taught & set(strangers), "no question without an answer stands in the bank"


# ── the encoder ───────────────────────────────────────────────────────────────────────────────────────────

QUESTIONS = (("who", "runs", MASK), ("what", "is", "the", "price", "of", MASK), (), ("frobnicate",), (MASK,))


def test_keys_have_length_one_and_do_not_depend_on_what_else_is_asked(router: Router) -> None:
    keys = router.encoder.keys(QUESTIONS)
    assert keys.shape == (len(QUESTIONS), KEY_WIDTH)
    assert np.linalg.norm(keys, axis=1) == pytest.approx(1.0)
    for key, question in zip(keys, QUESTIONS, strict=True):
        assert np.array_equal(key, router.encoder.keys([question])[0])
    assert router.encoder.keys([]).shape == (0, KEY_WIDTH)


def test_questions_are_asked_with_the_very_function_that_was_trained(
    router: Router, words: WordTable
) -> None:
    asked = [question or (MASK,) for question in QUESTIONS]
    tensors = router.encoder.tensors
    trained = encoders.pooled(tensors, *encoders.points(tensors, words, asked))
    assert encoders.parted(router.encoder.keys(asked)) == pytest.approx(trained.numpy(), abs=1e-5)
    wants = encoders.wanted(tensors, trained).mean(0).softmax(1) @ torch.tensor(FITS)
    assert router.encoder.fits(router.encoder.keys(asked)) == pytest.approx(wants.numpy(), abs=1e-4)


def test_a_question_is_read_up_to_its_most_words(router: Router) -> None:
    long = ("what",) * (MOST_WORDS - 1)
    one, other, longer = router.encoder.keys([(*long, "is"), (*long, "is", "price"), (*long, "price")])
    assert np.array_equal(one, other) and not np.array_equal(one, longer)


def test_forgotten_words_are_read_again_as_before(router: Router) -> None:
    question = ("what", "does", MASK, "cost")
    before = router.encoder.keys([question])
    router.encoder.forget()
    assert set(router.encoder._points) == {MASK} and not router.encoder.words._known
    assert np.array_equal(router.encoder.keys([question]), before)
    assert set(router.encoder._points) == set(question)


def test_an_untrained_encoder_is_a_function_of_the_seed() -> None:
    one, same, other = (encoders.fresh(16, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["query"], other["query"])


def test_a_word_that_the_base_has_no_pieces_for_still_has_a_point(words: WordTable) -> None:
    empty = WordTable(torch.randn(4, words.width), lambda text: [])
    tensors = encoders.fresh(words.width, 0)
    assert np.isfinite(Encoder(tensors, empty).keys([("word",)])).all()
