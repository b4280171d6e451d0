"""The embedded base's words, and a router hardly trained over them: its scores are low, its ways are the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from inhouse.memory.encoder import WordTable
from inhouse.memory.index import KeyIndex
from inhouse.memory.learn import LearnSettings, learn
from inhouse.memory.router import Router
from inhouse.memory.router_store import word_table
from inhouse.model.locate import EMBEDDED, locate
from inhouse.model.weights import load_base
from inhouse.schema import Fact
from inhouse.text.tokenizer import Tokenizer

QUICK = LearnSettings(steps=40, more_steps=10, questions_a_step=64, banks=5, middle_asks=3)


def fact(id: str, question: str, answer: str, **fields: Any) -> Fact:
    return Fact(id=id, bank="bank-one", revision=1, question=question, answer=answer, **fields)


@pytest.fixture(scope="session")
def words() -> WordTable:
    """A word table of the embedded base."""
    folder = locate("seedling", EMBEDDED)
    decoder = load_base(folder, device=torch.device("cpu"), dtype=torch.float32)
    return word_table(decoder, Tokenizer.load(folder))


@pytest.fixture(scope="session")
def router(words: WordTable) -> Router:
    *_, last = learn(words, QUICK)
    assert last.router is not None
    return last.router


@pytest.fixture
def index(router: Router) -> KeyIndex:
    return router.index()
