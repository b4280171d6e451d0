"""A tiny corpus, tokenizer and base, made once by the recipe itself."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from recipes.seedling import model
from recipes.seedling import tokenizer as bpe
from recipes.seedling.stream import Pieces, pieces

PARTS = (
    ("The office", "A team", "Every plan", "The report"),
    ("needs", "has", "shows", "keeps"),
    ("work", "a date", "care"),
)


@dataclass(frozen=True)
class Ground:
    """What the recipe's later floors stand on."""

    corpus: Path
    base: Path
    tokenizer: Tokenizer
    template: ChatTemplate
    text: Pieces
    """The corpus's training side."""


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("seedling")
    corpus = folder / "corpus.jsonl.gz"
    write_corpus(corpus, documents=200)
    base = folder / "base"
    bpe.write(bpe.train(corpus, seed=1, vocabulary=600, chats=300), base)
    tiny = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    model.write_config(base, vocab_size=600, num_attention_heads=4, num_key_value_heads=2, **tiny)
    tokenizer = Tokenizer.load(base)
    text = pieces(corpus, tokenizer, held_out=False)
    return Ground(corpus, base, tokenizer, ChatTemplate.load(base, tokenizer), text)


def write_corpus(file: Path, *, documents: int) -> None:
    chance = random.Random(7)
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        for i in range(documents):
            sentences = [
                " ".join(chance.choice(p) for p in PARTS) + "." for _ in range(chance.randint(1, 150))
            ]
            lines.write(json.dumps({"source": f"owner/project/{i}.md", "text": " ".join(sentences)}) + "\n")
