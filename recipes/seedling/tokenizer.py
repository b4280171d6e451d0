"""Trains the byte-level BPE and writes the tokenizer's files, chat template included.

A capitalised word never takes the space before it into its token, and digits stand alone: so a name or number
is the same tokens in a sentence, in JSON and at the start of a reply, and copying it is copying tokens.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from recipes.seedling.corpus import documents
from recipes.seedling.world import conversations

PAD, START, END = "<|pad|>", "<|start|>", "<|end|>"
SPECIAL = (PAD, START, END)
"""Ids 0, 1 and 2."""

VOCABULARY = 4096
MAX_TOKEN_BYTES = 64
CONTEXT = 1024
CHATS_IN_SAMPLE = 40_000
"""About 8 MB beside the corpus's 15 MB: names and JSON get their tokens, English keeps most."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|start|>' + message['role'] + '\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)

_WORDS = "|".join(
    [
        r"'(?:[sdmt]|ll|ve|re)(?!\p{L})",
        r" ?\p{Ll}[\p{L}\p{M}]*",  # a lower-case word takes its space along
        r"[\p{L}\p{M}]+",  # any other word leaves it
        r"\p{N}",
        r" ?[^\s\p{L}\p{M}\p{N}]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def train(
    corpus: Path, *, seed: int, vocabulary: int = VOCABULARY, chats: int = CHATS_IN_SAMPLE
) -> tokenizers.Tokenizer:
    """A tokenizer for a corpus's training side and the world's, a pure function of (corpus, seed)."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(corpus, seed, chats), trainer)
    return tokenizer


def write(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja, as Hugging Face and our loader read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "pad_token": PAD,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _sample(corpus: Path, seed: int, chats: int) -> Iterator[str]:
    for document in documents(corpus):
        if not document.is_held_out:
            yield document.text
    for conversation in itertools.islice(conversations(seed, "train"), chats):
        for message in conversation.messages:
            yield message.role + "\n"
            yield message.text
