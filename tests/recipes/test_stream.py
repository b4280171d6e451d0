from __future__ import annotations

import gzip
import random
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recipes.seedling import drills
from recipes.seedling.ahead import Ahead
from recipes.seedling.corpus import documents, sources
from recipes.seedling.plan import Plan
from recipes.seedling.source import stream as run_stream
from recipes.seedling.stream import LONG_PIECES, PIECE_TOKENS, Mixture, Stream, pieces
from recipes.seedling.tokenizer import CONTEXT
from recipes.seedling.writer import Writer
from tests.recipes.conftest import Ground, write_corpus


def stream(ground: Ground, **changes: object) -> Stream:
    numbers: dict[str, object] = {"steps": 10, "step_tokens": 2000, "seed": 5} | changes
    return Stream(ground.text, ground.tokenizer, ground.template, **numbers)  # type: ignore[arg-type]


def test_a_step_is_the_same_whatever_was_read_before_it(ground: Ground) -> None:
    in_order = stream(ground)
    all_steps = [in_order.at(i) for i in range(10)]
    assert [stream(ground).at(i) for i in reversed(range(10))] == all_steps[::-1]
    assert stream(ground, seed=6).at(0) != all_steps[0]


def test_steps_hold_about_the_tokens_asked_for_and_fit_the_context(ground: Ground) -> None:
    source = stream(ground)
    for i in range(10):
        sizes = [len(e.ids) for e in source.at(i)]
        assert 2000 <= sum(sizes) <= 2000 + CONTEXT
        assert max(sizes) <= CONTEXT


def test_text_gives_way_to_conversations(ground: Ground) -> None:
    source = stream(ground, mixture=Mixture(1.0, 0.0), step_tokens=4000)
    text = [sum(len(e.ids) for e in source.at(i) if all(e.trained)) for i in (0, 5, 9)]
    assert text[0] > 3000 and text[1] < text[0] and text[2] == 0


def test_prompts_are_trained_at_first_and_not_after(ground: Ground) -> None:
    source = stream(ground, mixture=replace(Mixture(0.0, 0.0), whole_until=0.5))
    assert all(all(e.trained) for e in source.at(0))
    assert not any(all(e.trained) for e in source.at(9))


def test_drills_come_first_and_fade_out(ground: Ground) -> None:
    source = stream(ground, mixture=Mixture(0.0, 0.0, drills_first=1.0, drills_until=0.5))
    end = ground.tokenizer.token_id("<|end|>")
    drilled = [sum(end not in e.ids for e in source.at(i)) / len(source.at(i)) for i in (0, 2, 9)]
    assert drilled[0] > 0.9 > drilled[1] > 0.3 and drilled[2] == 0


def test_drills_train_what_can_be_found_before(ground: Ground) -> None:
    chance = random.Random(3)
    for _ in range(50):
        said = drills.echo(chance, range(3, 600))
        period = said.trained.index(True)
        assert all(said.ids[i] == said.ids[i - period] for i, t in enumerate(said.trained) if t)
        found = drills.lookup(Writer("train"), ground.tokenizer, chance)
        text = ground.tokenizer.decode(list(found.ids))
        lines = text.splitlines()
        assert all(lines.count(line) >= 3 for line in lines), text


def test_steps_made_ahead_in_other_processes_are_the_same(ground: Ground) -> None:
    plan = Plan(tokens=20_000, step_tokens=2000)
    make = partial(run_stream, ground.base.parent, plan, plan.legs[0], ground.corpus)
    ahead = Ahead(make, 10, processes=2)
    try:
        asked = [0, 1, 2, 7, 8, 9, 3]  # in order, then elsewhere, as after a roll-back
        assert [ahead.at(i) for i in asked] == [make().at(i) for i in asked]
    finally:
        ahead.close()


def test_every_piece_of_text_comes_equally_often(ground: Ground) -> None:
    source = stream(ground, steps=100, mixture=Mixture(1.0, 1.0))
    read = Counter(e.ids for i in range(100) for e in source.at(i) if all(e.trained))
    rounds = read.total() // len(ground.text)
    assert rounds >= 1, "the test must pass one round"
    held = Counter(ground.text[i].ids for i in range(len(ground.text)))
    assert all(rounds * held[ids] <= read[ids] <= (rounds + 1) * held[ids] for ids in held)


def test_long_examples_come_last_and_hold_what_follows_in_the_text(ground: Ground) -> None:
    source = stream(ground, mixture=Mixture(1.0, 1.0, long_from=0.5), step_tokens=4000)
    sizes = [max(len(e.ids) for e in source.at(i) if all(e.trained)) for i in (0, 4, 6, 9)]
    assert max(sizes[:2]) <= PIECE_TOKENS < min(sizes[2:]) <= max(sizes[2:]) <= CONTEXT
    joined = ground.text.join(3, LONG_PIECES)
    assert joined.ids == tuple(t for i in range(3, 3 + LONG_PIECES) for t in ground.text[i].ids)
    assert ground.text.join(len(ground.text) - 1, LONG_PIECES) == ground.text[len(ground.text) - 1]


def test_pieces_are_short_and_hold_all_text_but_the_held_out(ground: Ground) -> None:
    text = ground.text
    assert max(len(text[i].ids) for i in range(len(text))) == PIECE_TOKENS
    whole = ground.tokenizer.decode([t for i in range(len(text)) for t in text[i].ids])
    assert whole == "".join(d.text for d in documents(ground.corpus) if not d.is_held_out)


def test_the_cache_gives_what_was_cached_and_not_another_corpus(ground: Ground, tmp_path: Path) -> None:
    made = pieces(ground.corpus, ground.tokenizer, held_out=True, cache=tmp_path)
    read = pieces(ground.corpus, ground.tokenizer, held_out=True, cache=tmp_path)
    assert [made[i] for i in range(len(made))] == [read[i] for i in range(len(read))]
    write_corpus(tmp_path / "other.gz", documents=150)
    other = pieces(tmp_path / "other.gz", ground.tokenizer, held_out=True, cache=tmp_path)
    assert len(other) < len(made)
    assert np.load(next(tmp_path.glob("*.npz")))["tokens"].dtype == np.uint16


def test_a_corpus_without_a_held_out_side_is_refused_in_words(ground: Ground, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "one.gz", "wt", encoding="utf-8") as lines:
        lines.write('{"source": "a/b", "text": "One document."}\n')
    with pytest.raises(ValueError, match="no document for the held-out side"):
        pieces(tmp_path / "one.gz", ground.tokenizer, held_out=True)


def test_without_drills_there_are_none() -> None:
    assert Mixture(drills_first=0.5, drills_until=0.0).drill_share(0.0) == 0.0


def test_holding_out_depends_on_the_source_alone(ground: Ground) -> None:
    held = {d.source for d in documents(ground.corpus) if d.is_held_out}
    assert 0 < len(held) < 20
    assert sources(ground.corpus) == ["owner/project"]


def test_a_broken_corpus_line_is_named(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bad.gz", "wt") as f:
        f.write('{"source": "a", "text": "b"}\n{"source": "c"}\n')
    with pytest.raises(ValueError, match=r"bad\.gz line 2"):
        list(documents(tmp_path / "bad.gz"))
