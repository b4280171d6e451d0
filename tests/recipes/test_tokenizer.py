from __future__ import annotations

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.schema import Message
from recipes.seedling import tokenizer as bpe
from tests.recipes.conftest import Ground

CHAT = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="What does the Zorvex cost?"),
    Message(role="assistant", content="$4,120"),
]


def test_any_text_comes_back(ground: Ground) -> None:
    @given(st.text())
    def comes_back(text: str) -> None:
        if not any(token in text for token in bpe.SPECIAL):
            assert ground.tokenizer.decode(ground.tokenizer.encode(text, special=False)) == text

    comes_back()
    text = "naïve ☕ 日本語 \r\n\t  x\u200d🏽 'll DON'T \x00"
    assert ground.tokenizer.decode(ground.tokenizer.encode(text)) == text


def test_no_token_is_longer_than_64_bytes(ground: Ground) -> None:
    assert max(len(ground.tokenizer.token_bytes(i)) for i in range(ground.tokenizer.vocab_size)) <= 64


def test_special_tokens_have_fixed_ids(ground: Ground) -> None:
    assert [ground.tokenizer.token_id(t) for t in bpe.SPECIAL] == [0, 1, 2]
    assert ground.tokenizer.eos_ids == ground.template.stop_ids == frozenset([2])


def test_digits_stand_alone(ground: Ground) -> None:
    pieces = [ground.tokenizer.token_text(i) for i in ground.tokenizer.encode("In 2024, 1,250 euros.")]
    assert [p for p in pieces if any(c.isdigit() for c in p)] == list("20241250")


@pytest.mark.parametrize("name", ["Zorvex", "Anna Breclaff", "KX-1234"])
def test_a_name_is_the_same_tokens_wherever_it_stands(ground: Ground, name: str) -> None:
    encode = ground.tokenizer.encode
    alone = encode(name)
    for before in ("The office of ", '{"name": "', "line\n", "("):
        assert encode(before + name)[-len(alone) :] == alone


def test_training_it_twice_gives_the_same_tokenizer(ground: Ground) -> None:
    again = bpe.train(ground.corpus, seed=1, vocabulary=600, chats=300)
    assert json.loads(again.to_str()) == json.loads((ground.base / "tokenizer.json").read_text())


def test_transformers_reads_it_to_the_same_chat_and_the_same_ids(ground: Ground) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        other = AutoTokenizer.from_pretrained(ground.base)
        plain = [{"role": m.role, "content": m.text} for m in CHAT]
        rendered = other.apply_chat_template(plain, tokenize=False)
        asked = other.apply_chat_template(plain[:2], tokenize=False, add_generation_prompt=True)
    assert rendered == ground.template.render(CHAT, ask=False)
    assert asked == ground.template.render(CHAT[:2], ask=True)
    assert other(asked, add_special_tokens=False)["input_ids"] == ground.template.prompt(CHAT[:2])


def test_only_replies_and_their_end_are_trained(ground: Ground) -> None:
    ids, trained = ground.template.example(CHAT)
    kept = [i for i, t in zip(ids, trained, strict=True) if t]
    assert ground.tokenizer.decode(kept) == "$4,120" and kept[-1] == 2
