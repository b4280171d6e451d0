"""A vocabulary of bytes, and what builds grammars over it."""

from __future__ import annotations

import pytest

from inhouse.text.grammar import Grammars
from inhouse.text.tokenizer import Tokenizer
from tests import tiny

VOCABULARY = 264
END = 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, VOCABULARY, [END])
