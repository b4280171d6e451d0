"""Stored answers that a task's model has begun are finished word for word; everything else is the model's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from inhouse.engine import copying
from inhouse.engine.copying import rest_of
from inhouse.engine.engine import Engine
from tests.engine.memory_world import Book, Books, ask, fact
from tests.engine.world import World, call, run

SHOWN = "Who is the buyer of Orla Ltd?: Tomas Dromzurk.\nWhat is the rent of Orla Ltd?: 32,690 euros.\nSQL, please."
ANSWERS = ("Tomas Dromzurk", "32,690 euros")


@pytest.mark.parametrize(
    ("written", "rest"),
    [
        ("buyer = 'Tom", "as Dromzurk"),
        ("buyer = 'Tomas ", "Dromzurk"),
        ('{"rent": "32,', "690 euros"),
        ("Tomas Dromzur", "k"),
    ],
)
def test_what_is_missing_of_an_answer_that_was_begun_is_found(written: str, rest: str) -> None:
    assert rest_of(written, ANSWERS, SHOWN) == rest


@pytest.mark.parametrize(
    "written",
    [
        "",
        "To",  # too short to mean anything
        "BaTom",  # inside a word
        "Tomas Dromzurk",  # finished
        "Tomas Dromzurk is",
        "tomas",
    ],
)
def test_a_text_that_begins_no_answer_is_left_alone(written: str) -> None:
    assert rest_of(written, ANSWERS, SHOWN) == ""


def test_a_beginning_of_two_answers_waits_until_one_is_left() -> None:
    answers = ("12 March 2020", "12 May 2021", "12 May 2021, noon")
    assert rest_of("on 12 M", answers, "") == ""
    assert rest_of("on 12 Mar", answers, "") == "ch 2020"
    assert rest_of("on 12 May 2021", answers, "") == "", "it may be finished, or go on"


def test_a_beginning_that_goes_on_another_way_elsewhere_is_not_taken_for_the_answer() -> None:
    assert rest_of("the Main", ["Main Street 5"], "Where?: Main Street 5.\nWhat does Main Motors pay?") == ""
    assert rest_of("the Main S", ["Main Street 5"], "Where?: Main Street 5.\nWhat does Main Motors pay?")


def test_an_answer_that_json_or_sql_would_write_another_way_is_the_model_s_matter() -> None:
    for answer in ("Sean O'Hara", 'the "Crown"', "C:\\data", "two\nlines"):
        assert rest_of(answer[:3], [answer], answer) == ""


# ── in the engine ─────────────────────────────────────────────────────────────────────────────────────────

ALPHABET = "\nabcdefghijklmnop"
"""What the model of this test writes: behind each character the next one, whatever came before; then it ends."""


@pytest.fixture(scope="module")
def speller(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose base spells the alphabet from where its prompt ends."""
    world = World(tmp_path_factory.mktemp("speller"))
    decoder = world.decoder
    embedding = torch.nn.functional.normalize(decoder.embedding, dim=1)
    decoder.embedding.copy_(embedding)
    for block in decoder.blocks:
        block.attention.out.weight.zero_()
        block.mlp.down.weight.zero_()
    decoder.norm.weight.fill_(1.0)
    ids = [world.tokenizer.encode(c, special=False)[0] for c in ALPHABET]
    following = dict(zip(ids, [*ids[1:], 2], strict=True))
    decoder.head.zero_()
    decoder.head[2] = 0.5 * embedding.mean(0)
    for token, follower in following.items():
        decoder.head[follower] = embedding[token]
    return world


@pytest.fixture
def books() -> Books:
    return Books(
        Book(
            [
                fact("code", "Code?", "abcXYnop"),
                fact("whole", "Whole?", "uvw"),
                fact("other", "Other?", "abcd-5"),
                fact("shy", "Shy?", "abcXYnop", status="retrieval_only", reason="its words were refused"),
            ]
        )
    )


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine without it, for controls."""
    monkeypatch.setattr(copying, "next_token", lambda sequence, tokenizer: None)
    yield


def told(engine: Engine, text: str, **fields: object) -> str:
    return run(engine, ask("a", text, max_new_tokens=40, **fields))["a"].texts[0]


SPELLED = ALPHABET[1:]


def test_the_world_of_this_test_spells_the_alphabet(speller: World) -> None:
    engine = speller.engine()
    prompt = speller.tokenizer.encode("zz\n", special=False)
    assert run(engine, call("a", tokens=prompt, max_new_tokens=40))["a"].texts[0] == SPELLED


def test_a_task_finishes_the_answer_that_it_has_begun(speller: World, books: Books) -> None:
    assert told(speller.engine(banks=books), "Task: Code?") == "abcXYnop"


@pytest.mark.usefixtures("unguarded")
def test_without_copying_the_model_goes_on_its_own_way(speller: World, books: Books) -> None:
    assert told(speller.engine(banks=books), "Task: Code?") == SPELLED


def test_what_is_no_beginning_is_the_model_s_own(speller: World, books: Books) -> None:
    assert told(speller.engine(banks=books), "Task: Whole?") == SPELLED


def test_two_answers_wait_until_one_is_left(speller: World, books: Books) -> None:
    assert told(speller.engine(banks=books), "Task: Code? | Other?").startswith("abcd-5")


def test_answers_that_may_not_be_quoted_and_biased_draws_are_not_continued(
    speller: World, books: Books
) -> None:
    engine = speller.engine(banks=books)
    assert told(engine, "Task: Shy?") == SPELLED
    assert told(engine, "Task: Code?", logit_bias={5: 1.0}) == SPELLED


def test_copying_beside_others_changes_nobody_else(speller: World, books: Books) -> None:
    engine = speller.engine(banks=books)
    prompt = speller.tokenizer.encode("zz\n", special=False)
    both = run(
        engine, ask("a", "Task: Code?", max_new_tokens=40), call("b", tokens=prompt, max_new_tokens=40)
    )
    assert both["a"].texts[0] == "abcXYnop"
    assert both["b"].texts[0] == SPELLED


def test_a_copied_token_has_the_model_s_own_log_probability(speller: World, books: Books) -> None:
    engine = speller.engine(banks=books)
    answer = run(engine, ask("a", "Task: Code?", max_new_tokens=40, logprobs=2))["a"]
    assert answer.texts[0] == "abcXYnop"
    heard = answer.logprobs[0]
    assert [t.token for t in heard] == list("abcXYnop")
    assert heard[3].logprob is not None and heard[3].logprob < heard[2].logprob, "X was not what it would say"
    assert len(heard[3].top) == 2
